//! Makes the runtime hold what pods' specs say.
//!
//! ```text
//! actions.rs   (spec, observed) ─► what to do          pure
//! sync.rs      does it: sandbox, init, regular, ephemeral containers
//! kill.rs      stops containers in order, with hooks and grace; removes what is left
//! config.rs    CRI configuration of sandbox and container   pure (env.rs, dns.rs, security.rs, labels.rs)
//! types.rs     what the runtime says of a pod
//! ```

pub mod actions;
pub mod config;
pub mod dns;
pub mod env;
pub mod hooks;
mod kill;
pub mod labels;
pub mod security;
pub(crate) mod sync;
pub mod termination_message;
pub mod types;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orlop_runtime::RuntimeClient;

use crate::backoff::BackOff;
use crate::container_manager::ContainerManager;
use crate::events::Recorder;
use crate::images::ImageManager;
use crate::objects::ObjectManager;
use crate::pleg::PodCache;
use crate::prober::results::ProbeResults;
use crate::reasons::WaitingReason;
use crate::services::ServiceCache;

/// What the runtime manager works with.
pub struct RuntimeManager {
    pub runtime: RuntimeClient,
    /// `containerd`: the scheme of container ids in statuses.
    pub runtime_name: String,
    pub cache: Arc<PodCache>,
    pub images: ImageManager,
    pub containers: Arc<ContainerManager>,
    pub objects: Arc<ObjectManager>,
    pub services: Arc<ServiceCache>,
    pub events: Recorder,
    pub probes: Arc<ProbeResults>,
    /// Restarts of crashing containers; keys are `UID/NAME`.
    pub back_off: BackOff,
    pub node: NodeFacts,
}

/// Facts of the node that go into pods.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    pub node_name: String,
    pub host_ips: Vec<String>,
    pub root_dir: PathBuf,
    pub pod_logs_dir: PathBuf,
    pub seccomp_dir: PathBuf,
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    /// Empty: none.
    pub resolver_config: PathBuf,
    pub allocatable: BTreeMap<String, i64>,
}

/// Why a container did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    pub container: String,
    pub reason: WaitingReason,
    pub message: String,
}

/// What one sync came to.
#[derive(Clone, Debug, Default)]
pub struct SyncResult {
    /// Containers that were started in this sync.
    pub started: Vec<String>,
    pub errors: Vec<StartError>,
    /// Whatever concerns the pod as a whole.
    pub pod_error: Option<String>,
    /// When to try again at the latest.
    pub retry_after: Option<Duration>,
}

impl SyncResult {
    pub(crate) fn retry_in(&mut self, delay: Duration) {
        self.retry_after = Some(self.retry_after.map_or(delay, |have| have.min(delay)));
    }
}

#[cfg(test)]
#[path = "actions_tests.rs"]
mod actions_tests;
