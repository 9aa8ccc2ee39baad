//! The Node object: registration, addresses, capacity, conditions, images.
//!
//! ```text
//! register (POST, or adopt what is there) ─► report ─► patch status on change, or every report_every
//!                                              ▲  every 100 ms until first Ready, then every update_every,
//!                                              └─ and whenever `wake` is notified
//! ```

mod registration;
mod runtime;
mod status;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeStatus, Taint};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use orlop_host::machine::MachineIdentity;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::container_manager::ContainerManager;
pub use registration::default_labels;
pub use runtime::{ImageReport, NodeRuntime, RuntimeHandlerReport, RuntimeReport};

/// Until the node is first Ready, its state is looked at this often; upstream's fast path.
const FAST_UPDATE: Duration = Duration::from_millis(100);
/// Pause after an update that failed in every try.
const FAILED_UPDATE: Duration = Duration::from_secs(2);
/// Tries of one update; upstream's `nodeStatusUpdateRetry`.
const UPDATE_RETRIES: usize = 5;

/// Writes an event about the node: warning or not, reason, message.
pub type NodeEvents = Arc<dyn Fn(bool, &str, String) + Send + Sync>;

/// Everything that the Node object is made from.
#[derive(Clone)]
pub struct NodeStatusContext {
    pub client: kube::Client,
    pub node_name: String,
    pub hostname: String,
    /// `--node-ip`; empty means the source address of the default route.
    pub node_ips: Vec<IpAddr>,
    /// `--node-labels`, beside the default ones.
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub register_node: bool,
    /// Port of the kubelet's own server.
    pub kubelet_port: u16,
    pub kubelet_version: String,
    pub provider_id: Option<String>,
    /// `nodeStatusUpdateFrequency`.
    pub update_every: Duration,
    /// `nodeStatusReportFrequency`.
    pub report_every: Duration,
    /// `nodeStatusMaxImages`.
    pub max_images: usize,
    pub runtime: Arc<dyn NodeRuntime>,
    pub containers: Arc<ContainerManager>,
    /// Something outside that makes the node NotReady (PLEG stuck, shutdown): its message.
    pub unhealthy: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// Woken when the runtime's or the network's state may have changed.
    pub wake: Arc<tokio::sync::Notify>,
    pub events: NodeEvents,
}

/// Registers the node and keeps its status, until `shutdown`.
pub async fn run(context: NodeStatusContext, shutdown: CancellationToken) {
    let reporter = Reporter::new(context).await;
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = reporter.run() => {}
    }
}

/// What the API server is known to hold.
#[derive(Default)]
struct Reported {
    status: Option<NodeStatus>,
    at: Option<Instant>,
    was_ready: bool,
}

struct Reporter {
    context: NodeStatusContext,
    api: Api<Node>,
    identity: MachineIdentity,
    node_ips: Vec<IpAddr>,
}

impl Reporter {
    async fn new(context: NodeStatusContext) -> Self {
        let mut node_ips = context.node_ips.clone();
        if node_ips.is_empty() {
            match orlop_host::netlink::node_ip().await {
                Ok(ip) => node_ips.push(ip),
                Err(error) => warn!(%error, "the node has no address to report; set --node-ip"),
            }
        }
        let api = Api::all(context.client.clone());
        Self { api, identity: orlop_host::machine::identity(), node_ips, context }
    }

    async fn run(&self) {
        let mut reported = Reported::default();
        let first = self.compute(None).await;
        if let Some(node) = registration::register(&self.context, &self.api, &first).await {
            reported.status = node.status;
        }
        self.announce_start(reported.status.as_ref());
        loop {
            let sent = self.update(&mut reported).await;
            let pause = match (sent, reported.was_ready) {
                (false, _) => FAILED_UPDATE.min(self.context.update_every),
                (true, true) => self.context.update_every,
                (true, false) => FAST_UPDATE,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.context.wake.notified() => {}
            }
        }
    }

