//! Keys and values of every map. No implicit padding; sizes are pinned by assertions, because a
//! restarted agent adopts maps that another build has written.

use crate::addr::Addr;

/// Version of this layout, part of the path that maps are pinned at. Raise it with any change here.
pub const LAYOUT_VERSION: u32 = 1;

/// Marks types that may cross into the kernel as plain bytes.
///
/// # Safety
/// The type is `repr(C)`, has no padding, and every bit pattern is a valid value.
pub unsafe trait Plain: Copy + Eq + 'static {}

macro_rules! plain {
    ($($name:ident = $size:literal),* $(,)?) => {$(
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        // SAFETY: repr(C), integers only; the size equals the sum of the fields, so no padding.
        unsafe impl Plain for $name {}
    )*};
}

/// Names of the maps, as they are pinned.
pub mod names {
    pub const CONFIG: &str = "ORLOP_CONFIG";
    pub const SERVICES: &str = "ORLOP_SERVICES";
    pub const SLOTS: &str = "ORLOP_SLOTS";
    pub const MEMBERS: &str = "ORLOP_MEMBERS";
    pub const NODE_ADDRS: &str = "ORLOP_NODE_ADDR";
    pub const AFFINITY: &str = "ORLOP_AFFINITY";
    pub const SOCKETS: &str = "ORLOP_SOCKETS";
    pub const FLOWS: &str = "ORLOP_FLOWS";
    pub const INTERFACES: &str = "ORLOP_IFACES";
    pub const SOURCES: &str = "ORLOP_SOURCES";
    pub const COUNTERS: &str = "ORLOP_COUNTERS";
}

/// A frontend: where clients think that they connect to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The address; [`Addr::ANY_V4`] or [`Addr::ANY_V6`] for NodePorts.
    pub addr: Addr,
    /// The port, network byte order.
    pub port_be: u16,
    /// IANA protocol number.
    pub proto: u8,
    /// [`FRONTEND_ADDRESS`] or [`FRONTEND_NODE_PORT`].
    pub kind: u8,
}

/// A frontend on one address.
pub const FRONTEND_ADDRESS: u8 = 0;
/// A frontend on every address of `NODE_ADDRS` of its family.
pub const FRONTEND_NODE_PORT: u8 = 1;

/// One set of endpoints: slots `0..count` of `id` in `SLOTS`. Never changed in place: a new set gets
/// a new id, is written whole, and then the service entry flips to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Group {
    pub id: u32,
    pub count: u32,
}

/// What a frontend leads to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// Stable number of the service port, shared by its frontends; owner of affinity and counters.
    pub id: u32,
    /// `SERVICE_*` bits.
    pub flags: u32,
    /// Session affinity time-out in seconds, 0 for none.
    pub affinity_s: u32,
    /// Always 0.
    pub reserved: u32,
    /// For clients on this node: the host and its Pods.
    pub internal: Group,
    /// For packets that arrive from outside.
    pub external: Group,
}

/// No internal endpoint: drop silently (a `Local` policy) instead of refusing.
pub const SERVICE_INTERNAL_DROP: u32 = 1;
/// No external endpoint: drop silently (a `Local` policy) instead of refusing.
pub const SERVICE_EXTERNAL_DROP: u32 = 1 << 1;
/// Packets from outside pass only when their source is in `SOURCES` under this service's id.
pub const SERVICE_CHECK_SOURCE: u32 = 1 << 2;

/// Index into one set of endpoints.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    pub group: u32,
    pub slot: u32,
}

/// Where a connection really goes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub addr: Addr,
    /// Network byte order.
    pub port_be: u16,
    /// `ENDPOINT_*` bits.
    pub flags: u16,
}

/// The endpoint is on this node: replies come back through it, so the client's address is kept.
pub const ENDPOINT_LOCAL: u16 = 1;

/// Present where an endpoint belongs to a group; written for groups with session affinity only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberKey {
    pub endpoint: Endpoint,
    pub group: u32,
}

/// Who stuck to a service: an address, or for sockets of this node their network namespace's cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AffinityKey {
    pub client: Addr,
    pub service: u32,
    /// [`CLIENT_ADDRESS`] or [`CLIENT_NETNS`].
    pub client_kind: u32,
}

/// The client is an address.
pub const CLIENT_ADDRESS: u32 = 0;
/// The client is a network namespace (its cookie in the last two words): at connect time a socket
/// has no source address yet, and every socket of a Pod shares its namespace.
pub const CLIENT_NETNS: u32 = 1;

