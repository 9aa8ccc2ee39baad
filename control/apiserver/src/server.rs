//! Putting the server together, and its life.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use orlop_store::Store;
use tokio_util::sync::CancellationToken;

use crate::allocators::{AllocatorConfig, ServiceAllocator};
use crate::app::{App, InFlight};
use crate::authn::tokens::{TokenIssuer, TokenIssuerConfig};
use crate::authn::{Authenticator, AuthnConfig, RequestHeaderConfig, UserInfo};
use crate::config::{ApiServerConfig, StartError};
use crate::metrics::Metrics;
use crate::node_proxy::KubeletDialer;
use crate::reader::ObjectReader;
use crate::storage::continuation::Continuation;
use crate::storage::reader::CacheReader;
use crate::storage::{Storages, compactor};
use crate::strategy::event_leases::EventLeases;
use crate::wire::boxed;
use crate::{admission, authz, bootstrap, dispatch, pki, serving};

/// A running API server. Cancelling the token that it was started with stops it.
pub struct ApiServer {
    app: Arc<App>,
    stopped: CancellationToken,
}

impl ApiServer {
    /// Starts serving. When it returns the caches are filled, the bootstrap objects are written and
    /// `/readyz` says ok.
    ///
    /// # Errors
    /// A taken port, unusable keys or certificates, a store that can't be read.
    pub async fn start(
        config: ApiServerConfig,
        store: Arc<dyn Store>,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let tls = serving::tls(&config)?;
        let listener = serving::listen(config.bind).await?;
        let local_addr = listener.local_addr().map_err(|source| StartError::Bind { address: config.bind, source })?;
        // Caches outlive the listener, so that requests in flight still read.
        let caches = CancellationToken::new();
        let app = Arc::new(build(config, store, local_addr, &caches, &shutdown)?);
        let outcome = prepare(&app, &shutdown).await;
        if let Err(error) = outcome {
            caches.cancel();
            return Err(error);
        }
        let stopped = CancellationToken::new();
        tokio::spawn(life(app.clone(), listener, tls, caches, shutdown, stopped.clone()));
        tracing::info!(address = %local_addr, version = crate::documents::GIT_VERSION, "API server is ready");
        Ok(Self { app, stopped })
    }

    /// Where it listens; the real port where port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.app.local_addr
    }

    /// A client in this process: the same service without a socket. Authorization applies to `user`.
    #[must_use]
    pub fn client(&self, user: UserInfo) -> kube::Client {
        let app = self.app.clone();
        let user = Arc::new(user);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let app = app.clone();
            let mut request = request.map(boxed);
            request.extensions_mut().insert(user.clone());
            async move { Ok::<_, std::convert::Infallible>(dispatch::serve(app, request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Resolves once everything has ended.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}

async fn life(
    app: Arc<App>,
    listener: tokio::net::TcpListener,
    tls: tokio_rustls::TlsAcceptor,
    caches: CancellationToken,
    shutdown: CancellationToken,
    stopped: CancellationToken,
) {
    tokio::spawn(bootstrap::maintain(app.reader.clone(), bootstrap_config(&app), shutdown.clone()));
    tokio::spawn(app.services.clone().run(shutdown.clone()));
    tokio::spawn(compactor::run(app.store.clone(), app.config.limits.compaction_interval, shutdown.clone()));
    serving::run(app, listener, tls, shutdown).await;
    caches.cancel();
    stopped.cancel();
}

fn build(
    config: ApiServerConfig,
    store: Arc<dyn Store>,
    local_addr: SocketAddr,
    caches: &CancellationToken,
    shutdown: &CancellationToken,
) -> Result<App, StartError> {
    let rows = orlop_api::registry::RESOURCES.iter();
    let storages = Arc::new(Storages::new(rows, &store, &config.limits, caches));
    let reader: Arc<dyn ObjectReader> = Arc::new(CacheReader::new(storages.clone(), config.clock.clone()));
    let tokens = Arc::new(
        TokenIssuer::new(TokenIssuerConfig {
            issuer: config.service_account.issuer.clone(),
            api_audiences: config.service_account.api_audiences.clone(),
            signing_key_pem: config.service_account.signing_key_pem.clone(),
            verification_keys_pem: config.service_account.verification_keys_pem.clone(),
            clock: config.clock.clone(),
        })
        .map_err(StartError::ServiceAccountKeys)?,
    );
    let request_header = match &config.request_header {
        Some(options) => Some(RequestHeaderConfig {
            ca: pki::certificates("the front proxy CA", &options.ca_pem)?,
            allowed_names: options.allowed_names.clone(),
        }),
        None => None,
    };
    let authn = AuthnConfig {
        client_ca: pki::certificates("the client CA", &config.client_ca_pem)?,
        request_header,
        tokens: tokens.clone(),
        anonymous: config.anonymous_auth,
        clock: config.clock.clone(),
    };
    let authenticator = Authenticator::new(authn, reader.clone())
        .map_err(|e| StartError::Pki { what: "the client CA", detail: e.to_string() })?;
    let authorizer = Arc::new(authz::Chain::new(reader.clone()));
    let admission = admission::Chain::default_chain(&admission::AdmissionDeps {
        reader: reader.clone(),
        authorizer: authorizer.clone(),
    });
    let services = Arc::new(ServiceAllocator::new(
        reader.clone(),
        AllocatorConfig { service_cidrs: config.service_cidrs.clone(), node_ports: config.node_ports },
    ));
    let kubelets = config.kubelet_client.as_ref().map(KubeletDialer::new).transpose()?;
    Ok(App {
        event_leases: EventLeases::new(config.event_ttl),
        in_flight: InFlight::new(&config.limits),
        metrics: Metrics::new(config.metrics.clone()),
        continuation: Continuation::new(),
        bootstrapped: AtomicBool::new(false),
        shutdown: shutdown.clone(),
        config,
        store,
        storages,
        reader,
        authenticator,
        authorizer,
        admission,
        tokens,
        services,
        kubelets,
        local_addr,
    })
}

async fn prepare(app: &App, shutdown: &CancellationToken) -> Result<(), StartError> {
    // A store that can't be read is told now, not retried for ever in the background.
    app.store.status().await.map_err(StartError::Store)?;
    app.storages.start(shutdown).await?;
    app.services.repair().await.map_err(StartError::Bootstrap)?;
    bootstrap::run(&app.reader, &bootstrap_config(app), shutdown).await.map_err(StartError::Bootstrap)?;
    app.bootstrapped.store(true, Ordering::Release);
    Ok(())
}

fn bootstrap_config(app: &App) -> bootstrap::BootstrapConfig {
    let config = &app.config;
    bootstrap::BootstrapConfig {
        service_cidrs: config.service_cidrs.clone(),
        advertise_address: config.advertise_address,
        secure_port: app.local_addr.port(),
        client_ca_pem: config.client_ca_pem.clone(),
        request_header_ca_pem: config.request_header.as_ref().map(|o| o.ca_pem.clone()),
        request_header_allowed_names: config
            .request_header
            .as_ref()
            .map(|o| o.allowed_names.clone())
            .unwrap_or_default(),
    }
}
