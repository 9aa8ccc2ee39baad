//! The part of a Service that the proxy acts on.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Service;

use crate::state::Protocol;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Service, reduced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    /// Ingress addresses that the node answers for (`ipMode` VIP).
    pub load_balancer_ips: Vec<IpAddr>,
    pub ports: Vec<PortSpec>,
    /// Session affinity by client address, seconds.
    pub affinity_s: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    /// Who may use the load balancer's addresses; empty for everybody.
    pub source_ranges: Vec<IpNetwork>,
}

/// One port of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

/// Upstream's `DefaultClientIPServiceAffinitySeconds`.
const DEFAULT_AFFINITY_S: u32 = 10_800;
/// The annotation that came before `loadBalancerSourceRanges`, still honoured upstream.
const SOURCE_RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// `None` for what no node proxies: headless, ExternalName, not yet given an address.
pub fn service_spec(service: &Service) -> Option<ServiceSpec> {
    let spec = service.spec.as_ref()?;
    let cluster_ip = spec.cluster_ip.as_deref().unwrap_or_default();
    if cluster_ip.is_empty() || cluster_ip == "None" || spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let cluster_ips =
        if listed.is_empty() { parse_ips([cluster_ip]) } else { parse_ips(listed.iter().map(String::as_str)) };
    let load_balancer = spec.type_.as_deref() == Some("LoadBalancer");
    let affinity = spec.session_affinity.as_deref() == Some("ClientIP");
    let timeout_s = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
        .and_then(|seconds| u32::try_from(seconds).ok())
        .unwrap_or(DEFAULT_AFFINITY_S);
    Some(ServiceSpec {
        cluster_ips,
        external_ips: parse_ips(spec.external_ips.iter().flatten().map(String::as_str)),
        load_balancer_ips: if load_balancer { vip_ingress(service) } else { Vec::new() },
        ports: spec.ports.iter().flatten().filter_map(port_spec).collect(),
        affinity_s: affinity.then_some(timeout_s),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        source_ranges: if load_balancer { source_ranges(service) } else { Vec::new() },
    })
}

fn port_spec(port: &k8s_openapi::api::core::v1::ServicePort) -> Option<PortSpec> {
    Some(PortSpec {
        name: port.name.clone().unwrap_or_default(),
        protocol: Protocol::from_api(port.protocol.as_deref())?,
        port: u16::try_from(port.port).ok().filter(|port| *port != 0)?,
        node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
    })
}

fn vip_ingress(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref());
    let vips = ingress.into_iter().flatten().filter(|entry| entry.ip_mode.as_deref().unwrap_or("VIP") == "VIP");
    parse_ips(vips.filter_map(|entry| entry.ip.as_deref()))
}

fn source_ranges(service: &Service) -> Vec<IpNetwork> {
    let spec = service.spec.as_ref().and_then(|spec| spec.load_balancer_source_ranges.as_deref()).unwrap_or_default();
    let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(SOURCE_RANGES_ANNOTATION));
    let mut ranges: Vec<IpNetwork> = if spec.is_empty() {
        annotation.into_iter().flat_map(|text| text.split(',')).filter_map(|text| text.trim().parse().ok()).collect()
    } else {
        spec.iter().filter_map(|text| text.trim().parse().ok()).collect()
    };
    // The bits past the prefix don't count, and must not make two of one.
    for range in &mut ranges {
        if let Ok(clean) = IpNetwork::new(range.network(), range.prefix()) {
            *range = clean;
        }
    }
    ranges.sort();
    ranges.dedup();
    ranges
}

fn parse_ips<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = texts.into_iter().filter_map(|text| text.parse().ok()).collect();
    ips.sort();
    ips.dedup();
    ips
}
