//! `orlop agent`, `kubelet` and `proxy`: a node without a control plane of its own.

use anyhow::{Context, Result, bail};
use ipnetwork::IpNetwork;
use kube::config::{KubeConfigOptions, Kubeconfig};
use orlop_kubelet::KubeletHandle;
use orlop_proxy::Proxy;
use tokio_util::sync::CancellationToken;

use crate::cli::{AgentArgs, ProxyArgs};
use crate::config::ConfigFile;
use crate::instance::Instance;
use crate::node::{self, KubeletFiles, ProxyNode};
use crate::progress::Progress;
use crate::settings::{NodeSettings, ProxySettings, node_name};
use crate::{down, notify, preflight, signals};

/// Pod addresses of a node without an API server and without `--pod-cidr`.
const LONE_NODE_POD_CIDR: &str = "10.244.0.0/24";

/// The kubelet, and with `wants_proxy` the service proxy.
pub(crate) async fn agent(args: AgentArgs, wants_proxy: bool) -> Result<()> {
    preflight::root()?;
    let shutdown = signals::shutdown_token()?;
    let progress = Progress::new();
    let file = ConfigFile::read(args.common.config.as_deref())?;
    let settings = NodeSettings::resolve(&args.node, &file, &args.common.data_dir).await?;
    let proxy = ProxySettings::resolve(&args.proxy, &file)?;
    let client = match &args.kubeconfig {
        Some(path) => Some(client_of(path).await?),
        None => None,
    };
    let with_proxy = wants_proxy && client.is_some();
    let instance = Instance::new(&args.common.data_dir)?;
    let fresh = !instance.exists();
    let lock = instance.lock()?;
    let parts = Parts { settings, proxy: with_proxy.then_some(proxy), client };
    let running = match start(&instance, &args, &file, parts, &progress, &shutdown).await {
        Ok(running) => running,
        Err(error) => {
            shutdown.cancel();
            if fresh {
                down::undo(&instance, lock).await;
            }
            return Err(error);
        }
    };
    if wants_proxy && running.proxy.is_none() {
        progress.step("service proxy", "not started: Services need an API server (--kubeconfig)");
    }
    progress.ready(&[]);
    notify::ready("ready");
    shutdown.cancelled().await;
    notify::stopping();
    let all = async {
        running.kubelet.stopped().await;
        if let Some(proxy) = &running.proxy {
            proxy.stopped().await;
        }
    };
    node::within_grace("the node", all).await;
    drop(lock);
    Ok(())
}

/// What a node is started from.
struct Parts {
    settings: NodeSettings,
    /// None: no service proxy.
    proxy: Option<ProxySettings>,
    client: Option<kube::Client>,
}

/// Everything that was started.
struct Running {
    kubelet: KubeletHandle,
    proxy: Option<Proxy>,
}

async fn start(
    instance: &Instance,
    args: &AgentArgs,
    file: &ConfigFile,
    parts: Parts,
    progress: &Progress,
    shutdown: &CancellationToken,
) -> Result<Running> {
    let Parts { settings, proxy, client } = parts;
    preflight::node(&settings, proxy.as_ref())?;
    node::guard_services(&args.service_cluster_ip_range, progress).await?;
    instance.write_record(&node::record(instance, &settings)?)?;
    node::start_runtime(instance, &settings, progress, shutdown).await?;
    let network = node::network_config(instance, &settings.node_name, false);
    let pod_cidrs = pod_cidrs(args, file, client.is_none() && settings.runtime_endpoint.is_none())?;
    if !pod_cidrs.is_empty() {
        orlop_network::set_up(&network, &pod_cidrs).await?;
        progress.step("pod network", "configured");
    } else if let Some(client) = &client {
        tokio::spawn(orlop_network::run(network, client.clone(), shutdown.clone()));
    }
    let kubelet = node::start_kubelet(instance, &settings, kubelet_files(args, file), client.clone(), shutdown).await?;
    progress.step("kubelet", &format!("serving on {}", settings.listen));
    let mut running = Running { kubelet, proxy: None };
    if let (Some(proxy), Some(client)) = (proxy, client) {
        let about = ProxyNode {
            name: &settings.node_name,
            ips: &settings.node_ips,
            cgroup_root: &settings.cgroup_root,
            cluster_cidrs: &args.pod_cidr,
        };
        running.proxy = Some(node::start_proxy(instance, &about, &proxy, client, shutdown).await?);
        progress.step("service proxy", "ebpf");
    }
    Ok(running)
}

