//! Which service an address and port belong to, and which endpoint a connection gets.

use crate::addr::Addr;
use crate::maps::{
    Affinity, AffinityKey, Counter, Endpoint, FRONTEND_ADDRESS, FRONTEND_NODE_PORT, Group, MemberKey,
    NODE_ADDR_HOST_ONLY, Service, ServiceKey, SlotKey,
};
use crate::tables::Tables;

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// The service at an address and port, or `None` for everything else that the machine talks to.
///
/// An exact entry wins over a NodePort. `in_host_netns` lets NodePorts answer on loopback: a Pod's
/// own 127.0.0.1 is not the node's.
#[inline(always)]
pub fn find<T: Tables>(tables: &T, addr: &Addr, port_be: u16, proto: u8, in_host_netns: bool) -> Option<Service> {
    let mut key = ServiceKey { addr: *addr, port_be, proto, kind: FRONTEND_ADDRESS };
    if let Some(service) = tables.service(&key) {
        return Some(service);
    }
    let flags = tables.node_addr(addr)?;
    if flags & NODE_ADDR_HOST_ONLY != 0 && !in_host_netns {
        return None;
    }
    key.addr = if addr.is_v4() { Addr::ANY_V4 } else { Addr::ANY_V6 };
    key.kind = FRONTEND_NODE_PORT;
    tables.service(&key)
}

/// Maps a 32-bit hash evenly onto `0..count`, without division.
#[inline(always)]
pub const fn slot_of(hash: u32, count: u32) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_lossless, reason = "the high word of a 32×32-bit product")]
    {
        ((hash as u64 * count as u64) >> 32) as u32
    }
}

/// Mixes two words well enough to spread connections (the finalizer of MurmurHash3).
#[inline(always)]
pub const fn mix(a: u32, b: u32) -> u32 {
    let mut h = a ^ b.wrapping_mul(0x9e37_79b9);
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// Picks an endpoint of `group` by `hash`, or the one that `client` stuck to.
///
/// A client stays with its endpoint while it is a member of the group and the time-out since its
/// last new connection has not passed (upstream's `recent --rcheck --seconds`).
#[inline(always)]
pub fn select<T: Tables>(
    tables: &T,
    service: &Service,
    group: Group,
    client: &Addr,
    client_kind: u32,
    hash: u32,
) -> Option<Endpoint> {
    let slot = SlotKey { group: group.id, slot: slot_of(hash, group.count) };
    if service.affinity_s == 0 {
        return slot_endpoint(tables, &slot);
    }
    let key = AffinityKey { client: *client, service: service.id, client_kind };
    let now = tables.now_ns();
    let stuck = tables.affinity(&key).filter(|found| {
        now.saturating_sub(found.last_ns) < u64::from(service.affinity_s) * SECOND_NS
            && tables.is_member(&MemberKey { endpoint: found.endpoint, group: group.id })
    });
    let endpoint = match stuck {
        Some(found) => found.endpoint,
        None => slot_endpoint(tables, &slot)?,
    };
    tables.set_affinity(&key, &Affinity { endpoint, reserved: 0, last_ns: now });
    Some(endpoint)
}

#[inline(always)]
fn slot_endpoint<T: Tables>(tables: &T, slot: &SlotKey) -> Option<Endpoint> {
    let found = tables.slot(slot);
    if found.is_none() {
        tables.count(Counter::SlotMissing);
    }
    found
}
