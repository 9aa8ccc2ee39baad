//! `orlop up` and `orlop server`: the control plane, alone or with a node.
//!
//! ```text
//! route guard ─► containerd, images ─────────────┐
//!             └► certificates, store, API server ┴► pod network, kubelet, proxy ─► Node Ready
//! ```

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt, watcher};
use orlop_plane::{Plane, PlaneConfig, Step, UserInfo};
use tokio_util::sync::CancellationToken;

use crate::cli::{ServerArgs, UpArgs};
use crate::cluster_settings::ClusterSettings;
use crate::config::ConfigFile;
use crate::containerd::Origin;
use crate::instance::Instance;
use crate::node::{self, KubeletFiles, ProxyNode};
use crate::progress::Progress;
use crate::settings::{NodeSettings, ProxySettings, node_name};
use crate::{down, notify, preflight, signals};

pub(crate) async fn up(args: UpArgs) -> Result<()> {
    preflight::root()?;
    let shutdown = signals::shutdown_token()?;
    let progress = Arc::new(Progress::new());
    let file = ConfigFile::read(args.common.config.as_deref())?;
    let node = NodeSettings::resolve(&args.node, &file, &args.common.data_dir).await?;
    let cluster = ClusterSettings::resolve(&args.cluster, &args.api, &file)?;
    let proxy = ProxySettings::resolve(&args.proxy, &file)?;
    let instance = Instance::new(&args.common.data_dir)?;
    let fresh = !instance.exists();
    let lock = instance.lock()?;
    let started = async {
        preflight::port("API server", cluster.listen, "--secure-port")?;
        preflight::node(&node, Some(&proxy))?;
        start(&instance, &node, &cluster, &proxy, &progress, &shutdown).await
    };
    let running = match started.await {
        Ok(running) => running,
        Err(error) => {
            shutdown.cancel();
            if fresh {
                down::undo(&instance, lock).await;
            }
            return Err(error);
        }
    };
    progress.ready(&next_steps(running.plane.admin_kubeconfig_path()));
    notify::ready("the node is Ready");
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = running.plane.stopped() => tracing::error!("the control plane ended"),
    }
    notify::stopping();
    shutdown.cancel();
    running.stop().await;
    drop(lock);
    Ok(())
}

/// Everything that `up` started.
struct Running {
    plane: Plane,
    kubelet: orlop_kubelet::KubeletHandle,
    proxy: orlop_proxy::Proxy,
}

impl Running {
    async fn stop(self) {
        let all = async {
            let _ = tokio::join!(self.kubelet.stopped(), self.proxy.stopped(), self.plane.stopped());
        };
        node::within_grace("the node", all).await;
    }
}

async fn start(
    instance: &Instance,
    settings: &NodeSettings,
    cluster: &ClusterSettings,
    proxy: &ProxySettings,
    progress: &Arc<Progress>,
    shutdown: &CancellationToken,
) -> Result<Running> {
    node::guard_services(&cluster.service_cidrs, progress).await?;
    instance.write_record(&node::record(instance, settings)?)?;
    let plane_config = plane_config(instance, settings.node_ips.clone(), &settings.node_name, cluster);
    let (runtime, plane) = tokio::join!(
        node::start_runtime(instance, settings, progress, shutdown),
        start_plane(plane_config, progress, shutdown),
    );
    let _: Option<Origin> = runtime?;
    let plane = plane?;

    let name = &settings.node_name;
    let node_client = plane.client(node_user(name));
    let network = node::network_config(instance, name, true);
    tokio::spawn(orlop_network::run(network, plane.client(proxy_user()), shutdown.clone()));
    let pki = plane.kubelet_pki();
    let files = KubeletFiles {
        serving: Some((pki.serving_cert.clone(), pki.serving_key.clone())),
        client_ca: Some(pki.ca.clone()),
    };
    let kubelet = node::start_kubelet(instance, settings, files, Some(node_client), shutdown).await?;
    progress.step("kubelet", &format!("{name}, serving on {}", settings.listen));
    let about = ProxyNode {
        name,
        ips: &settings.node_ips,
        cgroup_root: &settings.cgroup_root,
        cluster_cidrs: &cluster.cluster_cidrs,
    };
    let proxy = node::start_proxy(instance, &about, proxy, plane.client(proxy_user()), shutdown).await?;
    progress.step("service proxy", "ebpf");
    wait_until_ready(&plane, name, progress, shutdown).await?;
    Ok(Running { plane, kubelet, proxy })
}

async fn start_plane(mut config: PlaneConfig, progress: &Arc<Progress>, shutdown: &CancellationToken) -> Result<Plane> {
    let lines = progress.clone();
    config.progress = Arc::new(move |step| {
        let (what, result) = describe(step);
        lines.step(what, &result);
    });
    Ok(orlop_plane::start(config, shutdown.clone()).await?)
}