    async fn compute(&self, old: Option<&NodeStatus>) -> NodeStatus {
        let context = &self.context;
        let (report, images) = tokio::join!(context.runtime.report(), context.runtime.images());
        let images = images.unwrap_or_else(|error| {
            debug!(error, "images are not to be had");
            Vec::new()
        });
        let facts = status::Facts {
            addresses: &self.node_ips,
            hostname: &context.hostname,
            capacity: context.containers.capacity(),
            allocatable: context.containers.allocatable(),
            identity: &self.identity,
            swap_bytes: context.containers.machine_capacity().swap_bytes,
            kubelet_version: &context.kubelet_version,
            kubelet_port: context.kubelet_port,
            runtime: report.as_ref().map_err(String::as_str),
            images: &images,
            max_images: context.max_images,
            unhealthy: (context.unhealthy)(),
            now: Timestamp::now(),
        };
        status::build(&facts, old)
    }

    /// Computes the status and sends it if it changed, or if it was last sent long ago. False if that did not work.
    async fn update(&self, reported: &mut Reported) -> bool {
        for attempt in 0..UPDATE_RETRIES {
            let new = self.compute(reported.status.as_ref()).await;
            let due = reported.at.is_none_or(|at| at.elapsed() >= self.context.report_every);
            let changed = reported.status.as_ref().is_none_or(|old| status::differs(old, &new));
            if !due && !changed {
                return true;
            }
            match self.send(reported.status.as_ref(), &new).await {
                Ok(accepted) => {
                    self.announce(reported, &new);
                    reported.status = Some(accepted);
                    reported.at = Some(Instant::now());
                    return true;
                }
                Err(error) => {
                    warn!(%error, attempt, "could not update the node's status");
                    if let Ok(node) = self.api.get(&self.context.node_name).await {
                        reported.status = node.status;
                    }
                }
            }
        }
        false
    }

    /// Sends the difference; what the server now holds of what we report.
    async fn send(&self, old: Option<&NodeStatus>, new: &NodeStatus) -> Result<NodeStatus, kube::Error> {
        let empty = NodeStatus::default();
        let patch = status::patch(old.unwrap_or(&empty), new);
        let params = PatchParams::default();
        let node = self.api.patch_status(&self.context.node_name, &params, &Patch::Strategic(patch)).await?;
        debug!(node = node.name_any(), "node status sent");
        Ok(new.clone())
    }

    /// Events of what this start found.
    fn announce_start(&self, existing: Option<&NodeStatus>) {
        let context = &self.context;
        let boot_id = &self.identity.boot_id;
        let before = existing.and_then(|s| s.node_info.as_ref()).map(|info| info.boot_id.as_str()).unwrap_or_default();
        if !before.is_empty() && before != boot_id {
            let message = format!("Node {} has been rebooted, boot id: {boot_id}", context.node_name);
            (context.events)(true, "Rebooted", message);
        }
        if context.containers.enforces_pods() {
            (context.events)(false, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods".to_owned());
        }
        if context.containers.hierarchies().version() == orlop_host::cgroup::CgroupVersion::V1 {
            let message = "cgroup v1 support is in maintenance mode, please migrate to cgroup v2";
            (context.events)(true, "CgroupV1", message.to_owned());
        }
    }

    /// Events of what changed for the world to see.
    fn announce(&self, reported: &mut Reported, new: &NodeStatus) {
        let ready = status::is_ready(new);
        let say = |reason: &str| {
            (self.context.events)(false, reason, format!("Node {} status is now: {reason}", self.context.node_name));
        };
        if reported.at.is_none() {
            for reason in ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"] {
                say(reason);
            }
        }
        let before = reported.status.as_ref().filter(|_| reported.at.is_some()).map(status::is_ready);
        match (before, ready) {
            (Some(true), true) | (Some(false) | None, false) => {}
            (_, true) => {
                info!(node = self.context.node_name, "node is Ready");
                say("NodeReady");
            }
            (Some(true), false) => say("NodeNotReady"),
        }
        reported.was_ready |= ready;
    }
}

#[cfg(test)]
mod tests;
