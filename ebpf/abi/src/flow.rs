//! Connections from outside: destination translation at ingress, source translation at egress.
//!
//! The node's own stack routes between the two hooks, as it does between netfilter's PREROUTING and
//! POSTROUTING; so policy routes, neighbours and MTU need no knowledge here.
//!
//! ```text
//! request  client:c → front:f  ─ingress DNAT─►  client:c → ep:e  ─egress SNAT───► node:s → ep:e
//! reply    front:f → client:c  ◄─egress REPLY─  ep:e → client:c  ◄ingress SNAT_REPLY─ ep:e → node:s
//! ```
//! The source is translated only where the reply would not come back through this node by itself.

use crate::addr::Addr;
use crate::maps::{
    CLIENT_ADDRESS, Config, Counter, ENDPOINT_LOCAL, Endpoint, FLOW_CLOSING, FLOW_DNAT, FLOW_REPLY, FLOW_SNAT,
    FLOW_SNAT_REPLY, FlowKey, FlowValue, INTERFACE_PODS, SERVICE_CHECK_SOURCE, SERVICE_EXTERNAL_DROP,
    SERVICE_INTERNAL_DROP, Service,
};
use crate::packet::{Flow, TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use crate::service::{self, SECOND_NS};
use crate::tables::Tables;

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours.
    Pass,
    /// The source becomes this.
    Source(Addr, u16),
    /// The destination becomes this.
    Destination(Addr, u16),
    /// Silence.
    Drop,
    /// TCP reset or ICMP port unreachable.
    Refuse,
}

/// A UDP flow that was silent for so long starts over (conntrack's `udp_timeout_stream`).
pub const UDP_IDLE_NS: u64 = 120 * SECOND_NS;
/// A SYN within this time after the last packet of its flow is a retransmission.
pub const SYN_IDLE_NS: u64 = 64 * SECOND_NS;
/// Ports that are tried for a translated source.
const SNAT_TRIES: u32 = 8;

/// A packet that arrives at an interface with these `INTERFACE_*` flags.
#[inline(always)]
pub fn ingress<T: Tables>(tables: &T, flow: &Flow, interface_flags: u32) -> Verdict {
    let now = tables.now_ns();
    let mut key = FlowKey {
        src: flow.src,
        dst: flow.dst,
        sport_be: flow.sport_be,
        dport_be: flow.dport_be,
        proto: flow.proto,
        step: FLOW_DNAT,
        reserved: 0,
    };
    if let Some(known) = tables.flow(&key)
        && !starts_over(flow, &known, now)
    {
        touch(tables, &key, known, flow, now);
        return Verdict::Destination(known.addr, known.port_be);
    }
    let Some(found) = service::find(tables, &flow.dst, flow.dport_be, flow.proto, false) else {
        key.step = FLOW_SNAT_REPLY;
        return match tables.flow(&key) {
            Some(known) => {
                touch(tables, &key, known, flow, now);
                Verdict::Destination(known.addr, known.port_be)
            }
            None => Verdict::Pass,
        };
    };
    open(tables, flow, &mut key, &found, interface_flags, now)
}

/// A packet that leaves through an interface.
#[inline(always)]
pub fn egress<T: Tables>(tables: &T, flow: &Flow) -> Verdict {
    let mut key = FlowKey {
        src: flow.src,
        dst: flow.dst,
        sport_be: flow.sport_be,
        dport_be: flow.dport_be,
        proto: flow.proto,
        step: FLOW_REPLY,
        reserved: 0,
    };
    let mut known = tables.flow(&key);
    if known.is_none() {
        key.step = FLOW_SNAT;
        known = tables.flow(&key);
    }
    match known {
        Some(known) => {
            touch(tables, &key, known, flow, tables.now_ns());
            Verdict::Source(known.addr, known.port_be)
        }
        None => Verdict::Pass,
    }
}

/// The first packet of a connection, or one whose entry was evicted: the endpoint follows from the
/// flow's hash, so that a connection survives eviction while the set of endpoints is the same.
#[inline(always)]
fn open<T: Tables>(
    tables: &T,
    flow: &Flow,
    key: &mut FlowKey,
    found: &Service,
    interface_flags: u32,
    now: u64,
) -> Verdict {
    let from_pods = interface_flags & INTERFACE_PODS != 0;
    let (group, drop_flag) =
        if from_pods { (found.internal, SERVICE_INTERNAL_DROP) } else { (found.external, SERVICE_EXTERNAL_DROP) };
    if found.flags & SERVICE_CHECK_SOURCE != 0 && !tables.source_allowed(found.id, &flow.src) {
        tables.count(Counter::FlowRefused);
        return Verdict::Drop;
    }
    let hash = flow_hash(flow);
    let chosen =
        if group.count == 0 { None } else { service::select(tables, found, group, &flow.src, CLIENT_ADDRESS, hash) };
    let Some(endpoint) = chosen else {
        tables.count(Counter::FlowRefused);
        return if found.flags & drop_flag != 0 { Verdict::Drop } else { Verdict::Refuse };
    };
    if from_pods || endpoint.flags & ENDPOINT_LOCAL == 0 {
        let Some(config) = tables.config() else { return Verdict::Pass };
        if !translate_source(tables, flow, &endpoint, &config, found.id, hash, now) {
            tables.count(Counter::SnatExhausted);
            return Verdict::Drop;
        }
    }
    let value = FlowValue { addr: endpoint.addr, port_be: endpoint.port_be, flags: 0, service: found.id, last_ns: now };
    let stored = tables.set_flow(key, &value, false);
    let reply = FlowKey {
        src: endpoint.addr,
        dst: flow.src,
        sport_be: endpoint.port_be,
        dport_be: flow.sport_be,
        proto: flow.proto,
        step: FLOW_REPLY,
        reserved: 0,
    };
    let value = FlowValue { addr: flow.dst, port_be: flow.dport_be, flags: 0, service: found.id, last_ns: now };
    if !(stored && tables.set_flow(&reply, &value, false)) {
        tables.count(Counter::MapFull);
        return Verdict::Drop;
    }
    tables.count(Counter::FlowCreated);
    Verdict::Destination(endpoint.addr, endpoint.port_be)
}

