//! The decisions, natively.

extern crate std;
use core::net::IpAddr;
use std::vec::Vec;

use proptest::prelude::*;

use crate::addr::Addr;
use crate::fake_tables::FakeTables;
use crate::flow::{self, SYN_IDLE_NS, UDP_IDLE_NS};
use crate::maps::*;
use crate::packet::{Bytes, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Flow, TCP, TCP_ACK, TCP_RST, TCP_SYN, UDP, parse};
use crate::service::{SECOND_NS, slot_of};
use crate::socket::{self, Socket, Verdict as SocketVerdict};

const VIP: &str = "10.96.0.1";
const NODE: &str = "192.168.0.1";
const CLIENT: &str = "203.0.113.9";
const HOST_NETNS: u64 = 1;
const POD_NETNS: u64 = 7_000_000_001;

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn endpoint(ip: &str, local: bool) -> Endpoint {
    Endpoint { addr: addr(ip), port_be: 8080_u16.to_be(), flags: if local { ENDPOINT_LOCAL } else { 0 } }
}

/// A service at the VIP and on node port 30080, with the given endpoints.
fn tables(endpoints: &[Endpoint], affinity_s: u32) -> FakeTables {
    let mut tables = FakeTables {
        config: Some(Config {
            host_netns: HOST_NETNS,
            node_v4: addr(NODE),
            node_v6: Addr::default(),
            snat_first: 61_000,
            snat_count: 4_000,
            layout: LAYOUT_VERSION,
        }),
        ..FakeTables::default()
    };
    let group = tables.group(5, endpoints);
    let service = Service { id: 3, affinity_s, internal: group, external: group, ..Service::default() };
    for proto in [TCP, UDP] {
        let vip = ServiceKey { addr: addr(VIP), port_be: 80_u16.to_be(), proto, kind: FRONTEND_ADDRESS };
        let port = ServiceKey { addr: Addr::ANY_V4, port_be: 30080_u16.to_be(), proto, kind: FRONTEND_NODE_PORT };
        tables.services.insert(vip, service);
        tables.services.insert(port, service);
    }
    tables.node_addrs.insert(addr(NODE), NODE_ADDR_PLAIN);
    tables.node_addrs.insert(addr("127.0.0.1"), NODE_ADDR_HOST_ONLY);
    tables
}

fn connect(tables: &FakeTables, netns: u64, to: &str, port: u16) -> SocketVerdict {
    let socket = Socket { cookie: 99, netns, proto: TCP };
    socket::outbound(tables, &socket, &addr(to), port.to_be(), false)
}

#[test]
fn addresses_of_both_families_survive() {
    for text in ["0.0.0.0", "10.1.2.3", "255.255.255.255", "::", "::1", "fd00::1:2", "2001:db8::ffff"] {
        let ip: IpAddr = text.parse().unwrap();
        assert_eq!(IpAddr::from(Addr::from(ip)), ip);
        assert_eq!(Addr::from(ip).is_v4(), ip.is_ipv4());
    }
    // A v4-mapped address and the IPv4 address are the same key.
    assert_eq!(addr("::ffff:10.1.2.3"), addr("10.1.2.3"));
}

#[test]
fn sockets_meet_services_and_nothing_else() {
    let one = endpoint("10.244.0.2", true);
    let tables = tables(&[one], 0);
    let there = SocketVerdict::Translate(one);
    for (netns, to, port, expect) in [
        (POD_NETNS, VIP, 80, there),
        (POD_NETNS, VIP, 81, SocketVerdict::Pass),
        (POD_NETNS, NODE, 30080, there),
        (HOST_NETNS, "127.0.0.1", 30080, there),
        // A Pod's loopback is its own.
        (POD_NETNS, "127.0.0.1", 30080, SocketVerdict::Pass),
        (POD_NETNS, "10.0.0.9", 30080, SocketVerdict::Pass),
        (POD_NETNS, "fd00::1", 80, SocketVerdict::Pass),
    ] {
        assert_eq!(connect(&tables, netns, to, port), expect, "{to}:{port} from {netns}");
    }
    // The way back tells the service's address, for this socket alone.
    let asked = socket::inbound(&tables, 99, &one.addr, one.port_be).unwrap();
    assert_eq!(asked.port_be, 30080_u16.to_be());
    assert!(socket::inbound(&tables, 98, &one.addr, one.port_be).is_none());
}