/// A step of the control plane, in two words.
fn describe(step: &Step) -> (&'static str, String) {
    match step {
        Step::Store { keys: 0, .. } => ("store", "created".to_owned()),
        Step::Store { revision, keys, .. } => ("store", format!("opened at revision {revision}, {keys} keys")),
        Step::Certificates { issued: 0, .. } => ("certificates", "valid".to_owned()),
        Step::Certificates { dir, issued } => ("certificates", format!("{issued} issued in {}", dir.display())),
        Step::ApiServer { address } => ("API server", format!("https://{address}")),
        Step::Kubeconfig { path, .. } => ("kubeconfig", path.display().to_string()),
        Step::Scheduler => ("scheduler", "started".to_owned()),
        Step::Controllers => ("controllers", "started".to_owned()),
    }
}

/// The kubelet's identity, as its certificate has it (node authorization and NodeRestriction apply).
fn node_user(name: &str) -> UserInfo {
    UserInfo::new(format!("system:node:{name}"), &["system:nodes"])
}

fn proxy_user() -> UserInfo {
    UserInfo::new("system:kube-proxy", &[])
}

fn plane_config(instance: &Instance, node_ips: Vec<IpAddr>, node_name: &str, cluster: &ClusterSettings) -> PlaneConfig {
    let clock = Arc::new(k8s_openapi::jiff::Timestamp::now);
    let mut config = PlaneConfig::new(instance.data_dir.clone(), node_name.to_owned(), node_ips, clock);
    if let Some(address) = cluster.advertise_address {
        config.advertise_address = address;
    }
    config.bind_address = cluster.listen.ip();
    config.secure_port = cluster.listen.port();
    config.service_cidrs.clone_from(&cluster.service_cidrs);
    config.cluster_cidrs.clone_from(&cluster.cluster_cidrs);
    config.extra_sans.clone_from(&cluster.tls_sans);
    config
}

/// Follows the Node until its Ready condition is True; says now and then what it waits for.
async fn wait_until_ready(plane: &Plane, name: &str, progress: &Progress, shutdown: &CancellationToken) -> Result<()> {
    let nodes = kube::Api::<Node>::all(plane.client(node_user(name)));
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = std::pin::pin!(watcher(nodes, config).default_backoff().applied_objects());
    let mut said = String::new();
    let mut tick = tokio::time::interval(std::time::Duration::from_secs(10));
    tick.tick().await;
    let mut last = "the Node is not registered".to_owned();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => anyhow::bail!("stopped before the node was Ready; it waited for: {last}"),
            _ = tick.tick() => if said != last {
                progress.step("waiting", &last);
                said.clone_from(&last);
            },
            node = stream.next() => match node {
                Some(Ok(node)) => match readiness(&node) {
                    Ok(()) => return Ok(()),
                    Err(reason) => last = reason,
                },
                Some(Err(error)) => last = format!("watching the Node: {error}"),
                None => anyhow::bail!("the watch of the Node ended"),
            },
        }
    }
}

fn readiness(node: &Node) -> Result<(), String> {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    match conditions.iter().find(|c| c.type_ == "Ready") {
        Some(ready) if ready.status == "True" => Ok(()),
        Some(ready) => Err(ready.message.clone().unwrap_or_else(|| "the Node is not Ready".to_owned())),
        None => Err("the Node has no status".to_owned()),
    }
}

fn next_steps(kubeconfig: &Path) -> Vec<String> {
    vec![
        format!("export KUBECONFIG={}", kubeconfig.display()),
        "kubectl get nodes".to_owned(),
        "kubectl create deployment web --image=orlop.local/busybox:1.37 -- httpd -f".to_owned(),
    ]
}

pub(crate) async fn server(args: ServerArgs) -> Result<()> {
    let shutdown = signals::shutdown_token()?;
    let progress = Arc::new(Progress::new());
    let file = ConfigFile::read(args.common.config.as_deref())?;
    let cluster = ClusterSettings::resolve(&args.cluster, &args.api, &file)?;
    let instance = Instance::new(&args.common.data_dir)?;
    let lock = instance.lock()?;
    preflight::port("API server", cluster.listen, "--secure-port")?;
    let ip = match cluster.advertise_address {
        Some(ip) => ip,
        None if !cluster.listen.ip().is_unspecified() => cluster.listen.ip(),
        None => orlop_host::netlink::node_ip().await.context("no address to advertise: give --advertise-address")?,
    };
    let config = plane_config(&instance, vec![ip], &node_name(None)?, &cluster);
    let plane = start_plane(config, &progress, &shutdown).await?;
    progress.ready(&next_steps(plane.admin_kubeconfig_path())[..2]);
    notify::ready("the API server is ready");
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = plane.stopped() => tracing::error!("the control plane ended"),
    }
    notify::stopping();
    shutdown.cancel();
    node::within_grace("the control plane", plane.stopped()).await;
    drop(lock);
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};

    use super::*;

    #[test]
    fn readiness_says_what_is_missing() {
        let node = |status: &str| Node {
            status: Some(NodeStatus {
                conditions: Some(vec![NodeCondition {
                    type_: "Ready".into(),
                    status: status.into(),
                    message: Some("network not ready".into()),
                    ..NodeCondition::default()
                }]),
                ..NodeStatus::default()
            }),
            ..Node::default()
        };
        assert_eq!(readiness(&node("True")), Ok(()));
        assert_eq!(readiness(&node("False")), Err("network not ready".to_owned()));
        assert!(readiness(&Node::default()).is_err());
    }
}
