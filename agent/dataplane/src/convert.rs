//! Between the proxy's words and the maps' bytes.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use orlop_abi::addr::Addr;
use orlop_abi::maps::{
    ENDPOINT_LOCAL, Endpoint as RawEndpoint, FRONTEND_ADDRESS, FRONTEND_NODE_PORT, NODE_ADDR_HOST_ONLY,
    NODE_ADDR_PLAIN, ServiceKey, SourceKey,
};
use orlop_abi::packet::{SCTP, TCP, UDP};
use orlop_proxy::state::{
    Destination, Endpoint, Frontend, FrontendAddress, IpFamily, NodeAddressScope, Protocol, ServicePortName, WhenEmpty,
};

pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
        Protocol::Sctp => SCTP,
    }
}

pub(crate) fn service_key(frontend: &Frontend) -> ServiceKey {
    let (addr, kind) = match frontend.address {
        FrontendAddress::Ip(ip) => (Addr::from(ip), FRONTEND_ADDRESS),
        FrontendAddress::NodePort(IpFamily::V4) => (Addr::ANY_V4, FRONTEND_NODE_PORT),
        FrontendAddress::NodePort(IpFamily::V6) => (Addr::ANY_V6, FRONTEND_NODE_PORT),
    };
    ServiceKey { addr, port_be: frontend.port.to_be(), proto: protocol_number(frontend.protocol), kind }
}

/// `None` for a key that no agent writes.
pub(crate) fn frontend(key: &ServiceKey) -> Option<Frontend> {
    let address = match key.kind {
        FRONTEND_ADDRESS => FrontendAddress::Ip(key.addr.into()),
        FRONTEND_NODE_PORT => FrontendAddress::NodePort(if key.addr.is_v4() { IpFamily::V4 } else { IpFamily::V6 }),
        _ => return None,
    };
    let protocol = match key.proto {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        SCTP => Protocol::Sctp,
        _ => return None,
    };
    Some(Frontend { address, port: u16::from_be(key.port_be), protocol })
}

pub(crate) fn raw_endpoint(endpoint: &Endpoint) -> RawEndpoint {
    RawEndpoint {
        addr: endpoint.ip.into(),
        port_be: endpoint.port.to_be(),
        flags: if endpoint.local { ENDPOINT_LOCAL } else { 0 },
    }
}

pub(crate) fn endpoint(raw: &RawEndpoint) -> Endpoint {
    Endpoint { ip: raw.addr.into(), port: u16::from_be(raw.port_be), local: raw.flags & ENDPOINT_LOCAL != 0 }
}

pub(crate) fn destination(endpoints: Arc<[Endpoint]>, drop: bool) -> Destination {
    Destination { endpoints, when_empty: if drop { WhenEmpty::Drop } else { WhenEmpty::Reject } }
}

pub(crate) fn node_addr_flags(scope: NodeAddressScope) -> u32 {
    match scope {
        NodeAddressScope::Everybody => NODE_ADDR_PLAIN,
        NodeAddressScope::Host => NODE_ADDR_HOST_ONLY,
    }
}

pub(crate) fn node_addr_scope(flags: u32) -> NodeAddressScope {
    if flags & NODE_ADDR_HOST_ONLY != 0 { NodeAddressScope::Host } else { NodeAddressScope::Everybody }
}

/// IPv4 prefixes count the 96 bits before the address in the 16-byte form.
const MAPPED_BITS: u32 = 96;

pub(crate) fn source_key(service: u32, range: &IpNetwork) -> (SourceKey, u32) {
    let base = if range.is_ipv4() { MAPPED_BITS } else { 0 };
    (SourceKey { service, addr: range.network().into() }, base + u32::from(range.prefix()))
}

pub(crate) fn source_range(key: &SourceKey, prefix: u32) -> Option<IpNetwork> {
    let ip = IpAddr::from(key.addr);
    let bits = if ip.is_ipv4() { prefix.checked_sub(MAPPED_BITS)? } else { prefix };
    IpNetwork::new(ip, u8::try_from(bits).ok()?).ok()
}

/// The kernel keeps numbers, not names.
pub(crate) fn nameless(id: u32) -> Arc<ServicePortName> {
    Arc::new(ServicePortName { namespace: String::new(), name: format!("#{id}"), port: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frontends_survive_the_kernel() {
        for address in [
            FrontendAddress::Ip("10.96.0.1".parse().unwrap()),
            FrontendAddress::Ip("fd00::1".parse().unwrap()),
            FrontendAddress::NodePort(IpFamily::V4),
            FrontendAddress::NodePort(IpFamily::V6),
        ] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let there = Frontend { address, port: 443, protocol };
                assert_eq!(frontend(&service_key(&there)), Some(there));
            }
        }
    }

    #[test]
    fn source_ranges_survive_the_kernel() {
        for range in ["10.0.0.0/8", "0.0.0.0/0", "192.168.1.7/32", "fd00::/64", "::/0"] {
            let range: IpNetwork = range.parse().unwrap();
            let (key, prefix) = source_key(3, &range);
            // An IPv6 default route reads back as the mapped form only when it is one.
            assert_eq!(source_range(&key, prefix), Some(range));
        }
    }
}
