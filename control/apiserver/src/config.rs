//! What [`crate::ApiServer::start`] needs, and why a start can fail.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnetwork::IpNetwork;
use prometheus_client::registry::Registry;

use crate::authn::Clock;

/// The metrics registry of the process, shared by every part that counts.
pub type SharedRegistry = Arc<Mutex<Registry>>;

/// Front proxy trust, upstream `--requestheader-client-ca-file` and `--requestheader-allowed-names`.
#[derive(Clone, Debug)]
pub struct RequestHeaderOptions {
    pub ca_pem: String,
    /// Empty allows every name that the CA signed.
    pub allowed_names: Vec<String>,
}

/// How the server reaches kubelets, upstream `--kubelet-client-certificate` and its relatives.
#[derive(Clone, Debug)]
pub struct KubeletClientOptions {
    pub cert_pem: String,
    pub key_pem: String,
    /// Verifies the kubelets' serving certificates.
    pub ca_pem: String,
}

/// Service account tokens, upstream `--service-account-*` and `--api-audiences`.
#[derive(Clone, Debug)]
pub struct ServiceAccountOptions {
    pub issuer: String,
    /// The issuer where empty.
    pub api_audiences: Vec<String>,
    pub signing_key_pem: String,
    pub verification_keys_pem: Vec<String>,
}

/// Bounds on what clients may take. All have upstream's defaults where upstream has the limit.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open TCP connections; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Bytes of one request body, 413 above.
    pub max_body_bytes: usize,
    /// Bytes of one request's header.
    pub max_header_bytes: usize,
    pub header_read_timeout: Duration,
    /// For everything but watches, logs and streams.
    pub request_timeout: Duration,
    /// `--max-requests-inflight`: non-mutating requests, 429 above.
    pub max_readonly_in_flight: usize,
    /// `--max-mutating-requests-inflight`.
    pub max_mutating_in_flight: usize,
    /// Open watches, logs, exec sessions and proxied streams together.
    pub max_long_running: usize,
    /// How long requests in flight may go on once shutdown began.
    pub drain: Duration,
    /// A watch without `timeoutSeconds` ends at random between this and twice this (`--min-request-timeout`).
    pub min_watch: Duration,
    /// Events of one resource kept for resuming watches.
    pub watch_ring_events: usize,
    /// Bytes of those events.
    pub watch_ring_bytes: usize,
    /// History older than one to two of these is forgotten (`--etcd-compaction-interval`); zero keeps all.
    pub compaction_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 2000,
            max_body_bytes: 3 << 20,
            max_header_bytes: 64 << 10,
            header_read_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_mins(1),
            max_readonly_in_flight: 400,
            max_mutating_in_flight: 200,
            max_long_running: 4000,
            drain: Duration::from_secs(3),
            min_watch: Duration::from_mins(30),
            watch_ring_events: 2048,
            watch_ring_bytes: 1 << 20,
            compaction_interval: Duration::from_mins(5),
        }
    }
}

#[derive(Clone)]
pub struct ApiServerConfig {
    /// `--bind-address` and `--secure-port`; port 0 lets the kernel choose.
    pub bind: SocketAddr,
    /// Where clients reach this server; becomes the endpoint of `default/kubernetes`.
    pub advertise_address: IpAddr,
    /// PEM chain, leaf first.
    pub serving_cert_pem: String,
    pub serving_key_pem: String,
    pub client_ca_pem: String,
    pub request_header: Option<RequestHeaderOptions>,
    /// Without it logs, exec and the node proxy answer 503.
    pub kubelet_client: Option<KubeletClientOptions>,
    pub service_account: ServiceAccountOptions,
    /// `--service-cluster-ip-range`, the first is the primary.
    pub service_cidrs: Vec<IpNetwork>,
    /// `--service-node-port-range`, inclusive.
    pub node_ports: (u16, u16),
    /// `--anonymous-auth`.
    pub anonymous_auth: bool,
    /// `--event-ttl`.
    pub event_ttl: Duration,
    pub limits: Limits,
    pub metrics: SharedRegistry,
    /// Wall-clock time for timestamps and certificate validity.
    pub clock: Clock,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "cannot listen on {address}: the port is taken by another process; stop it, or choose another one with --secure-port"
    )]
    PortTaken { address: SocketAddr },
    #[error("cannot listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("{what} is unusable: {detail}")]
    Pki { what: &'static str, detail: String },
    #[error("service account keys are unusable")]
    ServiceAccountKeys(#[source] crate::authn::tokens::TokenError),
    #[error("cannot load objects from the store")]
    Store(#[source] orlop_store::StoreError),
    #[error("cannot write the objects that every cluster holds: {0}")]
    Bootstrap(orlop_api::status::Status),
    #[error("shut down while starting")]
    ShutDown,
}