/// Takes a port of the node for the flow, and notes both directions.
#[inline(always)]
fn translate_source<T: Tables>(
    tables: &T,
    flow: &Flow,
    endpoint: &Endpoint,
    config: &Config,
    service: u32,
    hash: u32,
    now: u64,
) -> bool {
    let node = if endpoint.addr.is_v4() { config.node_v4 } else { config.node_v6 };
    if config.snat_count == 0 || node == Addr::default() {
        return false;
    }
    let back = FlowValue { addr: flow.src, port_be: flow.sport_be, flags: 0, service, last_ns: now };
    let mut reply = FlowKey {
        src: endpoint.addr,
        dst: node,
        sport_be: endpoint.port_be,
        dport_be: 0,
        proto: flow.proto,
        step: FLOW_SNAT_REPLY,
        reserved: 0,
    };
    for attempt in 0..SNAT_TRIES {
        let offset = service::slot_of(service::mix(hash, attempt), u32::from(config.snat_count));
        #[allow(clippy::cast_possible_truncation, reason = "below snat_count, a u16")]
        let port = config.snat_first.wrapping_add(offset as u16);
        reply.dport_be = port.to_be();
        let ours = match tables.flow(&reply) {
            None => tables.set_flow(&reply, &back, true),
            // The same client's port again (its other entries were evicted), or one that is over.
            Some(taken) => {
                (taken.addr == flow.src && taken.port_be == flow.sport_be || is_over(flow.proto, &taken, now))
                    && tables.set_flow(&reply, &back, false)
            }
        };
        if ours {
            let forward = FlowKey {
                src: flow.src,
                dst: endpoint.addr,
                sport_be: flow.sport_be,
                dport_be: endpoint.port_be,
                proto: flow.proto,
                step: FLOW_SNAT,
                reserved: 0,
            };
            let value = FlowValue { addr: node, port_be: port.to_be(), flags: 0, service, last_ns: now };
            return tables.set_flow(&forward, &value, false);
        }
    }
    false
}

/// Whether a packet opens a new connection on the tuple of an old one.
#[inline(always)]
fn starts_over(flow: &Flow, known: &FlowValue, now: u64) -> bool {
    let idle_ns = now.saturating_sub(known.last_ns);
    if flow.proto == TCP {
        flow.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN && (known.flags & FLOW_CLOSING != 0 || idle_ns > SYN_IDLE_NS)
    } else {
        idle_ns > UDP_IDLE_NS
    }
}

#[inline(always)]
fn is_over(proto: u8, known: &FlowValue, now: u64) -> bool {
    let idle_ns = now.saturating_sub(known.last_ns);
    if proto == TCP { known.flags & FLOW_CLOSING != 0 && idle_ns > SYN_IDLE_NS } else { idle_ns > UDP_IDLE_NS }
}

/// Keeps an entry fresh, at most once a second: the write dirties a cache line that all CPUs read.
#[inline(always)]
fn touch<T: Tables>(tables: &T, key: &FlowKey, mut known: FlowValue, flow: &Flow, now: u64) {
    let closing = flow.tcp_flags & (TCP_FIN | TCP_RST) != 0 && known.flags & FLOW_CLOSING == 0;
    if closing || now.saturating_sub(known.last_ns) > SECOND_NS {
        if closing {
            known.flags |= FLOW_CLOSING;
        }
        known.last_ns = now;
        tables.set_flow(key, &known, false);
    }
}

#[inline(always)]
fn flow_hash(flow: &Flow) -> u32 {
    let mut hash = (u32::from(flow.sport_be) << 16) | u32::from(flow.dport_be);
    hash = service::mix(hash, flow.src.words[3] ^ u32::from(flow.proto));
    hash = service::mix(hash, flow.src.words[0] ^ flow.src.words[1]);
    hash = service::mix(hash, flow.src.words[2]);
    service::mix(hash, flow.dst.words[3])
}
