//! Puts a kubelet together and keeps it turning.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orlop_runtime::RuntimeClient;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::NodeCapacity;
use crate::backoff::{self, BackOff};
use crate::container_manager::{self, CgroupError, ContainerManager, ContainerManagerConfig};
use crate::events::{self, Kind, Recorder};
use crate::images::ImageManager;
use crate::kuberuntime::{NodeFacts, RuntimeManager};
use crate::node_conditions::RuntimeState;
use crate::node_lease::{self, NodeLeaseConfig};
use crate::node_status::{self, NodeStatusContext};
use crate::objects::ObjectManager;
use crate::options::KubeletOptions;
use crate::pleg::{self, PodCache};
use crate::pod::PodExt;
use crate::pod_manager::PodManager;
use crate::pod_workers::{Core, PodWorkers};
use crate::prober::ProbeManager;
use crate::prober::results::ProbeResults;
use crate::provider::{Provider, Streaming};
use crate::records::Records;
use crate::server::{self, ServerConfig};
use crate::services::ServiceCache;
use crate::sources::{SourceState, api, file};
use crate::status::StatusManager;
use crate::volumes::{NodeAllocatable, VolumeManager, VolumeManagerConfig};
use crate::{housekeeping, mirror};

/// How long the start waits for a runtime that is not there yet.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(30);
/// ConfigMaps, Secrets and tokens of running pods are looked at this often.
const VOLUME_REFRESH: Duration = Duration::from_secs(60);

