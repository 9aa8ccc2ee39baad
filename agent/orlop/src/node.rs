//! Starting the parts of a node: container runtime, pod network, kubelet, service proxy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use orlop_dataplane::{EbpfBackend, EbpfConfig};
use orlop_host::cgroup::{CgroupPath, Hierarchies};
use orlop_kubelet::container_manager::CgroupDriver;
use orlop_kubelet::{Kubelet, KubeletHandle, KubeletOptions};
use orlop_network::NetworkConfig;
use orlop_proxy::{NodePortAddresses, Proxy, ProxyConfig};
use orlop_runtime::RuntimeOptions;
use tokio_util::sync::CancellationToken;

use crate::containerd::{Containerd, ContainerdConfig, Origin, import_all};
use crate::instance::{Instance, Record};
use crate::progress::Progress;
use crate::settings::{NodeSettings, ProxySettings};

/// Where this instance pins its programs: two instances never share a directory.
pub(crate) fn bpffs_dir(instance: &Instance) -> PathBuf {
    let name: String = instance
        .data_dir
        .to_string_lossy()
        .trim_start_matches('/')
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    PathBuf::from("/sys/fs/bpf/orlop").join(name)
}

/// What `down` will have to undo; written before any of it is made.
pub(crate) fn record(instance: &Instance, node: &NodeSettings) -> Result<Record> {
    let before = instance.record()?;
    let cgroup_root = cgroup_path(&node.cgroup_root)?;
    let made_before = before.made_cgroup_root && before.cgroup_root == node.cgroup_root;
    Ok(Record {
        made_cgroup_root: made_before || !Hierarchies::discover()?.exists(&cgroup_root),
        root_dir: node.root_dir.clone(),
        pod_logs_dir: node.pod_logs_dir.clone(),
        cgroup_root: node.cgroup_root.clone(),
        cgroup_driver: if node.systemd_cgroup { "systemd" } else { "cgroupfs" }.to_owned(),
        bpffs_dir: bpffs_dir(instance),
        runtime_endpoint: runtime_endpoint(instance, node),
        own_runtime: node.runtime_endpoint.is_none(),
        node_name: node.node_name.clone(),
    })
}

fn runtime_endpoint(instance: &Instance, node: &NodeSettings) -> String {
    match &node.runtime_endpoint {
        Some(endpoint) => endpoint.clone(),
        None => format!("unix://{}", instance.containerd_socket().display()),
    }
}

/// No packet for a Service may follow the default route out, whatever happens later.
pub(crate) async fn guard_services(cidrs: &[IpNetwork], progress: &Progress) -> Result<()> {
    for cidr in cidrs {
        orlop_host::netlink::ensure_unreachable(*cidr)
            .await
            .with_context(|| format!("making {cidr} unreachable outside of the service proxy"))?;
    }
    if !cidrs.is_empty() {
        let list: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
        progress.step("routes", &format!("{} unreachable unless a Service answers", list.join(", ")));
    }
    Ok(())
}

/// A runtime that answers, with the images of the data directory in it.
pub(crate) async fn start_runtime(
    instance: &Instance,
    node: &NodeSettings,
    progress: &Progress,
    shutdown: &CancellationToken,
) -> Result<Option<Origin>> {
    if let Some(endpoint) = &node.runtime_endpoint {
        progress.step("container runtime", &format!("{endpoint} adopted"));
        return Ok(None);
    }
    let containerd = Containerd::prepare(instance, &ContainerdConfig::detect(node.systemd_cgroup)?)?;
    let origin = containerd.ensure().await?;
    progress.step("containerd", if origin == Origin::Started { "started" } else { "adopted" });
    let imported = import_all(instance, containerd.socket()).await?;
    if imported > 0 {
        progress.step("images", &format!("{imported} tarballs imported"));
    }
    tokio::spawn(containerd.supervise(shutdown.clone()));
    Ok(Some(origin))
}

pub(crate) fn network_config(instance: &Instance, node_name: &str, all_nodes: bool) -> NetworkConfig {
    NetworkConfig {
        node_name: node_name.to_owned(),
        cni_conf_dir: instance.cni_conf_dir(),
        ipam_dir: instance.ipam_dir(),
        mtu: None,
        all_nodes,
    }
}

/// Certificates of the kubelet's server.
#[derive(Clone, Debug, Default)]
pub(crate) struct KubeletFiles {
    pub(crate) serving: Option<(PathBuf, PathBuf)>,
    pub(crate) client_ca: Option<PathBuf>,
}

