//! From a Service and its slices to frontends and rules: every decision about endpoints is here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::services::{PortSpec, ServiceName, ServiceSpec};
use crate::slices::{SliceEndpoint, SliceSpec};
use crate::state::{
    Destination, Endpoint, Frontend, FrontendAddress, FrontendKind, IpFamily, Protocol, Rule, ServicePortName,
    WhenEmpty,
};

/// What the backend can't do and Services may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub ipv6: bool,
    pub sctp: bool,
    pub source_ranges: bool,
}

/// What became of a Service.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    pub rules: Vec<(Frontend, Rule)>,
    /// What the user asked for and doesn't get, with the reason.
    pub refused: Vec<String>,
}

/// Frontends and rules of one Service.
pub fn compile<'a>(
    name: &ServiceName,
    spec: &ServiceSpec,
    slices: &(impl Iterator<Item = &'a SliceSpec> + Clone),
    limits: Limits,
) -> Compiled {
    let mut compiled = Compiled::default();
    for port in &spec.ports {
        if port.protocol == Protocol::Sctp && !limits.sctp {
            compiled.refused.push(format!("port {}: this proxy mode has no SCTP", port.port));
            continue;
        }
        for family in [IpFamily::V4, IpFamily::V6] {
            let has_family = spec.cluster_ips.iter().any(|ip| IpFamily::of(*ip) == family);
            if !has_family {
                continue;
            }
            if family == IpFamily::V6 && !limits.ipv6 {
                compiled.refused.push(format!("port {}: this proxy mode has no IPv6", port.port));
                continue;
            }
            let candidates = candidates(port, family, slices.clone());
            compile_port(name, spec, port, family, &Choice::of(&candidates), limits, &mut compiled);
        }
    }
    compiled
}

/// The endpoints that each traffic policy uses.
struct Choice {
    cluster: Arc<[Endpoint]>,
    local: Arc<[Endpoint]>,
    /// There is no endpoint anywhere, whatever the policy.
    none: bool,
}

impl Choice {
    /// Ready ones; where there is none, those that are terminating and still serve (KEP-1669). The two
    /// policies fall back independently.
    fn of(candidates: &BTreeMap<(IpAddr, u16), SliceEndpoint>) -> Self {
        let pick = |wanted: &dyn Fn(&SliceEndpoint) -> bool| -> Arc<[Endpoint]> {
            let chosen = candidates.iter().filter(|(_, endpoint)| wanted(endpoint));
            chosen.map(|(&(ip, port), endpoint)| Endpoint { ip, port, local: endpoint.local }).collect()
        };
        let or_else = |first: Arc<[Endpoint]>, second: &dyn Fn(&SliceEndpoint) -> bool| {
            if first.is_empty() { pick(second) } else { first }
        };
        let draining = |endpoint: &SliceEndpoint| endpoint.serving && endpoint.terminating;
        let cluster = or_else(pick(&|endpoint| endpoint.ready), &draining);
        let local = or_else(pick(&|endpoint| endpoint.local && endpoint.ready), &|endpoint| {
            endpoint.local && draining(endpoint)
        });
        Self { none: cluster.is_empty() && local.is_empty(), cluster, local }
    }

    fn destination(&self, local: bool) -> Destination {
        let when_empty = if local && !self.none { WhenEmpty::Drop } else { WhenEmpty::Reject };
        Destination { endpoints: if local { self.local.clone() } else { self.cluster.clone() }, when_empty }
    }
}

/// The endpoints of a port, by address and port.
fn candidates<'a>(
    port: &PortSpec,
    family: IpFamily,
    slices: impl Iterator<Item = &'a SliceSpec>,
) -> BTreeMap<(IpAddr, u16), SliceEndpoint> {
    let mut candidates = BTreeMap::new();
    for slice in slices.filter(|slice| slice.family == family) {
        for (name, protocol, number) in &slice.ports {
            if *name != port.name || *protocol != port.protocol {
                continue;
            }
            for endpoint in &slice.endpoints {
                let key = (endpoint.ip, *number);
                // Two Pods may share an address for a moment while one goes: the other one counts.
                if !endpoint.terminating || !candidates.contains_key(&key) {
                    candidates.insert(key, *endpoint);
                }
            }
        }
    }
    candidates
}

fn compile_port(
    name: &ServiceName,
    spec: &ServiceSpec,
    port: &PortSpec,
    family: IpFamily,
    choice: &Choice,
    limits: Limits,
    compiled: &mut Compiled,
) {
    let service = Arc::new(ServicePortName {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        port: port.name.clone(),
    });
    let everybody: Arc<[IpNetwork]> = Arc::new([]);
    let rule = |kind, internal: Destination, external: Destination| Rule {
        service: service.clone(),
        kind,
        internal,
        external,
        affinity_s: spec.affinity_s,
        source_ranges: everybody.clone(),
    };
    let frontend = |address, port: u16, protocol| Frontend { address, port, protocol };
    let of_family = |ips: &[IpAddr]| ips.iter().copied().filter(|ip| IpFamily::of(*ip) == family).collect::<Vec<_>>();

    let inside = choice.destination(spec.internal_local);
    for ip in of_family(&spec.cluster_ips) {
        let at = frontend(FrontendAddress::Ip(ip), port.port, port.protocol);
        compiled.rules.push((at, rule(FrontendKind::ClusterIp, inside.clone(), inside.clone())));
    }
    // Clients of this node reach every endpoint under the external addresses, whatever their policy.
    let (near, far) = (choice.destination(false), choice.destination(spec.external_local));
    for ip in of_family(&spec.external_ips) {
        let at = frontend(FrontendAddress::Ip(ip), port.port, port.protocol);
        compiled.rules.push((at, rule(FrontendKind::ExternalIp, near.clone(), far.clone())));
    }
    for ip in of_family(&spec.load_balancer_ips) {
        let at = frontend(FrontendAddress::Ip(ip), port.port, port.protocol);
        let mut balanced = rule(FrontendKind::LoadBalancer, near.clone(), far.clone());
        if !spec.source_ranges.is_empty() {
            let ranges = spec.source_ranges.iter().filter(|range| range.is_ipv4() == (family == IpFamily::V4));
            balanced.source_ranges = ranges.copied().collect();
            if !limits.source_ranges || balanced.source_ranges.is_empty() {
                // Nobody rather than everybody.
                balanced.external = Destination { endpoints: Arc::new([]), when_empty: WhenEmpty::Drop };
                balanced.source_ranges = everybody.clone();
            }
            if !limits.source_ranges {
                compiled.refused.push(format!("{ip}: this proxy mode has no loadBalancerSourceRanges; closed to all"));
            }
        }
        compiled.rules.push((at, balanced));
    }
    if let Some(node_port) = port.node_port {
        let at = frontend(FrontendAddress::NodePort(family), node_port, port.protocol);
        compiled.rules.push((at, rule(FrontendKind::NodePort, near, far)));
    }
}
