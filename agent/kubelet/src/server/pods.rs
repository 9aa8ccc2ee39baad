//! What the HTTP server asks of the rest of the kubelet: a seam drawn by its consumer.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

/// The pods of this node as the kubelet knows them, statuses filled in.
pub trait PodProvider: Send + Sync + 'static {
    /// All pods bound to this node, static ones too.
    fn pods(&self) -> Vec<Arc<Pod>>;
    /// One pod by namespace and name.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;
    /// CRI id of the container (any kind), or of its previous run.
    fn container_id(&self, pod_uid: &str, container: &str, previous: bool) -> Option<String>;
    /// CRI id of the pod's sandbox.
    fn sandbox_id(&self, pod_uid: &str) -> Option<String>;
    /// The log file of the container's current or previous run, as the runtime writes it.
    fn log_path(&self, pod_uid: &str, container: &str, previous: bool) -> Option<PathBuf>;
    /// Text in Prometheus format for `/metrics`.
    fn metrics(&self) -> String;
    /// True while the sync loop turns (`/healthz`).
    fn healthy(&self) -> Result<(), String>;
}

/// What a client wants of a container's streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamRequest {
    pub container_id: String,
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// The runtime's streaming calls: each answers the URL of the runtime's streaming server.
#[async_trait::async_trait]
pub trait StreamingRuntime: Send + Sync + 'static {
    async fn exec_url(&self, request: StreamRequest) -> Result<String, String>;
    async fn attach_url(&self, request: StreamRequest) -> Result<String, String>;
    async fn port_forward_url(&self, sandbox_id: &str, ports: Vec<i32>) -> Result<String, String>;
    /// Runs a command to its end: exit code and output (both streams).
    async fn exec_sync(
        &self,
        container_id: &str,
        command: Vec<String>,
        timeout: std::time::Duration,
    ) -> Result<(i32, Vec<u8>), String>;
}
