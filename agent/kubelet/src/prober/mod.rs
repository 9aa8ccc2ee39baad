//! Probes of running containers.
//!
//! ```text
//! pod worker ─► ProbeManager::ensure(pod) ─► one task per (pod, container, probe)
//!                                             │  attempt ─► thresholds ─► ProbeResults ─► wakes the pod worker
//!                                             └─ waits for a new container after a failure that kills it
//! ```
//!
//! The result of a container that was probed before the agent restarted is taken from the record on
//! disk: a ready container stays ready until its probe says otherwise.

pub mod action;
mod grpc;
pub mod results;
mod worker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use orlop_runtime::RuntimeClient;
use tokio_util::sync::CancellationToken;

use crate::events::Recorder;
use crate::pleg::PodCache;
use crate::pod::{PodExt, is_sidecar};
use results::{ProbeKind, ProbeResults};

type Key = (String, String, ProbeKind);

/// Starts and stops the tasks.
pub struct ProbeManager {
    pub(crate) runtime: RuntimeClient,
    pub(crate) cache: Arc<PodCache>,
    pub(crate) results: Arc<ProbeResults>,
    pub(crate) events: Recorder,
    pub(crate) host_ips: Vec<String>,
    /// Called when a result changed, with the pod's UID.
    pub(crate) wake: Arc<dyn Fn(&str) + Send + Sync>,
    tasks: Mutex<HashMap<Key, CancellationToken>>,
    shutdown: CancellationToken,
}

impl ProbeManager {
    #[must_use]
    pub fn new(
        runtime: RuntimeClient,
        cache: Arc<PodCache>,
        results: Arc<ProbeResults>,
        events: Recorder,
        host_ips: Vec<String>,
        wake: Arc<dyn Fn(&str) + Send + Sync>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { runtime, cache, results, events, host_ips, wake, tasks: Mutex::default(), shutdown }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, CancellationToken>> {
        self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Every probe of the pod has its task.
    pub fn ensure(self: &Arc<Self>, pod: &Arc<Pod>) {
        let sidecars = pod.init_containers().iter().filter(|c| is_sidecar(c));
        for container in pod.containers().iter().chain(sidecars) {
            for (kind, probe) in probes(container) {
                let key = (pod.uid_str().to_owned(), container.name.clone(), kind);
                let mut tasks = self.lock();
                if tasks.contains_key(&key) {
                    continue;
                }
                let stop = self.shutdown.child_token();
                tasks.insert(key, stop.clone());
                drop(tasks);
                let worker = worker::Worker::new(Arc::clone(self), Arc::clone(pod), container.clone(), kind, probe);
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = worker.run() => {}
                    }
                });
            }
        }
    }

    /// While a pod ends, liveness and startup probes stop and readiness goes on.
    pub fn stop_liveness(&self, uid: &str) {
        self.stop(|(of, _, kind)| of == uid && *kind != ProbeKind::Readiness);
    }

    /// The pod is over.
    pub fn remove(&self, uid: &str) {
        self.stop(|(of, _, _)| of == uid);
    }

    fn stop(&self, which: impl Fn(&Key) -> bool) {
        self.lock().retain(|key, stop| {
            let ends = which(key);
            if ends {
                stop.cancel();
            }
            !ends
        });
    }
}

fn probes(container: &Container) -> Vec<(ProbeKind, Probe)> {
    [
        (ProbeKind::Startup, &container.startup_probe),
        (ProbeKind::Readiness, &container.readiness_probe),
        (ProbeKind::Liveness, &container.liveness_probe),
    ]
    .into_iter()
    .filter_map(|(kind, probe)| Some((kind, probe.clone()?)))
    .collect()
}
