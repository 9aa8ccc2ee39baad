//! The part of an EndpointSlice that the proxy acts on, and what it refuses to believe.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::services::ServiceName;
use crate::state::{IpFamily, Protocol};

/// A slice, reduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceSpec {
    pub service: ServiceName,
    pub family: IpFamily,
    /// Name, protocol and number of each port.
    pub ports: Vec<(String, Protocol, u16)>,
    pub endpoints: Vec<SliceEndpoint>,
    /// Addresses that were left out, each with the reason.
    pub refused: Vec<(String, &'static str)>,
}

/// One endpoint of it, with the conditions as the API defaults them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    pub ip: IpAddr,
    pub local: bool,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

/// Label that names a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// `None` for slices that belong to no Service or hold names (`FQDN`).
pub fn slice_spec(slice: &EndpointSlice, node_name: &str) -> Option<SliceSpec> {
    let family = match slice.address_type.as_str() {
        "IPv4" => IpFamily::V4,
        "IPv6" => IpFamily::V6,
        _ => return None,
    };
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME).filter(|name| !name.is_empty())?;
    let mut spec = SliceSpec {
        service: ServiceName { namespace: slice.metadata.namespace.clone()?, name: name.clone() },
        family,
        ports: slice.ports.iter().flatten().filter_map(port).collect(),
        endpoints: Vec::with_capacity(slice.endpoints.as_ref().map_or(0, Vec::len)),
        refused: Vec::new(),
    };
    for endpoint in slice.endpoints.iter().flatten() {
        // All addresses of an endpoint are the same thing; consumers use the first.
        let Some(text) = endpoint.addresses.first() else { continue };
        let ip = match believable(text, family) {
            Ok(ip) => ip,
            Err(reason) => {
                spec.refused.push((text.clone(), reason));
                continue;
            }
        };
        let conditions = endpoint.conditions.as_ref();
        spec.endpoints.push(SliceEndpoint {
            ip,
            local: endpoint.node_name.as_deref().is_some_and(|name| name == node_name),
            ready: conditions.and_then(|all| all.ready).unwrap_or(true),
            serving: conditions.and_then(|all| all.serving).unwrap_or(true),
            terminating: conditions.and_then(|all| all.terminating).unwrap_or(false),
        });
    }
    Some(spec)
}

fn port(port: &k8s_openapi::api::discovery::v1::EndpointPort) -> Option<(String, Protocol, u16)> {
    let number = port.port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)?;
    Some((port.name.clone().unwrap_or_default(), Protocol::from_api(port.protocol.as_deref())?, number))
}

/// Whoever may write slices must not be able to aim a Service at the node's own loopback, at its link, or at many.
fn believable(text: &str, family: IpFamily) -> Result<IpAddr, &'static str> {
    let ip: IpAddr = text.parse().map_err(|_| "not an IP address")?;
    if IpFamily::of(ip) != family {
        return Err("of another family than the slice");
    }
    // The mapped form of an IPv4 address would get around the checks on it.
    if let IpAddr::V6(v6) = ip
        && v6.to_ipv4_mapped().is_some()
    {
        return Err("an IPv4-mapped address");
    }
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if ip.is_loopback() {
        Err("a loopback address")
    } else if link_local {
        Err("a link-local address")
    } else if ip.is_multicast() {
        Err("a multicast address")
    } else if ip.is_unspecified() {
        Err("the unspecified address")
    } else if ip == IpAddr::from([255, 255, 255, 255]) {
        Err("the broadcast address")
    } else {
        Ok(ip)
    }
}
