//! Addresses, links and routes of the current network namespace, over rtnetlink.
//!
//! Routes that Orlop adds carry [`ROUTE_PROTOCOL`], so that a later run finds and removes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::RouteMessageBuilder;

/// Marks routes as Orlop's (`ip route show proto 111`). Free in `/etc/iproute2/rt_protos`.
pub const ROUTE_PROTOCOL: u8 = 111;
/// Metric of guard routes: any real route to the same network wins over them.
pub const GUARD_METRIC: u32 = 1_000_000;
/// `ENOENT`, `EEXIST`, `ESRCH` as netlink answers them.
const ESRCH: i32 = libc::ESRCH;

/// A failed netlink call.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot open a netlink socket: {0}")]
    Socket(#[source] std::io::Error),
    #[error("netlink: failed to {action}: {source}")]
    Request {
        action: String,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("no address of this node: there is neither a default route nor a global address on any interface")]
    NoNodeIp,
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    pub link_index: u32,
    /// The address with the prefix length of its network.
    pub network: IpNetwork,
    /// Global scope: not loopback, not link-local.
    pub global: bool,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `veth`, `bridge`, `vxlan` …; empty for physical ones.
    pub kind: String,
    pub up: bool,
    pub mtu: u32,
    pub master: Option<u32>,
    pub mac: Vec<u8>,
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    Unicast,
    /// Fails at once with "host unreachable".
    Unreachable,
    /// Drops silently.
    Blackhole,
    /// Local, broadcast and the rest.
    Other,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: IpNetwork,
    pub kind: RouteKind,
    pub gateway: Option<IpAddr>,
    pub link_index: Option<u32>,
    pub source: Option<IpAddr>,
    pub metric: u32,
    pub protocol: u8,
    /// The gateway need not be on a connected network.
    pub onlink: bool,
}

impl Route {
    /// A route of ours through a gateway.
    pub fn via(destination: IpNetwork, gateway: IpAddr, link_index: Option<u32>) -> Self {
        Self {
            destination,
            kind: RouteKind::Unicast,
            gateway: Some(gateway),
            link_index,
            source: None,
            metric: 0,
            protocol: ROUTE_PROTOCOL,
            onlink: false,
        }
    }

    /// A guard route of ours: stops packets that nothing else claims.
    pub fn guard(destination: IpNetwork, kind: RouteKind) -> Self {
        Self {
            destination,
            kind,
            gateway: None,
            link_index: None,
            source: None,
            metric: GUARD_METRIC,
            protocol: ROUTE_PROTOCOL,
            onlink: false,
        }
    }
}

/// A netlink socket in the network namespace of the thread that opened it.
pub struct Netlink {
    handle: rtnetlink::Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Opens a socket; its reader is a task of the current runtime.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Socket)?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    pub async fn addresses(&self) -> Result<Vec<InterfaceAddress>, NetlinkError> {
        let messages: Vec<_> =
            self.handle.address().get().execute().try_collect().await.map_err(failed("list addresses"))?;
        Ok(messages
            .iter()
            .filter_map(|message| {
                let find = |local: bool| {
                    message.attributes.iter().find_map(|a| match a {
                        AddressAttribute::Local(ip) if local => Some(*ip),
                        AddressAttribute::Address(ip) if !local => Some(*ip),
                        _ => None,
                    })
                };
                let ip = find(true).or_else(|| find(false))?;
                Some(InterfaceAddress {
                    link_index: message.header.index,
                    network: IpNetwork::new(ip, message.header.prefix_len).ok()?,
                    global: message.header.scope == AddressScope::Universe && !ip.is_loopback(),
                })
            })
            .collect())
    }

    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let messages: Vec<_> = self.handle.link().get().execute().try_collect().await.map_err(failed("list links"))?;
        Ok(messages
            .iter()
            .map(|message| {
                let mut link = Link {
                    index: message.header.index,
                    name: String::new(),
                    kind: String::new(),
                    up: message.header.flags.contains(LinkFlags::Up),
                    mtu: 0,
                    master: None,
                    mac: Vec::new(),
                };
                for attribute in &message.attributes {
                    match attribute {
                        LinkAttribute::IfName(name) => link.name.clone_from(name),
                        LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                        LinkAttribute::Controller(index) => link.master = Some(*index),
                        LinkAttribute::Address(mac) => link.mac.clone_from(mac),
                        LinkAttribute::LinkInfo(infos) => {
                            for info in infos {
                                if let LinkInfo::Kind(kind) = info {
                                    link.kind = kind_name(kind);
                                }
                            }
                        }
                        _ => {}
                    }
                }
                link
            })
            .collect())
    }

    /// Deletes a link; one that is gone already is fine.
    pub async fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        match self.handle.link().del(index).execute().await {
            Err(error) if os_error(&error) == Some(libc::ENODEV) => Ok(()),
            result => result.map_err(failed(format!("delete link {index}"))),
        }
    }

    /// Routes of the main table of both families.
    pub async fn routes(&self) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for message in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
        {
            let messages: Vec<RouteMessage> =
                self.handle.route().get(message).execute().try_collect().await.map_err(failed("list routes"))?;
            routes.extend(messages.iter().filter_map(parse_route));
        }
        Ok(routes)
    }

    /// Adds a route, or replaces the one to the same destination with the same metric.
    pub async fn put_route(&self, route: &Route) -> Result<(), NetlinkError> {
        self.handle
            .route()
            .add(build_route(route))
            .replace()
            .execute()
            .await
            .map_err(failed(format!("add the route to {}", route.destination)))
    }

    /// Removes a route; one that is gone already is fine.
    pub async fn remove_route(&self, route: &Route) -> Result<(), NetlinkError> {
        match self.handle.route().del(build_route(route)).execute().await {
            Err(error) if os_error(&error) == Some(ESRCH) => Ok(()),
            result => result.map_err(failed(format!("remove the route to {}", route.destination))),
        }
    }

    /// Everything that carries our protocol number.
    pub async fn routes_of_ours(&self) -> Result<Vec<Route>, NetlinkError> {
        Ok(self.routes().await?.into_iter().filter(|r| r.protocol == ROUTE_PROTOCOL).collect())
    }

    /// The address that the node is known by: that of the default route's interface, else the first global one.
    pub async fn node_ip(&self, v6: bool) -> Result<IpAddr, NetlinkError> {
        let routes = self.routes().await?;
        let addresses = self.addresses().await?;
        choose_node_ip(&routes, &addresses, v6).ok_or(NetlinkError::NoNodeIp)
    }
}

