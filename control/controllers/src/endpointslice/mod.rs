//! endpointslice-controller: the addresses behind every Service that has a selector.
//!
//! ```text
//! Service, Pod, Node, EndpointSlice changes ─► queue of Services ─► plan ─► create / update / delete
//! ```

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};

use crate::context::{Context, Requeue};
use crate::error::{ControllerError, Result, api, chain, is_namespace_terminating, is_not_found, message};
use crate::events::Recorder;
use crate::expectations::Expectations;
use crate::informer::{Informer, Key};
use crate::queue::Queue;
pub(crate) use plan::target_port;
use plan::{MANAGED_BY, MANAGER, Observed, Plan, SERVICE_NAME};

const WORKERS: usize = 5;
const ZONE: &str = "topology.kubernetes.io/zone";

struct Controller {
    context: Arc<Context>,
    recorder: Recorder,
    written: Expectations,
}

/// The selector of a Service whose endpoints are computed.
pub(crate) fn selector_of(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    let external = spec.type_.as_deref() == Some("ExternalName");
    spec.selector.as_ref().filter(|s| !s.is_empty() && !external)
}

pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    selector_of(service).is_some_and(|s| s.iter().all(|(k, v)| pod.labels().get(k) == Some(v)))
}

/// Adds the Services that a Pod's change may matter to.
pub(crate) fn on_pod_change(pods: &Informer<Pod>, services: &Arc<Informer<Service>>, queue: &Arc<Queue<Key>>) {
    let (services, queue) = (Arc::clone(services), Arc::clone(queue));
    pods.on_change(move |change| {
        let Some(latest) = change.latest() else { return };
        for service in services.list_in(&latest.namespace().unwrap_or_default()) {
            if change.both().any(|pod| selects(&service, pod)) {
                queue.add(Key::of(&*service));
            }
        }
    });
}

pub(crate) fn start(context: &Arc<Context>) {
    let queue = Arc::new(Queue::new());
    let informers = &context.informers;
    let services = Arc::clone(&queue);
    informers.services.on_change(move |change| {
        if let Some(service) = change.latest() {
            services.add(Key::of(&**service));
        }
    });
    on_pod_change(&informers.pods, &informers.services, &queue);
    let slices = Arc::clone(&queue);
    informers.endpoint_slices.on_change(move |change| {
        for slice in change.both() {
            if slice.labels().get(MANAGED_BY).is_some_and(|m| m == MANAGER)
                && let Some(service) = slice.labels().get(SERVICE_NAME)
            {
                slices.add(Key::new(slice.namespace().unwrap_or_default(), service));
            }
        }
    });
    let (of_nodes, cache) = (Arc::clone(&queue), Arc::clone(&informers.services));
    informers.nodes.on_change(move |change| {
        // Endpoints carry their node's zone.
        let zone =
            |node: Option<&Arc<k8s_openapi::api::core::v1::Node>>| node.and_then(|n| n.labels().get(ZONE).cloned());
        if zone(change.old) != zone(change.new) {
            for service in cache.list().iter().filter(|s| selector_of(s).is_some()) {
                of_nodes.add(Key::of(&**service));
            }
        }
    });
    let controller = Arc::new(Controller {
        context: Arc::clone(context),
        recorder: context.recorders.component("endpoint-slice-controller"),
        written: Expectations::default(),
    });
    let synced = Arc::clone(context);
    let ready = async move {
        synced.informers.services.synced().await;
        synced.informers.pods.synced().await;
        synced.informers.nodes.synced().await;
        synced.informers.endpoint_slices.synced().await;
    };
    context.spawn_workers("endpointslice-controller", WORKERS, &queue, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

impl Controller {
    async fn sync(&self, key: &Key) -> Result<Requeue> {
        let informers = &self.context.informers;
        let Some(service) = informers.services.get(key) else {
            // Its slices go with it: they are owned.
            self.written.forget(key);
            return Ok(None);
        };
        if selector_of(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        self.written.settled(key, &informers.endpoint_slices).await?;
        let pods = informers.pods.list_in(&key.namespace);
        let slices = informers.endpoint_slices.list_in(&key.namespace);
        let plan = plan::plan(&Observed {
            service: &service,
            pods: pods.iter().filter(|pod| selects(&service, pod)).map(|pod| &**pod).collect(),
            node: &|name| informers.nodes.get(&Key::new("", name)),
            slices: slices
                .iter()
                .filter(|slice| {
                    slice.labels().get(SERVICE_NAME) == Some(&key.name)
                        && slice.labels().get(MANAGED_BY).is_some_and(|m| m == MANAGER)
                        && slice.metadata.deletion_timestamp.is_none()
                })
                .map(|slice| &**slice)
                .collect(),
        });
        let result = self.apply(key, plan, &slices).await;
        if let Err(error) = &result {
            let text = format!("Error updating Endpoint Slices for Service {key}: {}", told(error));
            self.recorder.warning(&*service, "FailedToUpdateEndpointSlices", text);
        }
        result.map(|()| None)
    }

    async fn apply(&self, key: &Key, plan: Plan, known: &[Arc<EndpointSlice>]) -> Result<()> {
        let cache = &self.context.informers.endpoint_slices;
        let slices: Api<EndpointSlice> = Api::namespaced(self.context.client.clone(), &key.namespace);
        for slice in plan.create {
            match slices.create(&PostParams::default(), &slice).await {
                Ok(made) => self.written.wrote(key, cache, &made),
                Err(error) if is_namespace_terminating(&error) => return Ok(()),
                Err(error) => return Err(api("creating an endpoint slice of", key)(error)),
            }
        }
        for slice in plan.update {
            let name = slice.name_any();
            let changed = slices
                .replace(&name, &PostParams::default(), &slice)
                .await
                .map_err(api("updating endpoint slice", &name))?;
            self.written.wrote(key, cache, &changed);
        }
        for name in plan.delete {
            match slices.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {
                    if let Some(slice) = known.iter().find(|slice| slice.name_any() == name) {
                        self.written.deleted(key, cache, &**slice);
                    }
                }
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(api("deleting endpoint slice", &name)(error)),
            }
        }
        Ok(())
    }
}

fn told(error: &ControllerError) -> String {
    match error {
        ControllerError::Api { source, .. } => message(source),
        other => chain(other),
    }
}
