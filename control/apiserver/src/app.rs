//! Everything that requests share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use orlop_store::Store;
use rustls_pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::allocators::ServiceAllocator;
use crate::authn::Authenticator;
use crate::authn::tokens::TokenIssuer;
use crate::config::ApiServerConfig;
use crate::metrics::Metrics;
use crate::node_proxy::KubeletDialer;
use crate::reader::ObjectReader;
use crate::storage::Storages;
use crate::storage::continuation::Continuation;
use crate::strategy::event_leases::EventLeases;
use crate::{admission, authz};

pub(crate) struct App {
    pub(crate) config: ApiServerConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) storages: Arc<Storages>,
    pub(crate) reader: Arc<dyn ObjectReader>,
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Arc<authz::Chain>,
    pub(crate) admission: admission::Chain,
    pub(crate) tokens: Arc<TokenIssuer>,
    pub(crate) services: Arc<ServiceAllocator>,
    pub(crate) continuation: Continuation,
    pub(crate) event_leases: EventLeases,
    pub(crate) kubelets: Option<KubeletDialer>,
    pub(crate) metrics: Metrics,
    pub(crate) in_flight: InFlight,
    /// Bootstrap objects are written.
    pub(crate) bootstrapped: AtomicBool,
    pub(crate) local_addr: SocketAddr,
    pub(crate) shutdown: CancellationToken,
}

impl App {
    pub(crate) fn now(&self) -> jiff::Timestamp {
        (self.config.clock)()
    }
}

/// Who is on the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Leaf first, as the client showed them, not yet verified.
    pub(crate) certificates: Arc<Vec<CertificateDer<'static>>>,
}

/// Bounds on what runs at once.
pub(crate) struct InFlight {
    pub(crate) readonly: Arc<Semaphore>,
    pub(crate) mutating: Arc<Semaphore>,
    pub(crate) long_running: Arc<Semaphore>,
}

impl InFlight {
    pub(crate) fn new(limits: &crate::config::Limits) -> Self {
        Self {
            readonly: Arc::new(Semaphore::new(limits.max_readonly_in_flight)),
            mutating: Arc::new(Semaphore::new(limits.max_mutating_in_flight)),
            long_running: Arc::new(Semaphore::new(limits.max_long_running)),
        }
    }
}
