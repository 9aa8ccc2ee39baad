//! Connect-time load balancing: what connect(), sendmsg(), recvmsg() and getpeername() become.

use crate::addr::Addr;
use crate::maps::{CLIENT_NETNS, Counter, Endpoint, SERVICE_INTERNAL_DROP, SocketKey, SocketValue};
use crate::service;
use crate::tables::Tables;

/// A socket, as its control-group hook sees it.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// The kernel's name for it, unique while the machine runs.
    pub cookie: u64,
    /// Cookie of its network namespace.
    pub netns: u64,
    /// IANA protocol number.
    pub proto: u8,
}

/// What happens to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not a service: leave it alone.
    Pass,
    /// Go there instead.
    Translate(Endpoint),
    /// ECONNREFUSED: the service has no endpoints.
    Refuse,
    /// EPERM: a `Local` policy without a local endpoint, where upstream drops.
    Deny,
}

/// A connect() or, with `sticky`, a sendmsg() of an unconnected UDP socket.
///
/// Connections spread at random. Datagrams of one socket to one service go to one endpoint while the
/// set of endpoints stays the same, as they do behind conntrack; protocols of several datagrams need it.
#[inline(always)]
pub fn outbound<T: Tables>(tables: &T, socket: &Socket, addr: &Addr, port_be: u16, sticky: bool) -> Verdict {
    let in_host_netns = match tables.config() {
        Some(config) => config.host_netns != 0 && config.host_netns == socket.netns,
        None => return Verdict::Pass,
    };
    let Some(found) = service::find(tables, addr, port_be, socket.proto, in_host_netns) else {
        return Verdict::Pass;
    };
    let (cookie_high, cookie_low) = words(socket.cookie);
    let (netns_high, netns_low) = words(socket.netns);
    let client = Addr { words: [0, 0, netns_high, netns_low] };
    let hash = if sticky { service::mix(cookie_low, cookie_high ^ found.id) } else { tables.random() };
    let chosen = if found.internal.count == 0 {
        None
    } else {
        service::select(tables, &found, found.internal, &client, CLIENT_NETNS, hash)
    };
    let Some(endpoint) = chosen else {
        tables.count(Counter::SocketRefused);
        return if found.flags & SERVICE_INTERNAL_DROP != 0 { Verdict::Deny } else { Verdict::Refuse };
    };
    let key = SocketKey { cookie: socket.cookie, addr: endpoint.addr, port_be: endpoint.port_be, reserved: [0; 3] };
    tables.set_socket(&key, &SocketValue { addr: *addr, port_be, reserved: 0, service: found.id });
    tables.count(Counter::SocketTranslated);
    Verdict::Translate(endpoint)
}

/// A peer's address as the socket's program should see it: the service that it asked for.
#[inline(always)]
pub fn inbound<T: Tables>(tables: &T, cookie: u64, addr: &Addr, port_be: u16) -> Option<SocketValue> {
    tables.socket(&SocketKey { cookie, addr: *addr, port_be, reserved: [0; 3] })
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "splits a word in two")]
const fn words(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