#[test]
fn no_endpoints_refuse_or_deny() {
    let mut tables = tables(&[], 0);
    assert_eq!(connect(&tables, POD_NETNS, VIP, 80), SocketVerdict::Refuse);
    assert_eq!(flow::ingress(&tables, &syn(NODE, 30080), 0), flow::Verdict::Refuse);
    for service in tables.services.values_mut() {
        service.flags = SERVICE_INTERNAL_DROP | SERVICE_EXTERNAL_DROP;
    }
    assert_eq!(connect(&tables, POD_NETNS, VIP, 80), SocketVerdict::Deny);
    assert_eq!(flow::ingress(&tables, &syn(NODE, 30080), 0), flow::Verdict::Drop);
    // Without a configuration (a loader that is not done) nothing is touched.
    tables.config = None;
    assert_eq!(connect(&tables, POD_NETNS, VIP, 80), SocketVerdict::Pass);
}

#[test]
fn affinity_ends_with_its_time_or_its_endpoint() {
    let (a, b) = (endpoint("10.244.0.2", true), endpoint("10.244.0.3", true));
    let mut tables = tables(&[a, b], 60);
    tables.random.set(0);
    assert_eq!(connect(&tables, POD_NETNS, VIP, 80), SocketVerdict::Translate(a));
    tables.random.set(u32::MAX);
    tables.now_ns.set(59 * SECOND_NS);
    assert_eq!(connect(&tables, POD_NETNS, VIP, 80), SocketVerdict::Translate(a), "refreshed by use");
    tables.now_ns.set(118 * SECOND_NS);
    assert_eq!(
        connect(&tables, POD_NETNS, NODE, 30080),
        SocketVerdict::Translate(a),
        "of the service, not the frontend"
    );
    assert_eq!(connect(&tables, POD_NETNS + 1, VIP, 80), SocketVerdict::Translate(b), "of the client");
    tables.now_ns.set(178 * SECOND_NS);
    assert_eq!(connect(&tables, POD_NETNS, VIP, 80), SocketVerdict::Translate(b), "timed out");
    // A new set without b: the member check moves the client.
    let group = tables.group(6, &[a]);
    for service in tables.services.values_mut() {
        service.internal = group;
    }
    assert_eq!(connect(&tables, POD_NETNS, VIP, 80), SocketVerdict::Translate(a));
}

#[test]
fn datagrams_of_a_socket_stay_together() {
    let endpoints: Vec<_> = (1..=9).map(|n| endpoint(&std::format!("10.244.0.{n}"), true)).collect();
    let tables = tables(&endpoints, 0);
    let send = |cookie, random| {
        tables.random.set(random);
        let socket = Socket { cookie, netns: POD_NETNS, proto: UDP };
        socket::outbound(&tables, &socket, &addr(VIP), 80_u16.to_be(), true)
    };
    let mut used = std::collections::HashSet::new();
    for cookie in 0..200 {
        let SocketVerdict::Translate(first) = send(cookie, 0) else { panic!("must be translated") };
        assert_eq!(send(cookie, u32::MAX), SocketVerdict::Translate(first));
        used.insert(first);
    }
    assert_eq!(used.len(), endpoints.len(), "sockets spread");
}

fn packet(proto: u8, src: (&str, u16), dst: (&str, u16), tcp_flags: u8) -> Flow {
    Flow {
        src: addr(src.0),
        dst: addr(dst.0),
        sport_be: src.1.to_be(),
        dport_be: dst.1.to_be(),
        proto,
        tcp_flags,
        l3: 14,
        l4: 34,
    }
}

fn syn(to: &str, port: u16) -> Flow {
    packet(TCP, (CLIENT, 40_000), (to, port), TCP_SYN)
}

/// What the verdict makes of the packet.
fn after(mut flow: Flow, verdict: flow::Verdict) -> Flow {
    match verdict {
        flow::Verdict::Source(addr, port_be) => (flow.src, flow.sport_be) = (addr, port_be),
        flow::Verdict::Destination(addr, port_be) => (flow.dst, flow.dport_be) = (addr, port_be),
        flow::Verdict::Pass => {}
        other => panic!("the packet ends: {other:?}"),
    }
    flow
}

fn answer(flow: &Flow, tcp_flags: u8) -> Flow {
    Flow { src: flow.dst, dst: flow.src, sport_be: flow.dport_be, dport_be: flow.sport_be, tcp_flags, ..*flow }
}

/// Through the node and back: what the endpoint sees, and what the client gets.
fn round_trip(tables: &FakeTables, request: Flow, interface: u32) -> (Flow, Flow) {
    let routed = after(request, flow::ingress(tables, &request, interface));
    let arrived = after(routed, flow::egress(tables, &routed));
    let reply = answer(&arrived, TCP_ACK);
    let routed = after(reply, flow::ingress(tables, &reply, 0));
    (arrived, after(routed, flow::egress(tables, &routed)))
}

