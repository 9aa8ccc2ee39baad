//! What the node's services should do, complete and free of any backend's mode.
//!
//! All Service semantics are decided before they get here: a backend sees frontends, and for each the
//! endpoints that clients inside and outside of the node get.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnetwork::IpNetwork;

/// A port of a Service: upstream's `ServicePortName`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// Name of the port, empty where it has none.
    pub port: String,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// From the word of the API; an absent protocol is TCP.
    pub fn from_api(word: Option<&str>) -> Option<Self> {
        match word.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    V4,
    V6,
}

impl IpFamily {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Upstream's label value: `IPv4` or `IPv6`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Where clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendAddress {
    /// One address: cluster IP, external IP, load balancer's ingress IP.
    Ip(IpAddr),
    /// Every NodePort address of the node, of one family.
    NodePort(IpFamily),
}

/// An address and port that a service answers at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The address.
    pub address: FrontendAddress,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.as_str();
        match self.address {
            FrontendAddress::Ip(ip) => write!(f, "{}/{protocol}", SocketAddr::new(ip, self.port)),
            FrontendAddress::NodePort(family) => write!(f, "NodePort {}/{protocol} ({})", self.port, family.as_str()),
        }
    }
}

/// Why a frontend exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKind {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
    /// Read back from the kernel, which doesn't know.
    Unknown,
}

/// One backend of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The Pod's address.
    pub ip: IpAddr,
    /// The Pod's port.
    pub port: u16,
    /// On this node.
    pub local: bool,
}

/// What a client gets when there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhenEmpty {
    /// Connection refused at once: the Service has no endpoint anywhere.
    Reject,
    /// Silence: a `Local` policy hides the endpoints of other nodes, and a load balancer should go there.
    Drop,
}

/// The endpoints for one kind of client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Sorted, without duplicates; frontends of one service share it.
    pub endpoints: Arc<[Endpoint]>,
    /// What happens when `endpoints` is empty.
    pub when_empty: WhenEmpty,
}

/// What one frontend does.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whose it is.
    pub service: Arc<ServicePortName>,
    /// Why it exists.
    pub kind: FrontendKind,
    /// For the host and the Pods of this node.
    pub internal: Destination,
    /// For packets that arrive from outside.
    pub external: Destination,
    /// Session affinity by client address: its time-out in seconds.
    pub affinity_s: Option<u32>,
    /// Who may come from outside; empty for everybody. Sorted.
    pub source_ranges: Arc<[IpNetwork]>,
}

impl Rule {
    /// Whether both treat packets alike: all but names, which the kernel doesn't keep.
    pub fn same_effect(&self, other: &Self) -> bool {
        let same_endpoints = |a: &Destination, b: &Destination| {
            (Arc::ptr_eq(&a.endpoints, &b.endpoints) || a.endpoints == b.endpoints)
                // The word for the empty case matters only in the empty case.
                && (!a.endpoints.is_empty() || a.when_empty == b.when_empty)
        };
        same_endpoints(&self.internal, &other.internal)
            && same_endpoints(&self.external, &other.external)
            && self.affinity_s == other.affinity_s
            && self.source_ranges == other.source_ranges
    }
}

/// How NodePorts answer at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeAddressScope {
    /// To everybody.
    Everybody,
    /// To sockets of the host's network namespace only (loopback).
    Host,
}

/// Everything that the node should do for Services.
#[derive(Clone, Debug, Default)]
pub struct ProxyState {
    /// What each frontend does.
    pub frontends: BTreeMap<Frontend, Rule>,
    /// Where NodePorts answer.
    pub node_addresses: BTreeMap<IpAddr, NodeAddressScope>,
}