/// The default route with the least metric names the interface; its own source address wins.
fn choose_node_ip(routes: &[Route], addresses: &[InterfaceAddress], v6: bool) -> Option<IpAddr> {
    let of_family = |ip: &IpAddr| ip.is_ipv6() == v6;
    let global = |a: &&InterfaceAddress| a.global && of_family(&a.network.ip());
    let default = routes
        .iter()
        .filter(|r| {
            r.destination.prefix() == 0
                && r.kind == RouteKind::Unicast
                && of_family(&r.destination.ip())
                && r.link_index.is_some()
        })
        .min_by_key(|r| r.metric);
    if let Some(route) = default {
        if let Some(source) = route.source {
            return Some(source);
        }
        let on_link = |a: &&InterfaceAddress| Some(a.link_index) == route.link_index;
        if let Some(found) = addresses.iter().filter(global).find(on_link) {
            return Some(found.network.ip());
        }
    }
    addresses.iter().find(global).map(|a| a.network.ip())
}

/// Puts an `unreachable` route of ours for `network`, so that no packet to it follows the default route.
pub async fn ensure_unreachable(network: IpNetwork) -> Result<(), NetlinkError> {
    Netlink::connect()?.put_route(&Route::guard(network, RouteKind::Unreachable)).await
}

/// Puts a `blackhole` route of ours for `network`.
pub async fn ensure_blackhole(network: IpNetwork) -> Result<(), NetlinkError> {
    Netlink::connect()?.put_route(&Route::guard(network, RouteKind::Blackhole)).await
}

/// Removes every route of ours; goes on past errors. How many were removed.
pub async fn remove_routes_of_ours() -> Result<usize, Vec<NetlinkError>> {
    let netlink = Netlink::connect().map_err(|e| vec![e])?;
    let routes = netlink.routes_of_ours().await.map_err(|e| vec![e])?;
    let mut errors = Vec::new();
    let mut removed = 0;
    for route in &routes {
        match netlink.remove_route(route).await {
            Ok(()) => removed += 1,
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(removed) } else { Err(errors) }
}

/// The IPv4 address that the node is known by, or its IPv6 address where it has no other.
pub async fn node_ip() -> Result<IpAddr, NetlinkError> {
    let netlink = Netlink::connect()?;
    match netlink.node_ip(false).await {
        Err(NetlinkError::NoNodeIp) => netlink.node_ip(true).await,
        result => result,
    }
}

fn failed<S: Into<String>>(action: S) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    let action = action.into();
    move |source| NetlinkError::Request { action, source }
}

fn os_error(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| -code.get()),
        _ => None,
    }
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

fn build_route(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family =
        if route.destination.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.destination_prefix_length = route.destination.prefix();
    message.header.kind = match route.kind {
        RouteKind::Unicast | RouteKind::Other => RouteType::Unicast,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Blackhole => RouteType::BlackHole,
    };
    message.header.scope = match (route.kind, route.gateway) {
        (RouteKind::Unicast, None) if !route.destination.is_ipv6() => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    if route.onlink {
        message.header.flags |= netlink_packet_route::route::RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    if route.destination.prefix() > 0 {
        attributes.push(RouteAttribute::Destination(route.destination.network().into()));
    }
    if let Some(gateway) = route.gateway {
        attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    // The kernel ties IPv6 guard routes to `lo` by itself, and refuses to be told so.
    if let Some(index) = route.link_index.filter(|_| route.kind == RouteKind::Unicast) {
        attributes.push(RouteAttribute::Oif(index));
    }
    if let Some(source) = route.source {
        attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    if route.metric > 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}

fn parse_route(message: &RouteMessage) -> Option<Route> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::from(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::from(*ip)),
        _ => None,
    };
    let mut destination = any;
    let mut route = Route {
        destination: IpNetwork::new(any, 0).ok()?,
        kind: match message.header.kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Unreachable => RouteKind::Unreachable,
            RouteType::BlackHole => RouteKind::Blackhole,
            _ => RouteKind::Other,
        },
        gateway: None,
        link_index: None,
        source: None,
        metric: 0,
        protocol: u8::from(message.header.protocol),
        onlink: message.header.flags.contains(netlink_packet_route::route::RouteFlags::Onlink),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Oif(index) => route.link_index = Some(*index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    route.destination = IpNetwork::new(destination, message.header.destination_prefix_length).ok()?;
    Some(route)
}

#[cfg(test)]
mod tests;