#[test]
fn a_local_endpoint_sees_the_client() {
    let tables = tables(&[endpoint("10.244.0.2", true)], 0);
    let request = syn(NODE, 30080);
    let (arrived, back) = round_trip(&tables, request, 0);
    assert_eq!((arrived.src, arrived.sport_be), (request.src, request.sport_be));
    assert_eq!((arrived.dst, arrived.dport_be), (addr("10.244.0.2"), 8080_u16.to_be()));
    assert_eq!(back, answer(&request, TCP_ACK));
}

#[test]
fn a_remote_endpoint_sees_the_node() {
    let tables = tables(&[endpoint("10.244.9.2", false)], 0);
    let request = syn(VIP, 80);
    let (arrived, back) = round_trip(&tables, request, 0);
    assert_eq!(arrived.src, addr(NODE));
    assert!((61_000..65_000).contains(&u16::from_be(arrived.sport_be)));
    assert_eq!(back, answer(&request, TCP_ACK));
    // The same packet again takes the same way.
    assert_eq!(round_trip(&tables, request, 0).0, arrived);
}

#[test]
fn packets_from_pods_answer_through_the_node() {
    let tables = tables(&[endpoint("10.244.0.2", true)], 0);
    let (arrived, _) = round_trip(&tables, syn(VIP, 80), INTERFACE_PODS);
    assert_eq!(arrived.src, addr(NODE));
}

#[test]
fn no_port_is_left() {
    let mut tables = tables(&[endpoint("10.244.9.2", false)], 0);
    tables.config = tables.config.map(|config| Config { snat_count: 1, ..config });
    round_trip(&tables, syn(VIP, 80), 0);
    let other = packet(TCP, (CLIENT, 40_001), (VIP, 80), TCP_SYN);
    assert_eq!(flow::ingress(&tables, &other, 0), flow::Verdict::Drop);
    assert_eq!(tables.counted(Counter::SnatExhausted), 1);
    // The first connection is over, and its port free again.
    let reset = packet(TCP, (CLIENT, 40_000), (VIP, 80), TCP_RST);
    let (arrived, _) = round_trip(&tables, reset, 0);
    flow::ingress(&tables, &answer(&arrived, TCP_RST), 0);
    tables.now_ns.set(SYN_IDLE_NS + 2);
    assert!(matches!(flow::ingress(&tables, &other, 0), flow::Verdict::Destination(..)));
}

#[test]
fn connections_outlive_their_endpoint_and_start_over_when_done() {
    let (a, b) = (endpoint("10.244.0.2", true), endpoint("10.244.0.3", true));
    let mut tables = tables(&[a], 0);
    let request = syn(NODE, 30080);
    round_trip(&tables, request, 0);
    let group = tables.group(6, &[b]);
    for service in tables.services.values_mut() {
        service.external = group;
    }
    let more = Flow { tcp_flags: TCP_ACK, ..request };
    assert_eq!(round_trip(&tables, more, 0).0.dst, a.addr, "the connection stays");
    let last = Flow { tcp_flags: TCP_RST, ..request };
    assert_eq!(round_trip(&tables, last, 0).0.dst, a.addr);
    assert_eq!(round_trip(&tables, request, 0).0.dst, b.addr, "a SYN after the end is new");
}

#[test]
fn silent_udp_flows_start_over() {
    let (a, b) = (endpoint("10.244.0.2", true), endpoint("10.244.0.3", true));
    let mut tables = tables(&[a], 0);
    let request = packet(UDP, (CLIENT, 40_000), (NODE, 30080), 0);
    round_trip(&tables, request, 0);
    let group = tables.group(6, &[b]);
    for service in tables.services.values_mut() {
        service.external = group;
    }
    tables.now_ns.set(UDP_IDLE_NS);
    assert_eq!(round_trip(&tables, request, 0).0.dst, a.addr);
    tables.now_ns.set(2 * UDP_IDLE_NS + 1);
    assert_eq!(round_trip(&tables, request, 0).0.dst, b.addr);
}

