use super::*;
use crate::netns;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn address(index: u32, text: &str, global: bool) -> InterfaceAddress {
    InterfaceAddress { link_index: index, network: net(text), global }
}

#[test]
fn the_default_route_names_the_node_ip() {
    let default = |index, metric, source: Option<&str>| Route {
        destination: net("0.0.0.0/0"),
        kind: RouteKind::Unicast,
        gateway: Some("10.0.0.1".parse().unwrap()),
        link_index: Some(index),
        source: source.map(|s| s.parse().unwrap()),
        metric,
        protocol: 4,
        onlink: false,
    };
    let addresses = [
        address(1, "127.0.0.1/8", false),
        address(2, "192.168.1.5/24", true),
        address(3, "10.0.0.7/24", true),
        address(3, "fd00::7/64", true),
    ];
    let check = |routes: &[Route], v6: bool, want: Option<&str>| {
        assert_eq!(choose_node_ip(routes, &addresses, v6), want.map(|w| w.parse().unwrap()));
    };
    check(&[default(3, 100, None)], false, Some("10.0.0.7"));
    check(&[default(3, 100, None), default(2, 50, None)], false, Some("192.168.1.5"));
    check(&[default(3, 100, Some("10.0.0.99"))], false, Some("10.0.0.99"));
    check(&[], false, Some("192.168.1.5"));
    check(&[], true, Some("fd00::7"));
}

#[test]
fn routes_survive_the_way_to_the_message_and_back() {
    for route in [
        Route::guard(net("10.96.0.0/16"), RouteKind::Unreachable),
        Route::guard(net("10.244.1.0/24"), RouteKind::Blackhole),
        Route::guard(net("fd00:10::/112"), RouteKind::Unreachable),
        Route::via(net("10.244.2.0/24"), "10.0.0.2".parse().unwrap(), Some(7)),
    ] {
        assert_eq!(parse_route(&build_route(&route)), Some(route));
    }
}

#[test]
fn guard_routes_are_put_found_and_purged() {
    let Some(result) = netns::in_new_namespace_or_skip("guard routes", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let netlink = Netlink::connect().unwrap();
            for _ in 0..2 {
                ensure_unreachable(net("10.96.0.0/16")).await.unwrap();
                ensure_blackhole(net("10.244.0.0/24")).await.unwrap();
                ensure_unreachable(net("fd00:10:96::/112")).await.unwrap();
            }
            let ours = netlink.routes_of_ours().await.unwrap();
            let refused = std::net::UdpSocket::bind("0.0.0.0:0").unwrap().connect("10.96.0.10:53");
            let removed = remove_routes_of_ours().await.unwrap();
            let left = netlink.routes_of_ours().await.unwrap();
            (ours, refused.is_err(), removed, left)
        })
    }) else {
        return;
    };
    let (ours, refused, removed, left) = result;
    assert_eq!(ours.len(), 3, "{ours:?}");
    assert!(refused, "a service address must fail at once");
    assert_eq!(removed, 3);
    assert_eq!(left, Vec::new());
}
