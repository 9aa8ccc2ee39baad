//! The seam between decisions and what they look at.

use crate::addr::Addr;
use crate::maps::{
    Affinity, AffinityKey, Config, Counter, Endpoint, FlowKey, FlowValue, MemberKey, Service, ServiceKey, SlotKey,
    SocketKey, SocketValue,
};

/// Maps, clock and random source. In the kernel these are BPF maps and helpers.
pub trait Tables {
    fn config(&self) -> Option<Config>;
    fn service(&self, key: &ServiceKey) -> Option<Service>;
    /// `NODE_ADDR_*` of an address of this node at which NodePorts answer.
    fn node_addr(&self, addr: &Addr) -> Option<u32>;
    fn slot(&self, key: &SlotKey) -> Option<Endpoint>;
    fn is_member(&self, key: &MemberKey) -> bool;
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity>;
    fn set_affinity(&self, key: &AffinityKey, value: &Affinity);
    /// Whether the source may use the service (loadBalancerSourceRanges).
    fn source_allowed(&self, service: u32, source: &Addr) -> bool;
    fn socket(&self, key: &SocketKey) -> Option<SocketValue>;
    fn set_socket(&self, key: &SocketKey, value: &SocketValue);
    fn flow(&self, key: &FlowKey) -> Option<FlowValue>;
    /// False when `exclusive` and the key is taken, or the map refused.
    fn set_flow(&self, key: &FlowKey, value: &FlowValue, exclusive: bool) -> bool;
    /// Monotonic.
    fn now_ns(&self) -> u64;
    fn random(&self) -> u32;
    fn count(&self, counter: Counter);
}