#[test]
fn eviction_of_the_whole_table_keeps_connections() {
    let endpoints: Vec<_> = (1..=7).map(|n| endpoint(&std::format!("10.244.0.{n}"), true)).collect();
    let tables = tables(&endpoints, 0);
    let request = syn(NODE, 30080);
    let (before, _) = round_trip(&tables, request, 0);
    tables.flows.borrow_mut().clear();
    let more = Flow { tcp_flags: TCP_ACK, ..request };
    let (after, back) = round_trip(&tables, more, 0);
    assert_eq!(after.dst, before.dst);
    assert_eq!(back, answer(&request, TCP_ACK));
}

#[test]
fn sources_are_checked() {
    let mut tables = tables(&[endpoint("10.244.0.2", true)], 0);
    for service in tables.services.values_mut() {
        service.flags = SERVICE_CHECK_SOURCE;
    }
    assert_eq!(flow::ingress(&tables, &syn(VIP, 80), 0), flow::Verdict::Drop);
    tables.sources.insert((3, addr(CLIENT)));
    assert!(matches!(flow::ingress(&tables, &syn(VIP, 80), 0), flow::Verdict::Destination(..)));
}

struct Wire(Vec<u8>);

impl Bytes for Wire {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = usize::try_from(offset).ok()?;
        self.0.get(start..start.checked_add(N)?)?.try_into().ok()
    }
}

/// Ethernet, IPv4 with `options` words of options, TCP.
fn v4_packet(options: u8, fragment: u16, proto: u8) -> Wire {
    let mut bytes = std::vec![0; 14];
    bytes.extend([0x45 + options, 0, 0, 40, 0, 0]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend(std::iter::repeat_n(0, usize::from(options) * 4));
    bytes.extend([0x1f, 0x90, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, TCP_SYN, 0, 0, 0, 0, 0, 0]);
    Wire(bytes)
}

#[test]
fn headers_are_found_behind_options() {
    for options in 0..=10 {
        let flow = parse(&v4_packet(options, 0x4000, TCP), ETHERTYPE_IPV4, 14).unwrap();
        assert_eq!(flow.l4, 34 + u32::from(options) * 4);
        assert_eq!((flow.src, flow.dst), (addr("10.0.0.1"), addr("10.0.0.2")));
        assert_eq!((u16::from_be(flow.sport_be), u16::from_be(flow.dport_be)), (8080, 80));
        assert_eq!(flow.tcp_flags, TCP_SYN);
    }
    // More fragments, a later fragment, another protocol, another ethertype.
    assert_eq!(parse(&v4_packet(0, 0x2000, TCP), ETHERTYPE_IPV4, 14), None);
    assert_eq!(parse(&v4_packet(0, 0x0010, TCP), ETHERTYPE_IPV4, 14), None);
    assert_eq!(parse(&v4_packet(0, 0, 1), ETHERTYPE_IPV4, 14), None);
    assert_eq!(parse(&v4_packet(0, 0, TCP), 0x0806, 14), None);
}

#[test]
fn extension_headers_are_walked_and_fragments_left_alone() {
    let build = |extensions: &[(u8, usize)], last: u8| {
        let mut bytes = std::vec![0x60, 0, 0, 0, 0, 40];
        let mut nexts: Vec<u8> = extensions.iter().map(|(kind, _)| *kind).collect();
        nexts.push(last);
        bytes.extend([nexts[0], 64]);
        bytes.extend([0xfd; 16]);
        bytes.extend([0xfe; 16]);
        for (index, (_, words)) in extensions.iter().enumerate() {
            let mut header = std::vec![0; 8 + words * 8];
            header[0] = nexts[index + 1];
            header[1] = u8::try_from(*words).unwrap();
            bytes.extend(header);
        }
        bytes.extend([0, 53, 0, 54, 0, 8, 0, 0]);
        Wire(bytes)
    };
    assert_eq!(parse(&build(&[], UDP), ETHERTYPE_IPV6, 0).unwrap().l4, 40);
    assert_eq!(parse(&build(&[(0, 0), (60, 2)], UDP), ETHERTYPE_IPV6, 0).unwrap().l4, 40 + 8 + 24);
    assert_eq!(parse(&build(&[(44, 0)], UDP), ETHERTYPE_IPV6, 0), None);
    assert_eq!(parse(&build(&[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)], UDP), ETHERTYPE_IPV6, 0), None);
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..120), v6 in any::<bool>()) {
        let ethertype = if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        let wire = Wire(bytes);
        if let Some(flow) = parse(&wire, ethertype, 0) {
            prop_assert!(wire.load::<4>(flow.l4).is_some());
        }
    }

    #[test]
    fn slots_are_in_range_and_even(hash in any::<u32>(), count in 1_u32..10_000) {
        prop_assert!(slot_of(hash, count) < count);
    }

    /// Whatever the addresses, ports and endpoints: the client gets its answer from where it asked.
    #[test]
    fn answers_come_from_where_they_were_asked(
        client in any::<[u8; 4]>(), port in 1_u16.., hosts in prop::collection::vec((1_u8.., any::<bool>()), 1..20),
        udp in any::<bool>(), node_port in any::<bool>(), from_pods in any::<bool>(),
    ) {
        let endpoints: Vec<_> =
            hosts.iter().map(|(host, local)| endpoint(&std::format!("10.244.7.{host}"), *local)).collect();
        let tables = tables(&endpoints, 0);
        let proto = if udp { UDP } else { TCP };
        let to = if node_port { (NODE, 30080) } else { (VIP, 80) };
        let mut request = packet(proto, (CLIENT, port), to, if udp { 0 } else { TCP_SYN });
        request.src = IpAddr::from(client).into();
        let interface = if from_pods { INTERFACE_PODS } else { 0 };
        let (arrived, back) = round_trip(&tables, request, interface);
        prop_assert!(endpoints.iter().any(|endpoint| endpoint.addr == arrived.dst));
        prop_assert_eq!(back, answer(&request, TCP_ACK));
    }
}

