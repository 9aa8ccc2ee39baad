//! Which routes this node needs to reach the pods of the others: one per pod CIDR, through the
//! node's own address. That works where the nodes share a link; elsewhere the network between
//! them has to know the pod CIDRs.

use std::sync::Arc;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use orlop_host::netlink::{InterfaceAddress, Route, RouteKind};

use crate::{internal_ip, pod_cidrs};

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RoutePlan {
    pub(crate) put: Vec<Route>,
    pub(crate) remove: Vec<Route>,
}

/// From all nodes and what is installed to what has to change. Guard routes are not its business.
pub(crate) fn plan(own: &str, nodes: &[Arc<Node>], installed: &[Route], addresses: &[InterfaceAddress]) -> RoutePlan {
    let wanted: Vec<Route> = nodes
        .iter()
        .filter(|n| n.metadata.name.as_deref() != Some(own))
        .flat_map(|node| {
            let cidrs = pod_cidrs(node).unwrap_or_default();
            cidrs.into_iter().filter_map(|cidr| via(node, cidr, addresses)).collect::<Vec<_>>()
        })
        .collect();
    let same = |a: &Route, b: &Route| a.destination == b.destination && a.gateway == b.gateway;
    let ours: Vec<&Route> = installed.iter().filter(|r| r.kind == RouteKind::Unicast && r.gateway.is_some()).collect();
    RoutePlan {
        put: wanted.iter().filter(|w| !ours.iter().any(|o| same(o, w))).cloned().collect(),
        remove: ours.into_iter().filter(|o| !wanted.iter().any(|w| same(o, w))).cloned().collect(),
    }
}

/// A gateway that is not on a connected network would send the packets to the default route.
fn via(node: &Node, cidr: IpNetwork, addresses: &[InterfaceAddress]) -> Option<Route> {
    let gateway = internal_ip(node, cidr.ip())?;
    let on_link = addresses.iter().find(|a| a.network.contains(gateway) && a.network.ip() != gateway)?;
    Some(Route::via(cidr, gateway, Some(on_link.link_index)))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeAddress, NodeSpec, NodeStatus};
    use kube::core::ObjectMeta;

    use super::*;

    fn node(name: &str, ip: &str, cidr: &str) -> Arc<Node> {
        Arc::new(Node {
            metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
            spec: Some(NodeSpec { pod_cidr: Some(cidr.into()), ..NodeSpec::default() }),
            status: Some(NodeStatus {
                addresses: Some(vec![NodeAddress { address: ip.into(), type_: "InternalIP".into() }]),
                ..NodeStatus::default()
            }),
        })
    }

    fn own_address() -> Vec<InterfaceAddress> {
        vec![InterfaceAddress { link_index: 2, network: "192.168.7.1/24".parse().unwrap(), global: true }]
    }

    #[test]
    fn routes_to_the_others_only() {
        let nodes = [node("a", "192.168.7.1", "10.244.0.0/24"), node("b", "192.168.7.2", "10.244.1.0/24")];
        let plan = plan("a", &nodes, &[], &own_address());
        assert_eq!(plan.put, [Route::via("10.244.1.0/24".parse().unwrap(), "192.168.7.2".parse().unwrap(), Some(2))]);
        assert!(plan.remove.is_empty());
    }

    #[test]
    fn a_gone_node_takes_its_route_along_and_guards_stay() {
        let old = Route::via("10.244.9.0/24".parse().unwrap(), "192.168.7.9".parse().unwrap(), Some(2));
        let guard = Route::guard("10.244.0.0/24".parse().unwrap(), RouteKind::Blackhole);
        let nodes = [node("a", "192.168.7.1", "10.244.0.0/24")];
        let plan = plan("a", &nodes, &[old.clone(), guard], &own_address());
        assert_eq!(plan.remove, [old]);
        assert!(plan.put.is_empty());
    }

    #[test]
    fn a_gateway_off_the_link_gets_no_route() {
        let nodes = [node("a", "192.168.7.1", "10.244.0.0/24"), node("b", "172.16.0.2", "10.244.1.0/24")];
        assert_eq!(plan("a", &nodes, &[], &own_address()), RoutePlan::default());
    }
}
