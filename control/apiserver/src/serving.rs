//! The secure port: TLS, HTTP/1.1 and HTTP/2, bounded in every direction, drained on shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Peer};
use crate::authn::x509;
use crate::config::{ApiServerConfig, StartError};
use crate::wire::boxed;
use crate::{dispatch, pki};

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Go's `http2.Server.MaxConcurrentStreams` as upstream sets it.
const MAX_STREAMS: u32 = 100;
/// A peer that answers no ping this long is gone.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);
/// After a failed accept (no file descriptors left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => StartError::PortTaken { address },
        _ => StartError::Bind { address, source },
    })
}

pub(crate) fn tls(config: &ApiServerConfig) -> Result<TlsAcceptor, StartError> {
    let unusable = |detail: String| StartError::Pki { what: "the serving certificate", detail };
    let chain = pki::certificates("the serving certificate", &config.serving_cert_pem)?;
    let key = pki::private_key("the serving key", &config.serving_key_pem)?;
    let mut client_ca = pki::certificates("the client CA", &config.client_ca_pem)?;
    if let Some(front_proxy) = &config.request_header {
        client_ca.extend(pki::certificates("the front proxy CA", &front_proxy.ca_pem)?);
    }
    let requester = x509::client_cert_requester(&client_ca)
        .map_err(|e| StartError::Pki { what: "the client CA", detail: e.to_string() })?;
    let mut server = ServerConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable(e.to_string()))?
        .with_client_cert_verifier(requester)
        .with_single_cert(chain, key)
        .map_err(|e| unusable(e.to_string()))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// Serves until `shutdown`, then lets what is in flight finish within `limits.drain`.
pub(crate) async fn run(app: Arc<App>, listener: TcpListener, tls: TlsAcceptor, shutdown: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(app.config.limits.max_connections));
    loop {
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            permit = connections.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let (tcp, address) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (app, tls, watcher) = (app.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            connection(app, tls, tcp, address, watcher).await;
            drop(permit);
        });
    }
    drop(listener);
    let drain = app.config.limits.drain;
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::info!("requests were still in flight when the time to drain was over");
    }
}

async fn connection(
    app: Arc<App>,
    tls: TlsAcceptor,
    tcp: TcpStream,
    address: SocketAddr,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let _ = tcp.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(tcp)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let certificates: Vec<_> =
        stream.get_ref().1.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect();
    let peer = Peer { address, certificates: Arc::new(certificates) };

    let mut builder = auto::Builder::new(TokioExecutor::new());
    let limits = &app.config.limits;
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(limits.max_header_bytes.max(8 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(KEEP_ALIVE_EVERY);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let app = app.clone();
        let mut request = request.map(boxed);
        request.extensions_mut().insert(peer.clone());
        async move { Ok::<_, std::convert::Infallible>(dispatch::serve(app, request).await) }
    });
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(serving).await {
        tracing::debug!(%address, error = %error, "connection ended");
    }
}
