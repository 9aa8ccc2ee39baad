//! What [`crate::start`] needs, and why it can fail.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ipnetwork::IpNetwork;
use orlop_apiserver::authn::Clock;
use prometheus_client::registry::Registry;

use crate::data_dir::DataDirError;
use crate::pki::PkiError;
use crate::progress::Progress;

/// One control plane on one machine.
#[derive(Clone)]
pub struct PlaneConfig {
    /// Everything that is kept lives below it: `store.redb`, `pki/`, `admin.kubeconfig`, `VERSION`.
    pub data_dir: PathBuf,
    /// This machine's Node; its kubelet's certificates are made for it.
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    /// Where clients and Pods reach the API server.
    pub advertise_address: IpAddr,
    pub bind_address: IpAddr,
    /// 0 lets the kernel choose.
    pub secure_port: u16,
    /// `--service-cluster-ip-range`: one, or one of each family, the primary first.
    pub service_cidrs: Vec<IpNetwork>,
    /// `--cluster-cidr`.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// `--service-node-port-range`, inclusive.
    pub node_ports: (u16, u16),
    pub cluster_domain: String,
    /// Further names and addresses for the API server's certificate.
    pub extra_sans: Vec<String>,
    pub metrics: Arc<Mutex<Registry>>,
    /// Wall-clock time.
    pub clock: Clock,
    /// Told of every finished step.
    pub progress: Progress,
}

impl PlaneConfig {
    /// Upstream's and kubeadm's defaults; `advertise_address` is the first node address.
    #[must_use]
    pub fn new(data_dir: PathBuf, node_name: String, node_ips: Vec<IpAddr>, clock: Clock) -> Self {
        let any_v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let network = |a, b, prefix| {
            ipnetwork::Ipv4Network::new(Ipv4Addr::new(a, b, 0, 0), prefix).map(IpNetwork::V4).into_iter().collect()
        };
        Self {
            data_dir,
            node_name,
            advertise_address: node_ips.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            node_ips,
            bind_address: any_v4,
            secure_port: 6443,
            service_cidrs: network(10, 96, 16),
            cluster_cidrs: network(10, 244, 16),
            node_ports: (30000, 32767),
            cluster_domain: "cluster.local".to_owned(),
            extra_sans: Vec::new(),
            metrics: Arc::default(),
            clock,
            progress: Arc::new(|_| {}),
        }
    }

    pub(crate) fn bind(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.secure_port)
    }

    /// `--service-account-issuer`.
    pub(crate) fn issuer(&self) -> String {
        format!("https://kubernetes.default.svc.{}", self.cluster_domain)
    }

    /// The address of `default/kubernetes` in each service range.
    pub(crate) fn service_ips(&self) -> Vec<IpAddr> {
        let first = |cidr: &IpNetwork| match cidr {
            IpNetwork::V4(n) => u32::from(n.network()).checked_add(1).map(|ip| IpAddr::V4(ip.into())),
            IpNetwork::V6(n) => u128::from(n.network()).checked_add(1).map(|ip| IpAddr::V6(ip.into())),
        };
        self.service_cidrs.iter().filter_map(first).collect()
    }

    pub(crate) fn check(&self) -> Result<(), PlaneError> {
        let bad = |flag, detail: String| Err(PlaneError::Config { flag, detail });
        match self.service_cidrs.as_slice() {
            [] => return bad("--service-cluster-ip-range", "at least one range is needed".to_owned()),
            [_] => {}
            [a, b] if a.is_ipv4() != b.is_ipv4() => {}
            [_, _] => {
                return bad("--service-cluster-ip-range", "two ranges must be one of IPv4 and one of IPv6".to_owned());
            }
            more => {
                return bad("--service-cluster-ip-range", format!("{} ranges; at most two are possible", more.len()));
            }
        }
        for service in &self.service_cidrs {
            let usable = if service.is_ipv4() { 8..=30 } else { 64..=126 };
            if !usable.contains(&service.prefix()) {
                let detail = format!("{service}: the prefix must be within /{}../{}", usable.start(), usable.end());
                return bad("--service-cluster-ip-range", detail);
            }
            for pods in &self.cluster_cidrs {
                if pods.contains(service.network()) || service.contains(pods.network()) {
                    return bad("--cluster-cidr", format!("{pods} overlaps the service range {service}"));
                }
            }
        }
        if self.node_ports.0 == 0 || self.node_ports.0 > self.node_ports.1 {
            return bad(
                "--service-node-port-range",
                format!("{}-{} is no range", self.node_ports.0, self.node_ports.1),
            );
        }
        if self.node_name.is_empty() {
            return bad("--hostname-override", "the node needs a name".to_owned());
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    #[error("{flag}: {detail}")]
    Config { flag: &'static str, detail: String },
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Store(#[from] orlop_store::StoreError),
    #[error("a blocking step of the start was cut")]
    Cut(#[from] tokio::task::JoinError),
    #[error(transparent)]
    ApiServer(#[from] orlop_apiserver::StartError),
}
