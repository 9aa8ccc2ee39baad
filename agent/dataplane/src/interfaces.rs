//! Which interfaces outside traffic arrives at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::config::Interfaces;

/// An interface of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    /// Bytes before the IP header.
    pub(crate) header_len: u32,
    pub(crate) loopback: bool,
    pub(crate) addresses: BTreeSet<IpAddr>,
}

/// Interfaces by name.
pub(crate) type Links = BTreeMap<String, Link>;

const ETHERNET_HEADER: u32 = 14;

/// Asks the kernel.
pub(crate) fn read_links() -> io::Result<Links> {
    let mut links = Links::new();
    for entry in getifaddrs()? {
        let link = links.entry(entry.interface_name.clone()).or_default();
        link.loopback = entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let Some(address) = entry.address else { continue };
        if let Some(hardware) = address.as_link_addr() {
            link.index = u32::try_from(hardware.ifindex()).unwrap_or(0);
            let ethernet = hardware.hatype() == libc::ARPHRD_ETHER;
            link.header_len = if ethernet { ETHERNET_HEADER } else { 0 };
        } else if let Some(ip) = ip_of(&address) {
            link.addresses.insert(ip);
        }
    }
    links.retain(|_, link| link.index != 0);
    Ok(links)
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    address
        .as_sockaddr_in()
        .map(|v4| IpAddr::V4(v4.ip()))
        .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// Names of interfaces with a default route. Read through the thread, whose namespace counts.
pub(crate) fn default_route_interfaces() -> BTreeSet<String> {
    let v4 = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    parse_v4_routes(&v4).chain(parse_v6_routes(&v6)).map(str::to_owned).collect()
}

/// Columns: Iface Destination Gateway Flags RefCnt Use Metric Mask ...
fn parse_v4_routes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        (columns.get(1) == Some(&"00000000") && columns.get(7) == Some(&"00000000")).then(|| columns[0])
    })
}

/// Columns: destination, prefix length, source, its length, next hop, metric, ..., flags, interface.
fn parse_v6_routes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let any = columns.first().is_some_and(|to| to.bytes().all(|digit| digit == b'0'));
        (any && columns.get(1) == Some(&"00")).then(|| columns.get(9).copied()).flatten()
    })
}

/// The interfaces for the tc programs.
pub(crate) fn choose(
    links: &Links,
    wanted: &Interfaces,
    node_ips: &[IpAddr],
    routed: &BTreeSet<String>,
) -> BTreeSet<String> {
    links
        .iter()
        .filter(|(name, link)| match wanted {
            Interfaces::List(names) => names.contains(name),
            Interfaces::Auto => {
                !link.loopback && (routed.contains(*name) || node_ips.iter().any(|ip| link.addresses.contains(ip)))
            }
        })
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_of_both_families() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
                  eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\n\
                  eth1\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\n";
        assert_eq!(parse_v4_routes(v4).collect::<Vec<_>>(), ["eth0"]);
        let v6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  fe800000000000000000000000000001 00000400 00000001 00000000 00000003 wlan0\n\
                  fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n";
        assert_eq!(parse_v6_routes(v6).collect::<Vec<_>>(), ["wlan0"]);
    }

    #[test]
    fn auto_takes_node_addresses_and_default_routes_but_not_loopback() {
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let link = |index, loopback, addresses: &[IpAddr]| Link {
            index,
            header_len: 14,
            loopback,
            addresses: addresses.iter().copied().collect(),
        };
        let links = Links::from([
            ("lo".into(), link(1, true, &[ip])),
            ("eth0".into(), link(2, false, &[ip])),
            ("eth1".into(), link(3, false, &[])),
            ("cni0".into(), link(4, false, &[])),
        ]);
        let routed = BTreeSet::from(["eth1".to_owned()]);
        let chosen = choose(&links, &Interfaces::Auto, &[ip], &routed);
        assert_eq!(chosen, BTreeSet::from(["eth0".to_owned(), "eth1".to_owned()]));
        let listed = Interfaces::List(vec!["cni0".into(), "absent".into()]);
        assert_eq!(choose(&links, &listed, &[ip], &routed), BTreeSet::from(["cni0".to_owned()]));
    }
}
