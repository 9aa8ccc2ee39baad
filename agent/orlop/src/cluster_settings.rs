//! What the control plane of `up` and `server` is started with: networks, address, names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};
use ipnetwork::IpNetwork;

use crate::cli::{ApiServerFlags, ClusterArgs};
use crate::config::ConfigFile;
use crate::settings::first;

/// What the control plane is started with.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSettings {
    pub(crate) service_cidrs: Vec<IpNetwork>,
    pub(crate) cluster_cidrs: Vec<IpNetwork>,
    pub(crate) listen: SocketAddr,
    pub(crate) advertise_address: Option<IpAddr>,
    pub(crate) tls_sans: Vec<String>,
}

impl ClusterSettings {
    pub(crate) fn resolve(cluster: &ClusterArgs, api: &ApiServerFlags, file: &ConfigFile) -> Result<Self> {
        let or_default = |list: &[IpNetwork], default: &str| -> Result<Vec<IpNetwork>> {
            if list.is_empty() { Ok(vec![default.parse()?]) } else { Ok(list.to_vec()) }
        };
        let service_cidrs =
            or_default(first(&cluster.service_cluster_ip_range, &file.orlop.service_cluster_ip_range), "10.96.0.0/16")?;
        let cluster_cidrs = or_default(first(&cluster.cluster_cidr, &file.orlop.cluster_cidr), "10.244.0.0/16")?;
        check_cidrs("service-cluster-ip-range", &service_cidrs)?;
        check_cidrs("cluster-cidr", &cluster_cidrs)?;
        for (service, cluster) in service_cidrs.iter().flat_map(|s| cluster_cidrs.iter().map(move |c| (s, c))) {
            if service.contains(cluster.network()) || cluster.contains(service.network()) {
                bail!("--service-cluster-ip-range {service} and --cluster-cidr {cluster} overlap: give networks apart");
            }
        }
        let port = api.secure_port.or(file.orlop.secure_port).unwrap_or(6443);
        let address = api.bind_address.or(file.orlop.bind_address).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Ok(Self {
            service_cidrs,
            cluster_cidrs,
            listen: SocketAddr::new(address, port),
            advertise_address: api.advertise_address.or(file.orlop.advertise_address),
            tls_sans: first(&api.tls_san, &file.orlop.tls_sans).to_vec(),
        })
    }
}

/// One network, or one of each family.
fn check_cidrs(flag: &str, cidrs: &[IpNetwork]) -> Result<()> {
    match cidrs {
        [_] => {}
        [a, b] if a.is_ipv4() != b.is_ipv4() => {}
        _ => bail!("--{flag} takes one network, or one of IPv4 and one of IPv6"),
    }
    for cidr in cidrs {
        if cidr.ip() != cidr.network() {
            bail!("--{flag} {cidr} has host bits set: give {}/{}", cidr.network(), cidr.prefix());
        }
        let host_bits = (if cidr.is_ipv4() { 32 } else { 128 }) - cidr.prefix();
        if host_bits < 4 {
            bail!("--{flag} {cidr} is too small: at least 16 addresses are needed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(service: &[&str], pods: &[&str]) -> Result<ClusterSettings> {
        let parse = |list: &[&str]| list.iter().map(|c| c.parse().unwrap()).collect();
        let cluster = ClusterArgs { service_cluster_ip_range: parse(service), cluster_cidr: parse(pods) };
        let api =
            ApiServerFlags { secure_port: None, bind_address: None, advertise_address: None, tls_san: Vec::new() };
        ClusterSettings::resolve(&cluster, &api, &ConfigFile::default())
    }

    #[test]
    fn networks_of_the_cluster() {
        assert_eq!(cluster(&[], &[]).unwrap().service_cidrs, ["10.96.0.0/16".parse::<IpNetwork>().unwrap()]);
        assert!(cluster(&["10.1.0.0/16", "fd00::/108"], &[]).is_ok());
        let refused = |service: &[&str], pods: &[&str], word: &str| {
            let message = cluster(service, pods).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        };
        refused(&["10.1.0.0/16", "10.2.0.0/16"], &[], "one of IPv6");
        refused(&["10.1.2.3/16"], &[], "10.1.0.0/16");
        refused(&["10.1.0.0/30"], &[], "too small");
        refused(&["10.1.0.0/16"], &["10.0.0.0/8"], "overlap");
    }
}
