//! replicaset-controller: keeps as many Pods as a ReplicaSet asks for.
//!
//! ```text
//! ReplicaSet, Pod changes ─► queue ─► claim Pods ─► plan ─► create / delete ─► status
//! ```

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use crate::context::{Context, Requeue};
use crate::error::{Result, api, found, is_conflict, is_not_found};
use crate::events::Recorder;
use crate::expectations::Expectations;
use crate::informer::{Change, Key};
use crate::ownership::{claim_all, controller_of, controller_reference, is_controlled_by, matches, selector};
use crate::queue::Queue;
use crate::{pod_control, pods};
use plan::Plan;

const WORKERS: usize = 5;

struct Controller {
    context: Arc<Context>,
    recorder: Recorder,
    written: Expectations,
}

pub(crate) fn start(context: &Arc<Context>) {
    let queue = Arc::new(Queue::new());
    let informers = &context.informers;
    let sets = Arc::clone(&queue);
    informers.replica_sets.on_change(move |change| {
        if let Some(set) = change.latest() {
            sets.add(Key::of(&**set));
        }
    });
    let (of_pods, cache) = (Arc::clone(&queue), Arc::clone(&informers.replica_sets));
    informers.pods.on_change(move |change| {
        for key in owners_of(change, |namespace| cache.list_in(namespace)) {
            of_pods.add(key);
        }
    });
    let controller = Arc::new(Controller {
        context: Arc::clone(context),
        recorder: context.recorders.component("replicaset-controller"),
        written: Expectations::default(),
    });
    let (sets, pods) = (Arc::clone(&informers.replica_sets), Arc::clone(&informers.pods));
    let ready = async move {
        sets.synced().await;
        pods.synced().await;
    };
    context.spawn_workers("replicaset-controller", WORKERS, &queue, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

/// The sets that a Pod's change may matter to: its controllers before and after, or, where it has
/// none, those whose selector fits.
fn owners_of(change: &Change<'_, Pod>, sets_in: impl Fn(&str) -> Vec<Arc<ReplicaSet>>) -> Vec<Key> {
    let mut keys = Vec::new();
    for pod in change.both() {
        let namespace = pod.namespace().unwrap_or_default();
        match controller_of(&**pod) {
            Some(owner) if owner.kind == "ReplicaSet" => keys.push(Key::new(namespace, &owner.name)),
            Some(_) => {}
            None => {
                for set in sets_in(&namespace) {
                    let Some(spec) = &set.spec else { continue };
                    let Ok(selector) = selector(&set.name_any(), &spec.selector) else { continue };
                    if matches(&selector, pod.metadata.labels.as_ref()) {
                        keys.push(Key::of(&*set));
                    }
                }
            }
        }
    }
    keys.dedup();
    keys
}

impl Controller {
    async fn sync(&self, key: &Key) -> Result<Requeue> {
        let informers = &self.context.informers;
        let Some(set) = informers.replica_sets.get(key) else {
            self.written.forget(key);
            return Ok(None);
        };
        let Some(spec) = &set.spec else { return Ok(None) };
        self.written.settled(key, &informers.pods).await?;
        let selector = selector(key, &spec.selector)?;
        let sets: Api<ReplicaSet> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let still_there = async {
            let live = found(sets.get(&key.name).await).map_err(api("reading", key))?;
            Ok(live.is_some_and(|l| l.uid() == set.uid() && l.metadata.deletion_timestamp.is_none()))
        };
        let candidates = informers.pods.list_in(&key.namespace);
        let uid = set.uid().unwrap_or_default();
        let terminating = candidates
            .iter()
            .filter(|p| is_controlled_by(&***p, &uid))
            .filter(|p| p.metadata.deletion_timestamp.is_some() && !pods::is_terminated(p))
            .count();
        let active: Vec<Arc<Pod>> = candidates.into_iter().filter(|p| pods::is_active(p)).collect();
        let mine = claim_all(&self.context.client, &*set, &selector, active, still_there).await?;

        let now = self.context.now();
        let mut outcome = Ok(());
        let mut failure = None;
        if set.metadata.deletion_timestamp.is_none() {
            let want = spec.replicas.unwrap_or(1);
            outcome = self.manage(key, &set, want, &mine).await;
            if let Err(error) = &outcome {
                let missing = usize::try_from(want).unwrap_or(0) > mine.len();
                let reason = if missing { "FailedCreate" } else { "FailedDelete" };
                failure = Some((reason, crate::error::chain(error)));
            }
        }
        let status = plan::status(&set, &mine, terminating, failure, now);
        self.write_status(&sets, &set, status).await?;
        outcome?;
        let min_ready_s = spec.min_ready_seconds.unwrap_or(0);
        let next = mine.iter().filter_map(|pod| pods::available_in_s(pod, min_ready_s, now)).min();
        Ok(next.map(Duration::from_secs))
    }

    async fn manage(&self, key: &Key, set: &ReplicaSet, want: i32, mine: &[Arc<Pod>]) -> Result<()> {
        let related = self.related_pods(set);
        match plan::plan(want, mine, &related, self.context.now()) {
            Plan::Nothing => Ok(()),
            Plan::Create(count) => self.create(key, set, count).await,
            Plan::Delete(doomed) => self.delete(key, set, &doomed).await,
        }
    }

    async fn create(&self, key: &Key, set: &ReplicaSet, count: usize) -> Result<()> {
        let Some(template) = set.spec.as_ref().and_then(|s| s.template.as_ref()) else {
            return Ok(());
        };
        let owner = controller_reference(set);
        let pod = pod_control::from_template(template, &key.name, &key.namespace, owner);
        let (made, failure) =
            pod_control::slow_start(count, |_| pod_control::create(&self.context.client, &self.recorder, set, &pod))
                .await;
        for pod in made.into_iter().flatten() {
            self.written.wrote(key, &self.context.informers.pods, &pod);
        }
        failure.map_or(Ok(()), Err)
    }

    async fn delete(&self, key: &Key, set: &ReplicaSet, doomed: &[Arc<Pod>]) -> Result<()> {
        let calls = doomed.iter().map(|pod| pod_control::delete(&self.context.client, &self.recorder, set, pod));
        let mut failure = None;
        for (pod, result) in doomed.iter().zip(join_all(calls).await) {
            match result {
                Ok(_) => self.written.deleted(key, &self.context.informers.pods, &**pod),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Active Pods of all sets that share this set's controller.
    fn related_pods(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let namespace = set.namespace().unwrap_or_default();
        let mut uids = vec![set.uid().unwrap_or_default()];
        if let Some(owner) = controller_of(set) {
            let siblings = self.context.informers.replica_sets.list_in(&namespace);
            uids.extend(siblings.iter().filter(|s| is_controlled_by(&***s, &owner.uid)).filter_map(|s| s.uid()));
        }
        let mut pods = self.context.informers.pods.list_in(&namespace);
        pods.retain(|pod| pods::is_active(pod) && controller_of(&**pod).is_some_and(|owner| uids.contains(&owner.uid)));
        pods
    }

    async fn write_status(&self, sets: &Api<ReplicaSet>, set: &ReplicaSet, status: ReplicaSetStatus) -> Result<()> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let name = set.name_any();
        let mut changed = ReplicaSet { status: Some(status), ..set.clone() };
        let mut result = sets.replace_status(&name, &PostParams::default(), &changed).await;
        if result.as_ref().is_err_and(is_conflict) {
            // Somebody scaled it meanwhile; the status we saw is still ours to tell.
            let live = found(sets.get(&name).await).map_err(api("reading", &name))?;
            let Some(live) = live.filter(|live| live.uid() == set.uid()) else { return Ok(()) };
            changed = ReplicaSet { status: changed.status, ..live };
            result = sets.replace_status(&name, &PostParams::default(), &changed).await;
        }
        match result {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(api("writing the status of", &name)(error)),
        }
    }
}
