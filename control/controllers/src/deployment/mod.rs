//! deployment-controller: rolls a Deployment's template out over ReplicaSets.
//!
//! ```text
//! Deployment, ReplicaSet, Pod changes ─► queue ─► claim sets ─► new set ─► plan ─► scale ─► status
//! ```

mod plan;
mod revision;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};

use crate::context::{Context, Requeue};
use crate::error::{Result, api, found};
use crate::events::Recorder;
use crate::expectations::Expectations;
use crate::informer::Key;
use crate::ownership::{claim_all, controller_of, matches, selector};
use crate::queue::Queue;

const WORKERS: usize = 5;

pub(super) struct Controller {
    context: Arc<Context>,
    recorder: Recorder,
    written: Expectations,
}

pub(crate) fn start(context: &Arc<Context>) {
    let queue = Arc::new(Queue::new());
    let informers = &context.informers;
    let deployments = Arc::clone(&queue);
    informers.deployments.on_change(move |change| {
        if let Some(deployment) = change.latest() {
            deployments.add(Key::of(&**deployment));
        }
    });
    let (of_sets, cache) = (Arc::clone(&queue), Arc::clone(&informers.deployments));
    informers.replica_sets.on_change(move |change| {
        for set in change.both() {
            let namespace = set.namespace().unwrap_or_default();
            match controller_of(&**set) {
                Some(owner) if owner.kind == "Deployment" => {
                    of_sets.add(Key::new(namespace, &owner.name));
                }
                Some(_) => {}
                None => {
                    for deployment in cache.list_in(&namespace) {
                        let Some(spec) = &deployment.spec else { continue };
                        let Ok(selector) = selector(&"deployment", &spec.selector) else { continue };
                        if matches(&selector, set.metadata.labels.as_ref()) {
                            of_sets.add(Key::of(&*deployment));
                        }
                    }
                }
            }
        }
    });
    // Recreate waits for the last Pod of the old sets, which only the Pods tell.
    let (of_pods, sets) = (Arc::clone(&queue), Arc::clone(&informers.replica_sets));
    informers.pods.on_change(move |change| {
        let Some(pod) = change.latest() else { return };
        let gone = change.new.is_none() || crate::pods::is_terminated(pod);
        let Some(owner) = controller_of(&**pod).filter(|o| gone && o.kind == "ReplicaSet") else { return };
        let namespace = pod.namespace().unwrap_or_default();
        let set = sets.get(&Key::new(&namespace, &owner.name));
        if let Some(owner) = set.as_deref().and_then(controller_of) {
            of_pods.add(Key::new(namespace, &owner.name));
        }
    });
    let controller = Arc::new(Controller {
        context: Arc::clone(context),
        recorder: context.recorders.component("deployment-controller"),
        written: Expectations::default(),
    });
    let informers =
        (Arc::clone(&informers.deployments), Arc::clone(&informers.replica_sets), Arc::clone(&informers.pods));
    let ready = async move {
        informers.0.synced().await;
        informers.1.synced().await;
        informers.2.synced().await;
    };
    context.spawn_workers("deployment-controller", WORKERS, &queue, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

impl Controller {
    async fn sync(&self, key: &Key) -> Result<Requeue> {
        let informers = &self.context.informers;
        let Some(deployment) = informers.deployments.get(key) else {
            self.written.forget(key);
            return Ok(None);
        };
        let Some(spec) = &deployment.spec else { return Ok(None) };
        let everything = spec.selector.match_labels.as_ref().is_none_or(|l| l.is_empty())
            && spec.selector.match_expressions.as_ref().is_none_or(|e| e.is_empty());
        if everything {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.warning(&*deployment, "SelectingAll", message);
            return Ok(None);
        }
        self.written.settled(key, &informers.replica_sets).await?;
        let sets = self.claim_sets(key, &deployment).await?;
        let rollout = rollout::Rollout {
            context: &self.context,
            recorder: &self.recorder,
            written: &self.written,
            key,
            deployment: &deployment,
        };
        rollout.sync(sets).await
    }

    async fn claim_sets(&self, key: &Key, deployment: &Arc<Deployment>) -> Result<Vec<Arc<ReplicaSet>>> {
        let Some(spec) = &deployment.spec else { return Ok(Vec::new()) };
        let selector = selector(key, &spec.selector)?;
        let deployments: Api<Deployment> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let still_there = async {
            let live = found(deployments.get(&key.name).await).map_err(api("reading", key))?;
            Ok(live.is_some_and(|l| l.uid() == deployment.uid() && l.metadata.deletion_timestamp.is_none()))
        };
        let candidates = self.context.informers.replica_sets.list_in(&key.namespace);
        claim_all(&self.context.client, &**deployment, &selector, candidates, still_there).await
    }
}

/// Pods of `sets` that have not finished.
fn running_pods_of(sets: &[Arc<ReplicaSet>], pods: &[Arc<Pod>]) -> usize {
    pods.iter()
        .filter(|pod| !crate::pods::is_terminated(pod))
        .filter(|pod| {
            controller_of(&***pod).is_some_and(|owner| sets.iter().any(|s| s.uid().as_ref() == Some(&owner.uid)))
        })
        .count()
}