/// The checksum as its definition has it, over whole bytes; 0 for data that carries its own right one.
fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let total: u64 = bytes.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let mut folded = total;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    !u16::try_from(folded).unwrap()
}

fn octets(addr: Addr) -> Vec<u8> {
    match IpAddr::from(addr) {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[test]
fn resets_answer_as_the_rfc_says() {
    use crate::reply::{reset, v4_header};
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&1000_u32.to_be_bytes());
    header[8..12].copy_from_slice(&77_u32.to_be_bytes());
    let answer = reset(&syn(VIP, 80), &header, 0).unwrap();
    assert_eq!(answer[13], TCP_RST | TCP_ACK);
    assert_eq!((&answer[4..8], &answer[8..12]), (&[0; 4][..], &1001_u32.to_be_bytes()[..]));
    assert_eq!((&answer[0..2], &answer[2..4]), (&80_u16.to_be_bytes()[..], &40_000_u16.to_be_bytes()[..]));
    let middle = Flow { tcp_flags: TCP_ACK, ..syn(VIP, 80) };
    let answer = reset(&middle, &header, 9).unwrap();
    assert_eq!((answer[13], &answer[4..8]), (TCP_RST, &77_u32.to_be_bytes()[..]));
    assert_eq!(reset(&Flow { tcp_flags: TCP_RST, ..middle }, &header, 0), None);
    assert_eq!(checksum(&[&v4_header(&middle, TCP, 20)]), 0);
}

proptest! {
    #[test]
    fn refusals_carry_right_checksums(
        src in any::<[u8; 16]>(), dst in any::<[u8; 16]>(), v4 in any::<bool>(), header in any::<[u8; 20]>(),
        quoted in any::<[u8; 8]>(),
    ) {
        use crate::reply::{port_unreachable_v4, port_unreachable_v6, reset, sum, v4_header, v6_header};
        let ip = |bytes: [u8; 16]| -> Addr {
            if v4 { IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]) } else { IpAddr::from(bytes) }.into()
        };
        let mut flow = syn(VIP, 80);
        (flow.src, flow.dst) = (ip(src), ip(dst));
        prop_assume!(flow.src.is_v4() == v4 && flow.dst.is_v4() == v4);
        let (from, to) = (octets(flow.dst), octets(flow.src));
        let answer = reset(&flow, &header, 0).unwrap();
        prop_assert_eq!(checksum(&[&from, &to, &[0, TCP, 0, 20], &answer]), 0);
        if v4 {
            prop_assert_eq!(checksum(&[&v4_header(&flow, 1, 36)]), 0);
            let mut message = [0; 36];
            message[8..28].copy_from_slice(&header);
            message[28..].copy_from_slice(&quoted);
            port_unreachable_v4(&mut message, sum);
            prop_assert_eq!(checksum(&[&message]), 0);
        } else {
            let ip = v6_header(&flow, 58, 56);
            prop_assert_eq!(&ip[8..40], &[from.clone(), to.clone()].concat()[..]);
            let mut message = [0; 56];
            message[8..48].copy_from_slice(&ip);
            message[48..].copy_from_slice(&quoted);
            port_unreachable_v6(&flow, &mut message, sum);
            prop_assert_eq!(checksum(&[&from, &to, &[0, 58, 0, 56], &message]), 0);
        }
    }
}
