//! The pod network of one node: a bridge that the CNI plugins fill, and routes to the other nodes.
//!
//! ```text
//! own Node.spec.podCIDRs ──► conflist (pure) ──► <cni dir>/10-orlop.conflist ──► the runtime's CNI
//! all Nodes ──► plan_routes (pure) ──► netlink
//! ```
//!
//! The runtime watches the directory, so a node turns Ready as soon as the file is there.

mod conflist;
mod routes;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt, watcher};
use orlop_host::netlink::{self, Netlink, NetlinkError};
use tokio_util::sync::CancellationToken;

pub use conflist::{BRIDGE, CONFLIST_FILE};

/// Where this instance keeps its part of the pod network.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    pub node_name: String,
    /// The runtime's CNI configuration directory.
    pub cni_conf_dir: PathBuf,
    /// Address leases of the `host-local` plugin.
    pub ipam_dir: PathBuf,
    /// MTU of the pod interfaces; `None` takes the uplink's.
    pub mtu: Option<u32>,
    /// The client may read all Nodes, so routes to their Pods can be kept. A kubelet's own
    /// credentials show it no Node but its own (`AuthorizeNodeWithSelectors`).
    pub all_nodes: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("writing {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("removing {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the pod network's routes or interfaces")]
    Netlink(#[from] NetlinkError),
    #[error("pod CIDR {0:?} of this node is not a network")]
    PodCidr(String),
}

/// Sets the network up for fixed pod CIDRs (a standalone node, `podCIDR` of the kubelet's configuration).
pub async fn set_up(config: &NetworkConfig, pod_cidrs: &[IpNetwork]) -> Result<(), NetworkError> {
    // A pod address that no interface claims must not follow the default route out of the machine.
    for cidr in pod_cidrs {
        netlink::ensure_blackhole(*cidr).await?;
    }
    let text = conflist::render(pod_cidrs, &config.ipam_dir, config.mtu);
    write_atomically(&config.cni_conf_dir.join(CONFLIST_FILE), text.as_bytes())
}

/// Follows the Nodes of the cluster until `shutdown`: this node's pod CIDRs and the routes to the others.
pub async fn run(config: NetworkConfig, client: kube::Client, shutdown: CancellationToken) {
    let nodes = kube::Api::<Node>::all(client);
    let (reader, writer) = kube::runtime::reflector::store();
    let mut wanted = watcher::Config::default();
    if !config.all_nodes {
        wanted = wanted.fields(&format!("metadata.name={}", config.node_name));
    }
    let stream = kube::runtime::reflector(writer, watcher(nodes, wanted)).default_backoff().applied_objects();
    let mut stream = std::pin::pin!(stream);
    let mut installed: Vec<IpNetwork> = Vec::new();
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = stream.next() => event,
        };
        match event {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(error = %error, "watching nodes");
                continue;
            }
            Some(Ok(_)) => {}
        }
        let known: Vec<_> = reader.state();
        if let Err(error) = reconcile(&config, &known, &mut installed).await {
            tracing::warn!(error = %chain(&error), "pod network");
        }
    }
}

async fn reconcile(
    config: &NetworkConfig,
    nodes: &[std::sync::Arc<Node>],
    installed: &mut Vec<IpNetwork>,
) -> Result<(), NetworkError> {
    let Some(own) = nodes.iter().find(|n| n.metadata.name.as_deref() == Some(config.node_name.as_str())) else {
        return Ok(());
    };
    let cidrs = pod_cidrs(own)?;
    if !cidrs.is_empty() && cidrs != *installed {
        set_up(config, &cidrs).await?;
        tracing::info!(?cidrs, "pod network configured");
        *installed = cidrs;
    }
    let link = Netlink::connect()?;
    let plan = routes::plan(&config.node_name, nodes, &link.routes_of_ours().await?, &link.addresses().await?);
    for route in &plan.remove {
        link.remove_route(route).await?;
    }
    for route in &plan.put {
        link.put_route(route).await?;
        tracing::info!(destination = %route.destination, gateway = ?route.gateway, "route to a node's pods");
    }
    Ok(())
}

/// The pod CIDRs that the control plane gave to `node`; empty until it did.
pub fn pod_cidrs(node: &Node) -> Result<Vec<IpNetwork>, NetworkError> {
    let Some(spec) = &node.spec else { return Ok(Vec::new()) };
    let texts = match &spec.pod_cidrs {
        Some(list) if !list.is_empty() => list.clone(),
        _ => spec.pod_cidr.clone().into_iter().collect(),
    };
    texts.into_iter().map(|t| t.parse().map_err(|_| NetworkError::PodCidr(t))).collect()
}

/// Removes what the pod network left on the node: bridge, CNI files, leases, routes. Goes on past errors.
pub async fn clean_up(config: &NetworkConfig) -> Result<(), Vec<NetworkError>> {
    let mut errors = Vec::new();
    match remove_bridge().await {
        Ok(()) => {}
        Err(error) => errors.push(error.into()),
    }
    if let Err(list) = netlink::remove_routes_of_ours().await {
        errors.extend(list.into_iter().map(NetworkError::from));
    }
    for path in [config.cni_conf_dir.join(CONFLIST_FILE), config.ipam_dir.clone()] {
        if let Err(source) = remove_any(&path) {
            errors.push(NetworkError::Remove { path, source });
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

async fn remove_bridge() -> Result<(), NetlinkError> {
    let link = Netlink::connect()?;
    match link.links().await?.into_iter().find(|l| l.name == BRIDGE && l.kind == "bridge") {
        Some(found) => link.delete_link(found.index).await,
        None => Ok(()),
    }
}

fn remove_any(path: &Path) -> std::io::Result<()> {
    let gone = |error: std::io::Error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) };
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path).or_else(gone),
        Ok(_) => std::fs::remove_file(path).or_else(gone),
        Err(error) => gone(error),
    }
}

/// The runtime reads the file as soon as it appears, so it must appear whole.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Write { path: path.to_owned(), source };
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).map_err(failed)?;
    std::fs::rename(&partial, path).map_err(failed)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// First InternalIP of `node` in the family of `like`.
fn internal_ip(node: &Node, like: IpAddr) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.as_deref().unwrap_or_default();
    addresses
        .iter()
        .filter(|a| a.type_ == "InternalIP")
        .filter_map(|a| a.address.parse::<IpAddr>().ok())
        .find(|ip| ip.is_ipv4() == like.is_ipv4())
}