/// Why a kubelet did not start.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    #[error("container runtime endpoint")]
    Endpoint(#[source] orlop_runtime::EndpointError),
    #[error("container runtime at {endpoint} does not answer: is it running?")]
    Runtime {
        endpoint: String,
        #[source]
        source: orlop_runtime::RuntimeError,
    },
    #[error("cannot use directory {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cgroups of pods")]
    Cgroups(#[source] CgroupError),
    #[error("kubelet server")]
    Server(#[source] server::ServerError),
    #[error("address of this node")]
    NodeIp(#[source] orlop_host::netlink::NetlinkError),
}

/// The kubelet.
#[derive(Debug)]
pub struct Kubelet;

/// A running kubelet.
pub struct KubeletHandle {
    server: Option<server::Server>,
    tasks: TaskTracker,
    workers: Arc<PodWorkers>,
    status: Arc<StatusManager>,
    pods: Arc<PodManager>,
}

impl KubeletHandle {
    /// Where the server listens, if there is one.
    #[must_use]
    pub fn server_addr(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(server::Server::local_addr)
    }

    /// The pods of this node with their statuses, as `/pods` shows them.
    #[must_use]
    pub fn pods(&self) -> Vec<k8s_openapi::api::core::v1::Pod> {
        self.pods
            .pods()
            .iter()
            .map(|pod| {
                let mut shown = k8s_openapi::api::core::v1::Pod::clone(pod);
                shown.status = self.status.get(pod.uid_str()).or(shown.status);
                shown
            })
            .collect()
    }

    /// Returns when everything ended after the shutdown token was cancelled. Pods go on running.
    pub async fn stopped(&self) {
        self.workers.stopped().await;
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(server) = &self.server {
            server.stopped().await;
        }
    }
}

impl Kubelet {
    /// Starts a kubelet. Without a client it runs standalone: only static pods.
    pub async fn start(
        options: KubeletOptions,
        client: Option<kube::Client>,
        shutdown: CancellationToken,
    ) -> Result<KubeletHandle, KubeletError> {
        let containers = container_manager::for_this_machine(ContainerManagerConfig {
            cgroup_root: options.cgroup_root.clone(),
            driver: options.cgroup_driver,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period_us: 100_000,
            pod_pids_limit: options.pod_pids_limit,
            reserved: options.reserved.clone(),
            enforce_pods: options.enforce_node_allocatable,
            max_pods: options.max_pods,
            root_dir: options.root_dir.clone(),
        })
        .map_err(KubeletError::Cgroups)?;
        Self::start_with(options, client, containers, shutdown).await
    }

    /// As [`Self::start`], with the cgroups given: component tests bring directories of their own.
    pub(crate) async fn start_with(
        options: KubeletOptions,
        client: Option<kube::Client>,
        containers: Arc<ContainerManager>,
        shutdown: CancellationToken,
    ) -> Result<KubeletHandle, KubeletError> {
        for path in [&options.root_dir, &options.state_dir, &options.pod_logs_dir] {
            tokio::fs::create_dir_all(path)
                .await
                .map_err(|source| KubeletError::Directory { path: path.clone(), source })?;
        }
        let records = Records::open(&options.state_dir)
            .map_err(|source| KubeletError::Directory { path: options.state_dir.clone(), source })?;
        let runtime = RuntimeClient::new(options.runtime.clone()).map_err(KubeletError::Endpoint)?;
        let version = reach_runtime(&runtime).await?;
        containers.setup().await.map_err(KubeletError::Cgroups)?;
        let host_ips = host_ips(&options).await?;
        let tasks = TaskTracker::new();
        let (events, queue) = Recorder::new(&options.node_name);
        tasks.spawn(events::write_events(
            queue,
            client.clone(),
            options.node_name.clone(),
            options.event_burst,
            shutdown.clone(),
        ));
        let assembly = Assembly { options, client, shutdown, tasks, events, runtime, containers, host_ips };
        assembly.run(version.runtime_name, Arc::new(records)).await
    }
}

async fn reach_runtime(runtime: &RuntimeClient) -> Result<orlop_runtime::cri::VersionResponse, KubeletError> {
    let start = tokio::time::Instant::now();
    loop {
        match runtime.check_version().await {
            Ok(version) => {
                tracing::info!(name = version.runtime_name, version = version.runtime_version, "container runtime");
                return Ok(version);
            }
            Err(source) if source.retry() != orlop_runtime::Retry::Never && start.elapsed() < RUNTIME_PATIENCE => {
                tracing::debug!(%source, "waiting for the container runtime");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(source) => return Err(KubeletError::Runtime { endpoint: runtime.endpoint().to_owned(), source }),
        }
    }
}

async fn host_ips(options: &KubeletOptions) -> Result<Vec<String>, KubeletError> {
    if !options.node_ips.is_empty() {
        return Ok(options.node_ips.iter().map(ToString::to_string).collect());
    }
    let found = orlop_host::netlink::node_ip().await.map_err(KubeletError::NodeIp)?;
    Ok(vec![found.to_string()])
}

struct Assembly {
    options: KubeletOptions,
    client: Option<kube::Client>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    events: Recorder,
    runtime: RuntimeClient,
    containers: Arc<ContainerManager>,
    host_ips: Vec<String>,
}

impl Assembly {
    async fn run(self, runtime_name: String, records: Arc<Records>) -> Result<KubeletHandle, KubeletError> {
        let Self { options, client, shutdown, tasks, events, runtime, containers, host_ips } = self;
        let objects = Arc::new(ObjectManager::new(client.clone()));
        let allocatable = containers.allocatable();
        let amount = |name: &str| allocatable.get(name).copied().unwrap_or(0);
        let volumes = Arc::new(VolumeManager::new(
            VolumeManagerConfig {
                root_dir: options.root_dir.clone(),
                allocatable: NodeAllocatable {
                    milli_cpu: amount("cpu"),
                    memory_bytes: amount("memory"),
                    ephemeral_storage_bytes: amount("ephemeral-storage"),
                },
            },
            Arc::clone(&objects),
        ));
        let cache = Arc::new(PodCache::new(runtime.clone()));
        let probes = Arc::new(ProbeResults::default());
        let pods = Arc::new(PodManager::default());
        let status = Arc::new(StatusManager::new(Arc::clone(&pods), client.clone()));
        let runtime_state = Arc::new(RuntimeState::default());
        runtime_state.refresh(&runtime).await;
        let manager = Arc::new(RuntimeManager {
            runtime: runtime.clone(),
            runtime_name,
            cache: Arc::clone(&cache),
            images: ImageManager::new(runtime.clone(), events.clone(), options.max_parallel_image_pulls),
            containers: Arc::clone(&containers),
            objects: Arc::clone(&objects),
            services: Arc::new(ServiceCache::start(client.clone(), shutdown.clone())),
            events: events.clone(),
            probes: Arc::clone(&probes),
            back_off: BackOff::new(
                backoff::INITIAL.min(options.max_container_restart_period),
                options.max_container_restart_period,
            ),
            node: NodeFacts {
                node_name: options.node_name.clone(),
                host_ips: host_ips.clone(),
                root_dir: options.root_dir.clone(),
                pod_logs_dir: options.pod_logs_dir.clone(),
                seccomp_dir: options.seccomp_dir.clone().unwrap_or_else(|| options.root_dir.join("seccomp")),
                cluster_dns: options.cluster_dns.iter().map(ToString::to_string).collect(),
                cluster_domain: options.cluster_domain.clone(),
                resolver_config: options.resolver_config.clone(),
                allocatable: allocatable.clone(),
            },
        });
        // Probes wake workers, which are made after them.
        let workers_slot: Arc<std::sync::OnceLock<Arc<PodWorkers>>> = Arc::default();
        let slot = Arc::clone(&workers_slot);
        let wake = Arc::new(move |uid: &str| {
            if let Some(workers) = slot.get() {
                workers.wake(uid);
            }
        });
        let prober = Arc::new(ProbeManager::new(
            runtime.clone(),
            Arc::clone(&cache),
            probes,
            events.clone(),
            host_ips,
            wake,
            shutdown.clone(),
        ));
        let identity = orlop_host::machine::identity();
        let mut labels = node_status::default_labels(&options.node_name, identity.architecture);
        labels.extend(options.node_labels.clone());
        let core = Arc::new(Core {
            runtime: manager,
            runtime_state: Arc::clone(&runtime_state),
            volumes,
            containers: Arc::clone(&containers),
            status: Arc::clone(&status),
            probes: prober,
            records: Arc::clone(&records),
            events: events.clone(),
            capacity: NodeCapacity { allocatable, max_pods: options.max_pods, labels },
            admitted: std::sync::Mutex::default(),
            sync_frequency: options.sync_frequency,
        });
        let workers = PodWorkers::new(Arc::clone(&core), shutdown.clone());
        let _ = workers_slot.set(Arc::clone(&workers));

        let server = match options.server_listen {
            None => None,
            Some(listen) => {
                let config = ServerConfig {
                    listen,
                    node_name: options.node_name.clone(),
                    tls: options.server_tls.clone(),
                    client_ca_file: options.client_ca_file.clone(),
                    client: client.clone(),
                    configz: options.configz.clone(),
                };
                let provider: Arc<dyn server::PodProvider> = Arc::new(Provider {
                    pods: Arc::clone(&pods),
                    status: Arc::clone(&status),
                    cache: Arc::clone(&cache),
                });
                let stats = Arc::new(crate::stats::StatsSource::new(
                    options.node_name.clone(),
                    options.root_dir.clone(),
                    Arc::clone(&containers),
                ));
                let started = server::Server::start(
                    config,
                    provider,
                    Arc::new(Streaming(runtime.clone())),
                    stats,
                    shutdown.clone(),
                );
                Some(started.await.map_err(KubeletError::Server)?)
            }
        };

        tasks.spawn(Arc::clone(&records).run(shutdown.clone()));
        tasks.spawn(Arc::clone(&runtime_state).run(runtime.clone(), shutdown.clone()));
        tasks.spawn(Arc::clone(&status).run(shutdown.clone()));
        // Workers must know what runs before they decide anything.
        if let Err(error) = cache.relist().await {
            tracing::warn!(%error, "first look at the container runtime failed");
        }
        tasks.spawn(pleg::run(Arc::clone(&cache), options.pleg_relist_period, shutdown.clone()));

        let (file_state, api_state) = spawn_sources(&tasks, &options, client.as_ref(), &shutdown);
        let synced = {
            let (file_state, api_state) = (file_state.clone(), api_state.clone());
            move || {
                file_state.as_ref().is_none_or(|s| s.borrow().synced)
                    && api_state.as_ref().is_none_or(|s| s.borrow().synced)
            }
        };
        let mirrors = Arc::new(Notify::new());
        if let Some(client) = &client {
            let api_state = api_state.clone();
            tasks.spawn(mirror::run(
                client.clone(),
                options.node_name.clone(),
                Arc::clone(&pods),
                Arc::clone(&mirrors),
                move || api_state.as_ref().is_some_and(|s| s.borrow().synced),
                shutdown.clone(),
            ));
            spawn_node(&tasks, &options, client, &core, &runtime, &server, &shutdown);
        }
        tasks.spawn(housekeeping::run(Arc::clone(&core), Arc::clone(&workers), synced, shutdown.clone()));
        tasks.spawn(refresh_volumes(Arc::clone(&core), Arc::clone(&pods), shutdown.clone()));
        tasks.spawn(sync_loop(
            file_state,
            api_state,
            Arc::clone(&pods),
            Arc::clone(&workers),
            Arc::clone(&status),
            mirrors,
            shutdown,
        ));
        events.node(Kind::Normal, crate::reasons::event::STARTING, "Starting kubelet.");
        Ok(KubeletHandle { server, tasks, workers, status, pods })
    }
}

type State = Option<watch::Receiver<SourceState>>;

fn spawn_sources(
    tasks: &TaskTracker,
    options: &KubeletOptions,
    client: Option<&kube::Client>,
    shutdown: &CancellationToken,
) -> (State, State) {
    let file_state = options.pod_manifest_path.clone().map(|path| {
        let (sender, receiver) = watch::channel(SourceState::default());
        let (node, rescan) = (options.node_name.clone(), options.file_check_frequency);
        tasks.spawn(file::run(path, node, rescan, sender, shutdown.clone()));
        receiver
    });
    let api_state = client.map(|client| {
        let (sender, receiver) = watch::channel(SourceState::default());
        tasks.spawn(api::run(client.clone(), options.node_name.clone(), sender, shutdown.clone()));
        receiver
    });
    (file_state, api_state)
}

fn spawn_node(
    tasks: &TaskTracker,
    options: &KubeletOptions,
    client: &kube::Client,
    core: &Arc<Core>,
    runtime: &RuntimeClient,
    server: &Option<server::Server>,
    shutdown: &CancellationToken,
) {
    let cache = Arc::clone(&core.runtime.cache);
    let recorder = core.events.clone();
    let context = NodeStatusContext {
        client: client.clone(),
        node_name: options.node_name.clone(),
        // `--hostname-override` is both, as upstream has it.
        hostname: options.node_name.clone(),
        node_ips: options.node_ips.clone(),
        labels: options.node_labels.clone(),
        taints: options.register_with_taints.clone(),
        register_node: options.register_node,
        kubelet_port: server.as_ref().map_or(10250, |server| server.local_addr().port()),
        kubelet_version: options.version.clone(),
        provider_id: options.provider_id.clone(),
        update_every: options.node_status_update_frequency,
        report_every: options.node_status_report_frequency,
        max_images: options.max_images,
        runtime: Arc::new(runtime.clone()),
        containers: Arc::clone(&core.containers),
        unhealthy: Arc::new(move || cache.unhealthy()),
        wake: Arc::clone(&core.runtime_state.changed),
        events: Arc::new(move |warning, reason, message| {
            recorder.node(if warning { Kind::Warning } else { Kind::Normal }, reason, message);
        }),
    };
    tasks.spawn(node_status::run(context, shutdown.clone()));
    let lease = NodeLeaseConfig {
        client: client.clone(),
        node_name: options.node_name.clone(),
        lease_duration_s: options.node_lease_duration_s,
    };
    tasks.spawn(node_lease::run(lease, shutdown.clone()));
}

/// Merges the sources and hands changes to the workers.
async fn sync_loop(
    mut file_state: State,
    mut api_state: State,
    pods: Arc<PodManager>,
    workers: Arc<PodWorkers>,
    status: Arc<StatusManager>,
    mirrors: Arc<Notify>,
    shutdown: CancellationToken,
) {
    loop {
        let mut all = Vec::new();
        for state in [&mut file_state, &mut api_state].into_iter().flatten() {
            all.extend(state.borrow_and_update().pods.iter().cloned());
        }
        let change = pods.set(all);
        for pod in &change.removed {
            workers.remove(pod);
        }
        for pod in &change.updated {
            workers.update(pod);
            status.observe(pod, pod.uid_str());
        }
        if change.mirrors_changed || change.updated.iter().chain(&change.removed).any(|pod| pod.is_static()) {
            mirrors.notify_one();
            for mirror in pods.mirrors() {
                if let Some(pod) = pods.by_name(mirror.namespace_str(), mirror.name_str()) {
                    status.observe(&mirror, pod.uid_str());
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed(&mut file_state) => {}
            () = changed(&mut api_state) => {}
        }
    }
}

async fn changed(state: &mut State) {
    let alive = match state {
        Some(state) => state.changed().await.is_ok(),
        None => false,
    };
    if !alive {
        std::future::pending::<()>().await;
    }
}

/// Keeps the contents of mounted ConfigMaps, Secrets and tokens fresh.
async fn refresh_volumes(core: Arc<Core>, pods: Arc<PodManager>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(VOLUME_REFRESH) => {}
        }
        for pod in pods.pods() {
            let running = !core.runtime.cache.get(pod.uid_str()).containers.is_empty();
            if !running || pod.metadata.deletion_timestamp.is_some() || pod.is_terminal_phase() {
                continue;
            }
            if let Err(errors) = core.volumes.refresh(&pod).await {
                for error in errors {
                    tracing::warn!(pod = pod.format(), %error, "cannot refresh a volume");
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