/// The endpoint a client stuck to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Affinity {
    pub endpoint: Endpoint,
    pub reserved: u32,
    /// Monotonic clock.
    pub last_ns: u64,
}

/// What a socket was translated to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketKey {
    pub cookie: u64,
    pub addr: Addr,
    pub port_be: u16,
    pub reserved: [u16; 3],
}

/// What the program behind the socket asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketValue {
    pub addr: Addr,
    pub port_be: u16,
    pub reserved: u16,
    pub service: u32,
}

/// One direction of one step of a connection; see [`crate::flow`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub src: Addr,
    pub dst: Addr,
    pub sport_be: u16,
    pub dport_be: u16,
    pub proto: u8,
    /// `FLOW_*` step.
    pub step: u8,
    pub reserved: u16,
}

/// What a flow's packets become in this step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowValue {
    /// New source or destination, by the step.
    pub addr: Addr,
    pub port_be: u16,
    /// [`FLOW_CLOSING`].
    pub flags: u16,
    pub service: u32,
    /// Monotonic clock, updated at most once a second.
    pub last_ns: u64,
}

/// At ingress: client to frontend; the destination becomes the endpoint.
pub const FLOW_DNAT: u8 = 0;
/// At egress: endpoint to client; the source becomes the frontend.
pub const FLOW_REPLY: u8 = 1;
/// At egress: client to endpoint; the source becomes the node.
pub const FLOW_SNAT: u8 = 2;
/// At ingress: endpoint to node; the destination becomes the client.
pub const FLOW_SNAT_REPLY: u8 = 3;

/// A FIN or RST was seen: the next SYN starts over.
pub const FLOW_CLOSING: u16 = 1;

/// The one entry of `CONFIG`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Config {
    /// Cookie of the host's network namespace; 0 where unknown.
    pub host_netns: u64,
    /// Source of translated IPv4 packets; all zero where there is none.
    pub node_v4: Addr,
    /// Source of translated IPv6 packets; all zero where there is none.
    pub node_v6: Addr,
    /// First port (host byte order) for translated sources.
    pub snat_first: u16,
    /// How many ports from there; 0 turns translation off.
    pub snat_count: u16,
    /// [`LAYOUT_VERSION`] of the writer.
    pub layout: u32,
}

/// `NODE_ADDRS` value: NodePorts answer at this address.
pub const NODE_ADDR_PLAIN: u32 = 0;
/// `NODE_ADDRS` value: only for sockets of the host's own network namespace (loopback).
pub const NODE_ADDR_HOST_ONLY: u32 = 1;

/// What the programs know about an interface they are attached to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Bytes before the IP header: 14 for Ethernet, 0 for tunnels.
    pub link_header_len: u32,
    /// [`INTERFACE_PODS`].
    pub flags: u32,
}

/// Packets that arrive here come from Pods of this node, so they use the internal endpoints, and their
/// source is always translated: endpoint and client may share a bridge, past which replies would go.
pub const INTERFACE_PODS: u32 = 1;

/// Longest-prefix key of `SOURCES`: a service id, then an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SourceKey {
    pub service: u32,
    pub addr: Addr,
}

plain!(
    Addr = 16,
    ServiceKey = 20,
    Group = 8,
    Service = 32,
    SlotKey = 8,
    Endpoint = 20,
    MemberKey = 24,
    AffinityKey = 24,
    Affinity = 32,
    SocketKey = 32,
    SocketValue = 24,
    FlowKey = 40,
    FlowValue = 32,
    Config = 48,
    Interface = 8,
    SourceKey = 20,
);
// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for u64 {}

/// Per-CPU counters, by index into `COUNTERS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// connect() or sendmsg() was translated.
    SocketTranslated = 0,
    /// connect() or sendmsg() to a service without endpoints.
    SocketRefused = 1,
    /// A new connection arrived from outside.
    FlowCreated = 2,
    /// From outside, to a service without endpoints or from a source that isn't allowed.
    FlowRefused = 3,
    /// No port was free to translate a source to.
    SnatExhausted = 4,
    /// A map refused an entry.
    MapFull = 5,
    /// A service entry led to a slot that isn't there. Never happens in a consistent state.
    SlotMissing = 6,
    /// A packet could not be rewritten.
    RewriteFailed = 7,
}

/// How many counters there are.
pub const COUNTERS: u32 = 8;
/// Their names, by index.
pub const COUNTER_NAMES: [&str; 8] = [
    "socket_translated",
    "socket_refused",
    "flow_created",
    "flow_refused",
    "snat_exhausted",
    "map_full",
    "slot_missing",
    "rewrite_failed",
];
