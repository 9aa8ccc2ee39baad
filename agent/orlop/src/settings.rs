//! From flags, configuration file and defaults to what the parts are started with. Flags win.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Taint;

use crate::cli::{CgroupDriverArg, NodeArgs, ProxyFlags};
use crate::config::ConfigFile;

const DEFAULT_DATA_DIR: &str = "/var/lib/orlop";

/// What the kubelet's side of a node is started with.
#[derive(Clone, Debug)]
pub(crate) struct NodeSettings {
    pub(crate) node_name: String,
    pub(crate) node_ips: Vec<IpAddr>,
    pub(crate) root_dir: PathBuf,
    pub(crate) pod_manifest_path: PathBuf,
    pub(crate) pod_logs_dir: PathBuf,
    /// A runtime that somebody else runs; `None` for our own containerd.
    pub(crate) runtime_endpoint: Option<String>,
    pub(crate) systemd_cgroup: bool,
    pub(crate) cgroup_root: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) max_pods: i64,
    pub(crate) listen: SocketAddr,
    pub(crate) cluster_dns: Vec<IpAddr>,
    pub(crate) cluster_domain: String,
    pub(crate) resolv_conf: PathBuf,
}

/// What the service proxy is started with.
#[derive(Clone, Debug)]
pub(crate) struct ProxySettings {
    pub(crate) healthz: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) nodeport_addresses: Vec<IpNetwork>,
}

impl NodeSettings {
    pub(crate) async fn resolve(args: &NodeArgs, file: &ConfigFile, data_dir: &Path) -> Result<Self> {
        let own_dir = data_dir == Path::new(DEFAULT_DATA_DIR);
        let beside = |usual: &str, name: &str| if own_dir { PathBuf::from(usual) } else { data_dir.join(name) };
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let kubelet = &file.kubelet;
        let labels = if args.node_labels.is_empty() {
            file.orlop.node_labels.clone()
        } else {
            args.node_labels.iter().map(|l| label(l)).collect::<Result<_>>()?
        };
        let taints = if args.register_with_taints.is_empty() {
            kubelet.register_with_taints.clone()
        } else {
            args.register_with_taints.iter().map(|t| taint(t)).collect::<Result<_>>()?
        };
        let port = args.port.or(kubelet.port).unwrap_or(10250);
        let address = args.address.or(kubelet.address).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Ok(Self {
            node_name: node_name(args.hostname_override.as_deref().or(file.orlop.hostname_override.as_deref()))?,
            node_ips: node_ips(first(&args.node_ip, &file.orlop.node_ip)).await?,
            root_dir: absolute(
                args.root_dir
                    .clone()
                    .or(file.orlop.root_dir.clone())
                    .unwrap_or_else(|| beside("/var/lib/kubelet", "kubelet")),
            ),
            pod_manifest_path: absolute(
                args.pod_manifest_path
                    .clone()
                    .or(kubelet.static_pod_path.clone())
                    .unwrap_or_else(|| PathBuf::from("/etc/kubernetes/manifests")),
            ),
            pod_logs_dir: absolute(
                args.pod_logs_dir
                    .clone()
                    .or(kubelet.pod_logs_dir.clone())
                    .unwrap_or_else(|| beside("/var/log/pods", "log/pods")),
            ),
            runtime_endpoint: args
                .container_runtime_endpoint
                .clone()
                .or(kubelet.container_runtime_endpoint.clone())
                .filter(|e| !e.is_empty()),
            systemd_cgroup: systemd_cgroup(args.cgroup_driver, kubelet.cgroup_driver.as_deref())?,
            cgroup_root: args.cgroup_root.clone().or(kubelet.cgroup_root.clone()).unwrap_or_else(|| "/".to_owned()),
            labels,
            taints,
            max_pods: args.max_pods.or(kubelet.max_pods).unwrap_or(110),
            listen: SocketAddr::new(address, port),
            cluster_dns: first(&args.cluster_dns, &kubelet.cluster_dns).to_vec(),
            cluster_domain: args
                .cluster_domain
                .clone()
                .or(kubelet.cluster_domain.clone())
                .unwrap_or_else(|| "cluster.local".to_owned()),
            resolv_conf: kubelet.resolv_conf.clone().unwrap_or_else(|| PathBuf::from("/etc/resolv.conf")),
        })
    }
}

