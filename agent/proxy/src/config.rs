//! What the proxy is told.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnetwork::IpNetwork;
use prometheus_client::registry::Registry;
use serde_json::Value;

/// Configuration of [`crate::Proxy`], with upstream's defaults in [`ProxyConfig::new`].
#[derive(Clone)]
pub struct ProxyConfig {
    /// Name of this node, as endpoints name it.
    pub node_name: String,
    /// Addresses of this node, the primary one of each family first.
    pub node_ips: Vec<IpAddr>,
    /// Networks of Pods.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// `nodePortAddresses`.
    pub node_port_addresses: NodePortAddresses,
    /// NodePorts answer on 127.0.0.1 and ::1 for the host itself (`iptables.localhostNodePorts` upstream).
    pub localhost_node_ports: bool,
    /// `healthzBindAddress`; `None` for no server.
    pub healthz_bind_address: Option<SocketAddr>,
    /// `metricsBindAddress`; `None` for no server.
    pub metrics_bind_address: Option<SocketAddr>,
    /// How often everything is read back from the kernel and compared.
    pub sync_period: Duration,
    /// Where metrics go, and what `/metrics` shows.
    pub registry: Arc<Mutex<Registry>>,
    /// The `KubeProxyConfiguration` in effect, for `/configz`.
    pub configuration: Value,
}

/// Which addresses of the node NodePorts answer at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// `primary`: the node's own addresses only.
    Primary,
    /// Those of the node's interfaces that are in one of these.
    Networks(Vec<IpNetwork>),
}

impl ProxyConfig {
    /// Upstream's defaults.
    pub fn new(node_name: impl Into<String>, node_ips: Vec<IpAddr>) -> Self {
        Self {
            node_name: node_name.into(),
            node_ips,
            cluster_cidrs: Vec::new(),
            node_port_addresses: NodePortAddresses::Primary,
            localhost_node_ports: true,
            healthz_bind_address: Some(SocketAddr::from(([0, 0, 0, 0], 10_256))),
            metrics_bind_address: Some(SocketAddr::from(([127, 0, 0, 1], 10_249))),
            sync_period: Duration::from_secs(60),
            registry: Arc::default(),
            configuration: Value::Null,
        }
    }
}
