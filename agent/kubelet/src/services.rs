//! Services of the cluster, for the environment of containers.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::pod::PodExt;

/// How long the first container waits for the first list.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// A mirror of all Services; empty and always synced in standalone mode.
pub struct ServiceCache {
    store: Option<Store<Service>>,
}

impl ServiceCache {
    /// Starts watching, if there is an API server.
    #[must_use]
    pub fn start(client: Option<Client>, shutdown: CancellationToken) -> Self {
        let Some(client) = client else { return Self { store: None } };
        let (store, writer) = reflector::store();
        let api: Api<Service> = Api::all(client);
        let stream = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
        tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    next = stream.next() => match next {
                        Some(Ok(_)) => {}
                        Some(Err(error)) => tracing::debug!(%error, "watch of services broke"),
                        None => return,
                    },
                }
            }
        });
        Self { store: Some(store) }
    }

    /// Services that the pod's containers learn of, as far as known now.
    #[must_use]
    pub fn current(&self, pod: &Pod) -> Option<Vec<Service>> {
        let Some(store) = &self.store else { return Some(Vec::new()) };
        let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
        let namespace = pod.namespace_str();
        let mut services: Vec<Arc<Service>> = store
            .state()
            .into_iter()
            .filter(|service| {
                let of = service.metadata.namespace.as_deref().unwrap_or_default();
                let name = service.metadata.name.as_deref().unwrap_or_default();
                (links && of == namespace) || (of == "default" && name == "kubernetes")
            })
            .collect();
        services.sort_by(|a, b| {
            let key = |s: &Service| (s.metadata.namespace.clone() != Some("default".into()), s.metadata.name.clone());
            key(a).cmp(&key(b))
        });
        Some(services.into_iter().map(|service| (*service).clone()).collect())
    }

    /// As [`Self::current`], but only after the first list; `None` if it does not come.
    pub async fn synced(&self, pod: &Pod) -> Option<Vec<Service>> {
        if let Some(store) = &self.store {
            tokio::time::timeout(SYNC_LIMIT, store.wait_until_ready()).await.ok()?.ok()?;
        }
        self.current(pod)
    }
}