pub(crate) async fn start_kubelet(
    instance: &Instance,
    node: &NodeSettings,
    files: KubeletFiles,
    client: Option<kube::Client>,
    shutdown: &CancellationToken,
) -> Result<KubeletHandle> {
    let mut options = KubeletOptions::new(&node.node_name);
    options.node_ips = node.node_ips.clone();
    options.root_dir = node.root_dir.clone();
    options.state_dir = instance.data_dir.join("kubelet-state");
    options.pod_manifest_path = Some(node.pod_manifest_path.clone());
    options.pod_logs_dir = node.pod_logs_dir.clone();
    options.runtime = RuntimeOptions { endpoint: runtime_endpoint(instance, node), ..RuntimeOptions::default() };
    options.cluster_dns = node.cluster_dns.clone();
    options.cluster_domain = node.cluster_domain.clone();
    options.resolver_config = node.resolv_conf.clone();
    options.cgroup_driver = if node.systemd_cgroup { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
    options.cgroup_root = node.cgroup_root.clone();
    options.max_pods = node.max_pods;
    options.server_listen = Some(node.listen);
    options.server_tls = files.serving;
    options.client_ca_file = files.client_ca;
    options.node_labels = node.labels.clone();
    options.register_with_taints = node.taints.clone();
    options.version = crate::version::KUBERNETES.to_owned();
    ensure_cgroup_root(&node.cgroup_root)?;
    Ok(Kubelet::start(options, client, shutdown.clone()).await?)
}

fn cgroup_path(root: &str) -> Result<CgroupPath> {
    CgroupPath::parse(root).with_context(|| format!("--cgroup-root {root:?} is not a path of a control group"))
}

/// Upstream wants `cgroupRoot` to be there already; making it spares the operator a step.
fn ensure_cgroup_root(root: &str) -> Result<()> {
    let path = cgroup_path(root)?;
    if path.is_root() {
        return Ok(());
    }
    Hierarchies::discover()?.create(&path).with_context(|| format!("creating the control group {root}"))
}

/// The control group below which Services are answered.
fn service_cgroup(root: &str) -> Result<Option<PathBuf>> {
    let path = cgroup_path(root)?;
    if path.is_root() {
        return Ok(None);
    }
    Ok(Hierarchies::discover()?.unified_dir(&path))
}

/// What the service proxy has to know of its node.
pub(crate) struct ProxyNode<'a> {
    pub(crate) name: &'a str,
    pub(crate) ips: &'a [std::net::IpAddr],
    pub(crate) cgroup_root: &'a str,
    pub(crate) cluster_cidrs: &'a [IpNetwork],
}

pub(crate) fn ebpf_config(instance: &Instance, node: &ProxyNode<'_>) -> Result<EbpfConfig> {
    Ok(EbpfConfig {
        cgroup_root: service_cgroup(node.cgroup_root)?,
        bpffs_dir: bpffs_dir(instance),
        node_ips: node.ips.to_vec(),
        ..EbpfConfig::default()
    })
}

pub(crate) async fn start_proxy(
    instance: &Instance,
    node: &ProxyNode<'_>,
    settings: &ProxySettings,
    client: kube::Client,
    shutdown: &CancellationToken,
) -> Result<Proxy> {
    ensure_cgroup_root(node.cgroup_root)?;
    let backend = EbpfBackend::new(ebpf_config(instance, node)?)?;
    let mut config = ProxyConfig::new(node.name, node.ips.to_vec());
    config.cluster_cidrs = node.cluster_cidrs.to_vec();
    if !settings.nodeport_addresses.is_empty() {
        config.node_port_addresses = NodePortAddresses::Networks(settings.nodeport_addresses.clone());
    }
    config.healthz_bind_address = settings.healthz;
    config.metrics_bind_address = settings.metrics;
    Ok(Proxy::start(config, client, Box::new(backend), shutdown.clone()).await?)
}

/// Takes the pinned programs and maps out of the kernel.
pub(crate) fn remove_dataplane(bpffs_dir: &Path) -> Result<()> {
    orlop_dataplane::remove(bpffs_dir).map_err(|errors| {
        let list: Vec<String> = errors.iter().map(|(path, error)| format!("{}: {error}", path.display())).collect();
        anyhow::anyhow!("{}", list.join("; "))
    })
}

/// A clean stop is done within five seconds; what takes longer is left to the process's end.
pub(crate) async fn within_grace<T>(what: &str, work: impl Future<Output = T>) {
    if tokio::time::timeout(Duration::from_secs(4), work).await.is_err() {
        tracing::warn!("{what} took too long to stop; not waiting for it");
    }
}
