//! Start and end of the control plane.
//!
//! ```text
//! start:  data dir ─► store ─► certificates ─► API server ─► kubeconfig ─► scheduler, controllers
//! end:    scheduler, controllers ─► API server ─► store
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orlop_apiserver::authn::UserInfo;
use orlop_apiserver::{ApiServer, ApiServerConfig, KubeletClientOptions, RequestHeaderOptions, ServiceAccountOptions};
use orlop_controllers::ControllersConfig;
use orlop_scheduler::SchedulerConfig;
use orlop_store::{Embedded, Options, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{PlaneConfig, PlaneError};
use crate::pki::{FRONT_PROXY_NAME, KubeletPki, Pki, PkiRequest};
use crate::progress::Step;
use crate::{data_dir, kubeconfig};

/// How long scheduler and controllers may take to end before the API server goes all the same.
const COMPONENT_GRACE: Duration = Duration::from_secs(2);
/// Pause before a component that failed is started again, doubled up to the maximum.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(60);

/// A running control plane. Cancelling the token that it was started with stops it.
pub struct Plane {
    server: Arc<ApiServer>,
    kubelet_pki: KubeletPki,
    admin_kubeconfig: PathBuf,
    ca_pem: String,
    url: String,
    stopped: CancellationToken,
}

impl Plane {
    /// A client in this process, without a socket; RBAC applies to `user`.
    #[must_use]
    pub fn client(&self, user: UserInfo) -> kube::Client {
        self.server.client(user)
    }

    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// `https://ADVERTISED:PORT`, as in the kubeconfig.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    #[must_use]
    pub fn admin_kubeconfig_path(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// The files that this node's kubelet needs.
    #[must_use]
    pub fn kubelet_pki(&self) -> &KubeletPki {
        &self.kubelet_pki
    }

    /// PEM of the cluster's CA.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Resolves once everything has ended and the store is closed.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}

/// Starts everything; when it returns the API server answers and scheduler and controllers run.
///
/// # Errors
/// Each names the file, address or flag that is wrong, and the remedy.
pub async fn start(config: PlaneConfig, shutdown: CancellationToken) -> Result<Plane, PlaneError> {
    config.check()?;
    let done = |step: Step| (config.progress)(&step);
    let dir = config.data_dir.clone();
    tokio::task::spawn_blocking(move || data_dir::open(&dir)).await??;

    // The store first: its lock keeps a second instance off the certificates too.
    let store_path = config.data_dir.join("store.redb");
    let opened = store_path.clone();
    let store = tokio::task::spawn_blocking(move || Embedded::open(opened, Options::default())).await??;
    let store = Arc::new(store);
    let status = store.status().await?;
    done(Step::Store { path: store_path, revision: status.revision, keys: status.keys });

    match serve(&config, &store, &shutdown).await {
        Ok(plane) => Ok(plane),
        Err(error) => {
            // A start that fails leaves the file as it found it, unlocked.
            store.close().await;
            Err(error)
        }
    }
}

async fn serve(config: &PlaneConfig, store: &Arc<Embedded>, shutdown: &CancellationToken) -> Result<Plane, PlaneError> {
    let done = |step: Step| (config.progress)(&step);
    let pki = Arc::new(certificates(config).await?);
    done(Step::Certificates { dir: config.data_dir.join("pki"), issued: pki.issued });

    // Scheduler and controllers end first, then the server that they talk to.
    let server_shutdown = CancellationToken::new();
    let server = start_server(config, &pki, store.clone(), shutdown, &server_shutdown).await?;
    let server = Arc::new(server);
    done(Step::ApiServer { address: server.local_addr() });

    let url = format!("https://{}", SocketAddr::new(config.advertise_address, server.local_addr().port()));
    let admin_kubeconfig = config.data_dir.join("admin.kubeconfig");
    let written = write_kubeconfig(config, &pki, &admin_kubeconfig, &url).await;
    if let Ok(written) = &written {
        done(Step::Kubeconfig { path: admin_kubeconfig.clone(), written: *written });
    }

    let mut components = JoinSet::new();
    // After a cut start there is nothing left to run.
    if written.is_ok() && !shutdown.is_cancelled() {
        start_components(config, &pki, &server, shutdown, &mut components);
        done(Step::Scheduler);
        done(Step::Controllers);
    } else {
        server_shutdown.cancel();
    }
    let stopped = CancellationToken::new();
    let end = end(server.clone(), store.clone(), components, shutdown.clone(), server_shutdown, stopped.clone());
    tokio::spawn(end);
    if let Err(error) = written {
        stopped.cancelled().await;
        return Err(error);
    }
    let (kubelet_pki, ca_pem) = (pki.kubelet.clone(), pki.ca.cert_pem.clone());
    Ok(Plane { server, kubelet_pki, admin_kubeconfig, ca_pem, url, stopped })
}

async fn certificates(config: &PlaneConfig) -> Result<Pki, PlaneError> {
    let request = PkiRequest {
        node_name: config.node_name.clone(),
        node_ips: config.node_ips.clone(),
        advertise_address: config.advertise_address,
        service_ips: config.service_ips(),
        cluster_domain: config.cluster_domain.clone(),
        extra_sans: config.extra_sans.clone(),
    };
    let (dir, now) = (config.data_dir.join("pki"), (config.clock)());
    Ok(tokio::task::spawn_blocking(move || Pki::load_or_create(&dir, &request, now)).await??)
}

async fn write_kubeconfig(config: &PlaneConfig, pki: &Arc<Pki>, path: &Path, url: &str) -> Result<bool, PlaneError> {
    let (pki, path, url, now) = (pki.clone(), path.to_owned(), url.to_owned(), (config.clock)());
    Ok(tokio::task::spawn_blocking(move || kubeconfig::reconcile(&path, &pki.ca, &url, now)).await??)
}

async fn start_server(
    config: &PlaneConfig,
    pki: &Pki,
    store: Arc<Embedded>,
    shutdown: &CancellationToken,
    server_shutdown: &CancellationToken,
) -> Result<ApiServer, PlaneError> {
    let starting = ApiServer::start(server_config(config, pki), store, server_shutdown.clone());
    tokio::pin!(starting);
    tokio::select! {
        started = &mut starting => Ok(started?),
        () = shutdown.cancelled() => {
            server_shutdown.cancel();
            Ok(starting.await?)
        }
    }
}

fn server_config(config: &PlaneConfig, pki: &Pki) -> ApiServerConfig {
    ApiServerConfig {
        bind: config.bind(),
        advertise_address: config.advertise_address,
        serving_cert_pem: pki.apiserver.cert_pem.clone(),
        serving_key_pem: pki.apiserver.key_pem.clone(),
        client_ca_pem: pki.ca.cert_pem.clone(),
        request_header: Some(RequestHeaderOptions {
            ca_pem: pki.front_proxy_ca.cert_pem.clone(),
            allowed_names: vec![FRONT_PROXY_NAME.to_owned()],
        }),
        kubelet_client: Some(KubeletClientOptions {
            cert_pem: pki.kubelet_client.cert_pem.clone(),
            key_pem: pki.kubelet_client.key_pem.clone(),
            ca_pem: pki.ca.cert_pem.clone(),
        }),
        service_account: ServiceAccountOptions {
            issuer: config.issuer(),
            api_audiences: Vec::new(),
            signing_key_pem: pki.sa_key_pem.clone(),
            verification_keys_pem: Vec::new(),
        },
        service_cidrs: config.service_cidrs.clone(),
        node_ports: config.node_ports,
        anonymous_auth: true,
        event_ttl: Duration::from_hours(1),
        limits: orlop_apiserver::Limits::default(),
        metrics: config.metrics.clone(),
        clock: config.clock.clone(),
    }
}

fn start_components(
    config: &PlaneConfig,
    pki: &Pki,
    server: &ApiServer,
    shutdown: &CancellationToken,
    components: &mut JoinSet<()>,
) {
    let client = server.client(UserInfo::new("system:kube-scheduler", &[]));
    let token = shutdown.clone();
    let scheduler = move || orlop_scheduler::run(client.clone(), SchedulerConfig::default(), token.clone());
    components.spawn(supervised("scheduler", scheduler, shutdown.clone()));

    let client = server.client(UserInfo::new("system:kube-controller-manager", &[]));
    let controllers_config = ControllersConfig {
        root_ca_pem: pki.ca.cert_pem.clone(),
        cluster_cidrs: config.cluster_cidrs.clone(),
        clock: config.clock.clone(),
        ..ControllersConfig::default()
    };
    let token = shutdown.clone();
    let controllers = move || orlop_controllers::run(client.clone(), controllers_config.clone(), token.clone());
    components.spawn(supervised("controllers", controllers, shutdown.clone()));
}

/// Runs a component until the shutdown; one that ends before, by a panic too, is started again, as
/// systemd would start a process of its own.
async fn supervised<F, Fut>(name: &'static str, component: F, shutdown: CancellationToken)
where
    F: Fn() -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut pause = RESTART_PAUSE;
    loop {
        let ended = AbortOnDropHandle::new(tokio::spawn(component())).await;
        if shutdown.is_cancelled() {
            return;
        }
        match ended {
            Ok(()) => tracing::error!(component = name, "ended by itself; starting it again"),
            Err(error) => tracing::error!(component = name, %error, "failed; starting it again"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
        pause = (pause * 2).min(MAX_RESTART_PAUSE);
    }
}

/// Waits for the shutdown, and ends everything in order.
async fn end(
    server: Arc<ApiServer>,
    store: Arc<Embedded>,
    mut components: JoinSet<()>,
    shutdown: CancellationToken,
    server_shutdown: CancellationToken,
    stopped: CancellationToken,
) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = server_shutdown.cancelled() => {}
    }
    let ended = tokio::time::timeout(COMPONENT_GRACE, async {
        while let Some(ended) = components.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a control plane component failed");
            }
        }
    });
    if ended.await.is_err() {
        tracing::warn!("scheduler or controllers did not end in time");
        components.shutdown().await;
    }
    server_shutdown.cancel();
    server.stopped().await;
    store.close().await;
    stopped.cancel();
}