impl ProxySettings {
    pub(crate) fn resolve(flags: &ProxyFlags, file: &ConfigFile) -> Result<Self> {
        let mode = flags.proxy_mode.as_deref().or(file.proxy.mode.as_deref()).unwrap_or("auto");
        match mode {
            "" | "auto" | "ebpf" => {}
            "iptables" | "ipvs" | "nftables" | "userspace" => {
                bail!("--proxy-mode {mode} is not supported by this version: give auto or ebpf")
            }
            other => bail!("--proxy-mode {other:?} is not known: give auto or ebpf"),
        }
        let or = |flag: &Option<String>, file: &Option<String>, default: &str| {
            flag.clone().or(file.clone()).unwrap_or_else(|| default.to_owned())
        };
        let healthz = or(&flags.healthz_bind_address, &file.proxy.healthz_bind_address, "0.0.0.0:10256");
        let metrics = or(&flags.metrics_bind_address, &file.proxy.metrics_bind_address, "127.0.0.1:10249");
        Ok(Self {
            healthz: optional_address("healthz-bind-address", &healthz)?,
            metrics: optional_address("metrics-bind-address", &metrics)?,
            nodeport_addresses: first(&flags.nodeport_addresses, &file.proxy.node_port_addresses).to_vec(),
        })
    }
}

pub(crate) fn first<'a, T>(flag: &'a [T], file: &'a [T]) -> &'a [T] {
    if flag.is_empty() { file } else { flag }
}

/// `HOST:PORT`, or nothing for "switched off".
fn optional_address(flag: &str, text: &str) -> Result<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        anyhow::anyhow!(
            "--{flag} {text:?} is not an address: give IP:PORT, such as 127.0.0.1:10249, or \"\" to switch it off"
        )
    })
}

/// The Node's name: lower case, and a name that the API server accepts.
pub(crate) fn node_name(given: Option<&str>) -> Result<String> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    let name = name.trim().to_lowercase();
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if name.is_empty() || name.len() > 253 || !name.split('.').all(label) {
        bail!("the node name {name:?} is not a DNS name (a-z, 0-9, '-', '.'): give --hostname-override");
    }
    Ok(name)
}

async fn node_ips(given: &[IpAddr]) -> Result<Vec<IpAddr>> {
    match given {
        [] => Ok(vec![orlop_host::netlink::node_ip().await.context("no address for this node: give --node-ip")?]),
        [_] => Ok(given.to_vec()),
        [a, b] if a.is_ipv4() != b.is_ipv4() => Ok(given.to_vec()),
        _ => bail!("--node-ip takes one address, or one of IPv4 and one of IPv6"),
    }
}

/// Upstream's default is cgroupfs; where systemd owns a cgroup v2 tree, only the systemd driver is right.
fn systemd_cgroup(flag: Option<CgroupDriverArg>, file: Option<&str>) -> Result<bool> {
    let from_file = match file {
        None | Some("") => None,
        Some("systemd") => Some(CgroupDriverArg::Systemd),
        Some("cgroupfs") => Some(CgroupDriverArg::Cgroupfs),
        Some(other) => bail!("cgroupDriver {other:?} is not known: give cgroupfs or systemd"),
    };
    Ok(match flag.or(from_file).unwrap_or(CgroupDriverArg::Auto) {
        CgroupDriverArg::Systemd => true,
        CgroupDriverArg::Cgroupfs => false,
        CgroupDriverArg::Auto => {
            Path::new("/run/systemd/system").is_dir() && Path::new("/sys/fs/cgroup/cgroup.controllers").is_file()
        }
    })
}

fn label(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').with_context(|| format!("--node-labels {text:?}: give KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn taint(text: &str) -> Result<Taint> {
    let parsed = (|| {
        let (left, effect) = text.rsplit_once(':')?;
        let (key, value) = left.split_once('=').map_or((left, None), |(k, v)| (k, Some(v.to_owned())));
        let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect);
        (known && !key.is_empty()).then(|| Taint {
            key: key.to_owned(),
            value: value.filter(|v| !v.is_empty()),
            effect: effect.to_owned(),
            time_added: None,
        })
    })();
    parsed.with_context(|| {
        format!("--register-with-taints {text:?}: give KEY=VALUE:EFFECT with NoSchedule, PreferNoSchedule or NoExecute")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_and_labels() {
        let parsed = taint("a/b=c:NoExecute").unwrap();
        assert_eq!(
            (parsed.key.as_str(), parsed.value.as_deref(), parsed.effect.as_str()),
            ("a/b", Some("c"), "NoExecute")
        );
        assert_eq!(taint("a:NoSchedule").unwrap().value, None);
        assert!(taint("a=b").is_err());
        assert!(taint("a=b:Never").unwrap_err().to_string().contains("a=b:Never"));
        assert!(label("a").is_err());
    }

    #[test]
    fn node_names() {
        assert_eq!(node_name(Some("Node-1.Example")).unwrap(), "node-1.example");
        assert!(node_name(Some("node_1")).unwrap_err().to_string().contains("--hostname-override"));
        assert!(node_name(Some("")).is_err());
    }

    #[test]
    fn addresses_can_be_switched_off() {
        assert_eq!(optional_address("x", "").unwrap(), None);
        assert!(
            optional_address("metrics-bind-address", "localhost")
                .unwrap_err()
                .to_string()
                .contains("--metrics-bind-address")
        );
    }
}
