//! Services on this node.
//!
//! ```text
//! Service, EndpointSlice, Node ─► watch ─► tracker ─► compile ─► ProxyState ─► plan(desired, installed)
//!                                          (objects)  (pure)     (pure)        ─► Backend::apply
//! ```
//! [`Proxy::start`] runs one task that owns all of it ([`runner`](self)), and two small servers.

pub mod backend;
pub mod compile;
mod config;
pub mod explain;
mod health;
mod http;
mod metrics;
pub mod plan;
mod runner;
pub mod services;
pub mod slices;
pub mod state;
pub mod tracker;
mod watch;

#[cfg(test)]
mod runner_tests;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::{NodePortAddresses, ProxyConfig};

use crate::backend::{Backend, SyncError};
use crate::explain::{Explanation, Verification};
use crate::health::Health;
use crate::http::Served;
use crate::metrics::Metrics;
use crate::runner::{Query, Runner};
use crate::services::ServiceName;
use crate::state::IpFamily;

/// Questions that wait at most.
const QUERIES: usize = 16;

/// Why the proxy could not start, or not answer.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Another process has the port, or the address isn't the node's.
    #[error("the proxy's {what} server can't listen on {addr}")]
    Bind {
        what: &'static str,
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// The proxy has ended.
    #[error("the proxy has ended")]
    Ended,
    /// The backend could not read the kernel.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

/// The running proxy.
pub struct Proxy {
    queries: mpsc::Sender<Query>,
    healthz: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    tasks: TaskTracker,
}

impl Proxy {
    /// Binds the servers and starts. On shutdown the rules stay in the kernel.
    ///
    /// # Errors
    /// When a server can't listen.
    pub async fn start(
        config: ProxyConfig,
        client: Client,
        backend: Box<dyn Backend>,
        shutdown: CancellationToken,
    ) -> Result<Self, ProxyError> {
        let families = families(&config);
        let metrics = {
            let mut registry = config.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Metrics::new(&mut registry)
        };
        let health = Arc::new(Health::new(families.clone(), config.sync_period * 2));
        let served = Served {
            health: health.clone(),
            metrics: metrics.clone(),
            registry: config.registry.clone(),
            mode: backend.mode(),
            configuration: Arc::new(config.configuration.clone()),
        };
        let healthz = match config.healthz_bind_address {
            Some(addr) => Some(http::bind("healthz", addr).await?),
            None => None,
        };
        let metrics_server = match config.metrics_bind_address {
            Some(addr) => Some(http::bind("metrics", addr).await?),
            None => None,
        };
        let tasks = TaskTracker::new();
        let serve = |bound: Option<(TcpListener, SocketAddr)>, router| {
            let (listener, addr) = bound?;
            tasks.spawn(http::serve(listener, router, shutdown.clone()));
            Some(addr)
        };
        let healthz = serve(healthz, http::health_router(served.clone()));
        let metrics_at = serve(metrics_server, http::metrics_router(served));
        let (queries, receiver) = mpsc::channel(QUERIES);
        let events = watch::watches(client, &config.node_name);
        let runner = Runner::new(Arc::new(config), backend, health, metrics, families);
        tasks.spawn(runner.run(events, receiver, shutdown));
        tasks.close();
        Ok(Self { queries, healthz, metrics: metrics_at, tasks })
    }

    /// Where `/healthz` and `/livez` are.
    pub fn healthz_addr(&self) -> Option<SocketAddr> {
        self.healthz
    }

    /// Where `/metrics` and `/proxyMode` are.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Why a Service has the endpoints that it has.
    ///
    /// # Errors
    /// When the proxy has ended.
    pub async fn explain(&self, namespace: &str, name: &str) -> Result<Explanation, ProxyError> {
        let service = ServiceName { namespace: namespace.into(), name: name.into() };
        let (reply, answer) = oneshot::channel();
        self.queries.send(Query::Explain(service, reply)).await.map_err(|_| ProxyError::Ended)?;
        answer.await.map_err(|_| ProxyError::Ended)
    }

    /// Reads the kernel back and compares.
    ///
    /// # Errors
    /// When the proxy has ended, or the kernel can't be read.
    pub async fn verify(&self) -> Result<Verification, ProxyError> {
        let (reply, answer) = oneshot::channel();
        self.queries.send(Query::Verify(reply)).await.map_err(|_| ProxyError::Ended)?;
        Ok(answer.await.map_err(|_| ProxyError::Ended)??)
    }

    /// Waits for the end after shutdown.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

/// Starts and runs until shutdown.
///
/// # Errors
/// As [`Proxy::start`].
pub async fn run(
    config: ProxyConfig,
    client: Client,
    backend: Box<dyn Backend>,
    shutdown: CancellationToken,
) -> Result<(), ProxyError> {
    Proxy::start(config, client, backend, shutdown).await?.stopped().await;
    Ok(())
}

/// Families that the node has; IPv4 where nothing is known.
fn families(config: &ProxyConfig) -> Vec<IpFamily> {
    let has = |family| config.node_ips.iter().any(|ip| IpFamily::of(*ip) == family);
    let families: Vec<_> = [IpFamily::V4, IpFamily::V6].into_iter().filter(|family| has(*family)).collect();
    if families.is_empty() { vec![IpFamily::V4] } else { families }
}