/// The Pods' networks that are fixed from outside. Nobody will ever give a lone node its share: it
/// takes the first of the default network.
fn pod_cidrs(args: &AgentArgs, file: &ConfigFile, lone: bool) -> Result<Vec<IpNetwork>> {
    if !args.pod_cidr.is_empty() {
        return Ok(args.pod_cidr.clone());
    }
    match file.kubelet.pod_cidr {
        Some(cidr) => Ok(vec![cidr]),
        None if lone => Ok(vec![LONE_NODE_POD_CIDR.parse()?]),
        None => Ok(Vec::new()),
    }
}

fn kubelet_files(args: &AgentArgs, file: &ConfigFile) -> KubeletFiles {
    let serving = args.tls_cert_file.clone().zip(args.tls_private_key_file.clone());
    let client_ca = args.client_ca_file.clone();
    KubeletFiles {
        serving: serving.or_else(|| file.kubelet.tls_cert_file.clone().zip(file.kubelet.tls_private_key_file.clone())),
        client_ca: client_ca
            .or_else(|| file.kubelet.authentication.as_ref().and_then(|a| a.x509.client_ca_file.clone())),
    }
}

pub(crate) async fn proxy(args: ProxyArgs) -> Result<()> {
    preflight::root()?;
    let shutdown = signals::shutdown_token()?;
    let progress = Progress::new();
    let file = ConfigFile::read(args.common.config.as_deref())?;
    let settings = ProxySettings::resolve(&args.proxy, &file)?;
    let instance = Instance::new(&args.common.data_dir)?;
    if args.cleanup {
        return node::remove_dataplane(&node::bpffs_dir(&instance));
    }
    let name = node_name(args.hostname_override.as_deref().or(file.proxy.hostname_override.as_deref()))?;
    let kubeconfig = args
        .kubeconfig
        .clone()
        .or_else(|| file.proxy.client_connection.as_ref().and_then(|c| c.kubeconfig.clone()))
        .context("the service proxy needs an API server: give --kubeconfig")?;
    let client = client_of(&kubeconfig).await?;
    preflight::proxy(&settings)?;
    node::guard_services(&args.service_cluster_ip_range, &progress).await?;
    let ips = if args.node_ip.is_empty() {
        vec![orlop_host::netlink::node_ip().await.context("no address for this node: give --node-ip")?]
    } else {
        args.node_ip.clone()
    };
    let cluster_cidrs = if args.cluster_cidr.is_empty() {
        let text = file.proxy.cluster_cidr.clone().unwrap_or_default();
        text.split(',')
            .filter(|t| !t.is_empty())
            .map(|t| t.parse().with_context(|| format!("clusterCIDR {t:?} is not a network")))
            .collect::<Result<_>>()?
    } else {
        args.cluster_cidr.clone()
    };
    let cgroup_root = args.cgroup_root.as_deref().unwrap_or("/");
    let about = ProxyNode { name: &name, ips: &ips, cgroup_root, cluster_cidrs: &cluster_cidrs };
    let proxy = node::start_proxy(&instance, &about, &settings, client, &shutdown).await?;
    progress.step("service proxy", "ebpf");
    progress.ready(&[]);
    notify::ready("ready");
    shutdown.cancelled().await;
    node::within_grace("the service proxy", proxy.stopped()).await;
    Ok(())
}

/// A client from a kubeconfig's current context.
async fn client_of(path: &std::path::Path) -> Result<kube::Client> {
    let read = || -> Result<Kubeconfig> {
        if !path.is_file() {
            bail!("there is no such file");
        }
        Ok(Kubeconfig::read_from(path)?)
    };
    let kubeconfig = read().with_context(|| format!("--kubeconfig {}", path.display()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("--kubeconfig {}", path.display()))?;
    kube::Client::try_from(config).with_context(|| format!("--kubeconfig {}", path.display()))
}
