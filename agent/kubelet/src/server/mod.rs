//! The kubelet's HTTPS server, port 10250: logs, exec, stats, metrics.
//!
//! ```text
//! accept ─► TLS (client certificate optional) ─► authenticate ─► authorize ─► route ─► handler
//! ```
//! Nothing is read of a request beyond its head before its sender is known and allowed.

mod auth;
mod handlers;
mod identity;
mod log_request;
mod logs;
mod pods;
mod route;
mod streaming;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::stats::StatsSource;
pub use pods::{PodProvider, StreamRequest, StreamingRuntime};

/// Connections at once; a stream of `kubectl exec` or `logs -f` is one.
const MAX_CONNECTIONS: usize = 2048;
/// A client that has not finished its handshake, or the head of its request, by then is dropped.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Open streams get this long after `shutdown`.
const DRAIN: Duration = Duration::from_secs(2);

/// Configuration of the server.
#[derive(Clone)]
pub struct ServerConfig {
    /// `address` and `port`; port 0 takes a free one.
    pub listen: SocketAddr,
    pub node_name: String,
    /// `tlsCertFile` and `tlsPrivateKeyFile`; none makes a self-signed pair in memory.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// `authentication.x509.clientCAFile`.
    pub client_ca_file: Option<PathBuf>,
    /// For TokenReview and SubjectAccessReview; none is a standalone kubelet, which lets in only client certificates of
    /// the group `system:masters`.
    pub client: Option<kube::Client>,
    /// What `/configz` shows.
    pub configz: serde_json::Value,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read {path}: {source}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("bad TLS material in {path}: {message}")]
    Tls { path: PathBuf, message: String },
}

/// What the handlers work with.
struct ServerState {
    pods: Arc<dyn PodProvider>,
    runtime: Arc<dyn StreamingRuntime>,
    stats: Arc<StatsSource>,
    gate: auth::Gate,
    configz: serde_json::Value,
    /// Open streams end with it.
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// A bound server: the address is known before it serves.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    tasks: TaskTracker,
}

impl Server {
    /// Binds and starts serving in the background, until `shutdown`.
    pub async fn start(
        config: ServerConfig,
        pods: Arc<dyn PodProvider>,
        runtime: Arc<dyn StreamingRuntime>,
        stats: Arc<StatsSource>,
        shutdown: CancellationToken,
    ) -> Result<Self, ServerError> {
        let addr = config.listen;
        let tls = tls::acceptor(&config)?;
        let listener = TcpListener::bind(addr).await.map_err(|source| ServerError::Listen { addr, source })?;
        let addr = listener.local_addr().map_err(|source| ServerError::Listen { addr, source })?;
        let gate = auth::Gate::new(config.node_name, config.client);
        let tasks = TaskTracker::new();
        let state = Arc::new(ServerState {
            pods,
            runtime,
            stats,
            gate,
            configz: config.configz,
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
        });
        tasks.spawn(accept(listener, tls, state, tasks.clone(), shutdown));
        info!(%addr, "kubelet server listens");
        Ok(Self { addr, tasks })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns when the server has stopped after its shutdown.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

async fn accept(
    listener: TcpListener,
    tls: tokio_rustls::TlsAcceptor,
    state: Arc<ServerState>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tasks.close();
    loop {
        let place = tokio::select! {
            () = shutdown.cancelled() => return,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { return };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (tls, state, shutdown) = (tls.clone(), Arc::clone(&state), shutdown.clone());
                tasks.spawn(async move {
                    let _place = place;
                    if let Err(error) = serve(stream, tls, state, shutdown).await {
                        debug!(%peer, error, "connection ended");
                    }
                });
            }
            Err(error) => {
                warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    tls: tokio_rustls::TlsAcceptor,
    state: Arc<ServerState>,
    shutdown: CancellationToken,
) -> Result<(), String> {
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(HEAD_LIMIT, tls.accept(stream)).await;
    let stream = handshake.map_err(|_| "no TLS handshake in time".to_owned())?.map_err(|e| e.to_string())?;
    let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|cert| cert.to_vec());
    let certificate = peer.and_then(|der| identity::from_certificate(&der)).map(Arc::new);
    let service = hyper::service::service_fn(move |request| {
        let (state, certificate) = (Arc::clone(&state), certificate.clone());
        async move { Ok::<_, std::convert::Infallible>(route::handle(&state, certificate, request).await) }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(64);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => result.map_err(|e| e.to_string()),
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(DRAIN, connection).await;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
