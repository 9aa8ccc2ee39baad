//! Services and slices to rules: the semantics of Services, as tables.
#![allow(clippy::needless_pass_by_value, reason = "callers write json! literals")]

use std::collections::HashSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::compile::Limits;
use crate::plan::{plan, plan_for, record};
use crate::services::{ServiceName, service_spec};
use crate::slices::slice_spec;
use crate::state::{
    Frontend, FrontendAddress, FrontendKind, IpFamily, NodeAddressScope, Protocol, ProxyState, Rule, WhenEmpty,
};
use crate::tracker::Tracker;

const ALL: Limits = Limits { ipv6: true, sctp: true, source_ranges: true };
const HERE: &str = "here";

fn name(text: &str) -> ServiceName {
    ServiceName { namespace: "ns".into(), name: text.into() }
}

fn put_service(tracker: &mut Tracker, service_name: &str, spec: Value, status: Value) -> bool {
    let service: Service = serde_json::from_value(json!({
        "metadata": { "namespace": "ns", "name": service_name }, "spec": spec, "status": status,
    }))
    .unwrap();
    tracker.set_service(name(service_name), service_spec(&service))
}

fn put_slice(tracker: &mut Tracker, slice_name: &str, service: &str, family: &str, endpoints: Value) -> bool {
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {
            "namespace": "ns", "name": slice_name, "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": family,
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }, { "name": "dns", "port": 53, "protocol": "UDP" }],
        "endpoints": endpoints,
    }))
    .unwrap();
    tracker.set_slice(name(slice_name), slice_spec(&slice, HERE))
}

/// A ready endpoint.
fn ready(ip: &str, node: &str) -> Value {
    json!({ "addresses": [ip], "nodeName": node, "conditions": { "ready": true } })
}

fn terminating(ip: &str, node: &str, serving: bool) -> Value {
    json!({
        "addresses": [ip], "nodeName": node,
        "conditions": { "ready": false, "serving": serving, "terminating": true },
    })
}

fn spec(more: Value) -> Value {
    let mut spec = json!({
        "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "type": "ClusterIP",
        "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn tcp(address: &str, port: u16) -> Frontend {
    let address = match address {
        "node4" => FrontendAddress::NodePort(IpFamily::V4),
        "node6" => FrontendAddress::NodePort(IpFamily::V6),
        ip => FrontendAddress::Ip(ip.parse().unwrap()),
    };
    Frontend { address, port, protocol: Protocol::Tcp }
}

fn rule<'a>(tracker: &'a Tracker, frontend: &Frontend) -> &'a Rule {
    tracker.state().frontends.get(frontend).unwrap_or_else(|| panic!("no {frontend}"))
}

fn ips(endpoints: &[crate::state::Endpoint]) -> Vec<String> {
    endpoints.iter().map(|endpoint| endpoint.ip.to_string()).collect()
}

/// A tracker with one Service `web` and its slice.
fn web(service: Value, status: Value, endpoints: Value) -> Tracker {
    let mut tracker = Tracker::new(ALL);
    put_service(&mut tracker, "web", spec(service), status);
    put_slice(&mut tracker, "web-1", "web", "IPv4", endpoints);
    tracker.refresh();
    tracker
}

#[test]
fn endpoints_by_their_conditions() {
    let check = |endpoints: Value, expect: &[&str]| {
        let tracker = web(json!({}), Value::Null, endpoints.clone());
        assert_eq!(ips(&rule(&tracker, &tcp("10.96.0.1", 80)).internal.endpoints), expect, "{endpoints}");
    };
    let unready = json!({ "addresses": ["10.0.0.8"], "conditions": { "ready": false } });
    check(json!([ready("10.0.0.2", HERE), ready("10.0.0.1", "there")]), &["10.0.0.1", "10.0.0.2"]);
    // Absent conditions mean ready.
    check(json!([{ "addresses": ["10.0.0.1"] }]), &["10.0.0.1"]);
    check(json!([ready("10.0.0.1", HERE), unready]), &["10.0.0.1"]);
    check(json!([ready("10.0.0.1", HERE), terminating("10.0.0.2", HERE, true)]), &["10.0.0.1"]);
    // Nobody is ready: those that still serve take over, and only those.
    check(json!([unready, terminating("10.0.0.2", HERE, true), terminating("10.0.0.3", HERE, false)]), &["10.0.0.2"]);
    // The same address twice: the one that isn't going away counts.
    check(json!([ready("10.0.0.1", HERE), terminating("10.0.0.1", HERE, true)]), &["10.0.0.1"]);
    check(json!([]), &[]);
    check(Value::Null, &[]);
}

#[test]
fn addresses_that_are_not_believed() {
    for address in ["127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "fd00::1", "nonsense"] {
        let tracker = web(json!({}), Value::Null, json!([ready(address, HERE), ready("10.0.0.1", HERE)]));
        let used = &rule(&tracker, &tcp("10.96.0.1", 80)).internal.endpoints;
        assert_eq!(ips(used), ["10.0.0.1"], "{address}");
        let explained = crate::explain::explain(&tracker, name("web"));
        assert!(
            explained
                .endpoints
                .iter()
                .any(|(text, verdict)| { text == address && matches!(verdict, crate::explain::Verdict::Refused(_)) })
        );
    }
}

#[test]
fn traffic_policies_choose_and_drop() {
    let there = json!([ready("10.0.0.1", "there")]);
    let both = json!([ready("10.0.0.1", "there"), ready("10.0.0.2", HERE)]);
    let node_port = json!({
        "type": "NodePort", "externalTrafficPolicy": "Local",
        "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }],
    });
    let tracker = web(node_port.clone(), Value::Null, both);
    let at_node = rule(&tracker, &tcp("node4", 30080));
    assert_eq!(ips(&at_node.external.endpoints), ["10.0.0.2"], "from outside: local ones");
    assert_eq!(ips(&at_node.internal.endpoints), ["10.0.0.1", "10.0.0.2"], "from this node: all");
    assert_eq!(ips(&rule(&tracker, &tcp("10.96.0.1", 80)).external.endpoints), ["10.0.0.1", "10.0.0.2"]);

    let tracker = web(node_port.clone(), Value::Null, there.clone());
    assert_eq!(rule(&tracker, &tcp("node4", 30080)).external.when_empty, WhenEmpty::Drop);
    let tracker = web(node_port, Value::Null, json!([]));
    assert_eq!(rule(&tracker, &tcp("node4", 30080)).external.when_empty, WhenEmpty::Reject, "none anywhere");

    let tracker = web(json!({ "internalTrafficPolicy": "Local" }), Value::Null, there);
    let inside = &rule(&tracker, &tcp("10.96.0.1", 80)).internal;
    assert_eq!((inside.endpoints.len(), inside.when_empty), (0, WhenEmpty::Drop));
}

#[test]
fn local_falls_back_to_terminating_by_itself() {
    let tracker = web(
        json!({ "internalTrafficPolicy": "Local" }),
        Value::Null,
        json!([ready("10.0.0.1", "there"), terminating("10.0.0.2", HERE, true)]),
    );
    assert_eq!(ips(&rule(&tracker, &tcp("10.96.0.1", 80)).internal.endpoints), ["10.0.0.2"]);
}

#[test]
fn load_balancers_by_ip_mode_and_source_range() {
    let balanced = json!({
        "type": "LoadBalancer", "loadBalancerSourceRanges": ["10.9.0.1/8", "fd00::/8"],
        "externalIPs": ["198.51.100.7"],
        "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }],
    });
    let status = json!({ "loadBalancer": { "ingress": [
        { "ip": "203.0.113.1" }, { "ip": "203.0.113.2", "ipMode": "VIP" }, { "ip": "203.0.113.3", "ipMode": "Proxy" },
        { "hostname": "lb.example" },
    ] } });
    let tracker = web(balanced.clone(), status.clone(), json!([ready("10.0.0.1", "there")]));
    let kinds: Vec<_> =
        tracker.state().frontends.iter().map(|(frontend, rule)| (frontend.address, rule.kind)).collect();
    let at = |text: &str| FrontendAddress::Ip(text.parse::<IpAddr>().unwrap());
    assert_eq!(
        kinds,
        [
            (at("10.96.0.1"), FrontendKind::ClusterIp),
            (at("198.51.100.7"), FrontendKind::ExternalIp),
            (at("203.0.113.1"), FrontendKind::LoadBalancer),
            (at("203.0.113.2"), FrontendKind::LoadBalancer),
            (FrontendAddress::NodePort(IpFamily::V4), FrontendKind::NodePort),
        ]
    );
    // The bits past the prefix don't count, and each family sees its own ranges.
    let ranges = &rule(&tracker, &tcp("203.0.113.1", 80)).source_ranges;
    assert_eq!(ranges.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8"]);
    assert!(rule(&tracker, &tcp("node4", 30080)).source_ranges.is_empty(), "NodePorts aren't limited");

    // A backend without source ranges closes rather than opens.
    let mut tracker = Tracker::new(Limits { source_ranges: false, ..ALL });
    put_service(&mut tracker, "web", spec(balanced), status);
    put_slice(&mut tracker, "web-1", "web", "IPv4", json!([ready("10.0.0.1", HERE)]));
    let (_, refused) = tracker.refresh();
    assert_eq!(refused.len(), 2);
    let outside = &rule(&tracker, &tcp("203.0.113.1", 80)).external;
    assert_eq!((outside.endpoints.len(), outside.when_empty), (0, WhenEmpty::Drop));
}

#[test]
fn affinity_has_upstreams_default() {
    for (more, expect) in [
        (json!({}), None),
        (json!({ "sessionAffinity": "ClientIP" }), Some(10_800)),
        (
            json!({ "sessionAffinity": "ClientIP", "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 7 } } }),
            Some(7),
        ),
    ] {
        let tracker = web(more, Value::Null, json!([]));
        assert_eq!(rule(&tracker, &tcp("10.96.0.1", 80)).affinity_s, expect);
    }
}

#[test]
fn families_and_protocols_keep_apart() {
    let dual = json!({
        "clusterIPs": ["10.96.0.1", "fd96::1"], "type": "NodePort",
        "ports": [
            { "name": "http", "port": 80, "nodePort": 30080 },
            { "name": "dns", "port": 53, "protocol": "UDP" }, { "name": "sctp", "port": 99, "protocol": "SCTP" },
        ],
    });
    let mut tracker = Tracker::new(Limits { sctp: false, ..ALL });
    put_service(&mut tracker, "web", spec(dual), Value::Null);
    put_slice(&mut tracker, "four", "web", "IPv4", json!([ready("10.0.0.1", HERE)]));
    put_slice(&mut tracker, "six", "web", "IPv6", json!([ready("fd00::1", HERE)]));
    put_slice(&mut tracker, "names", "web", "FQDN", json!([ready("example.com", HERE)]));
    let (_, refused) = tracker.refresh();
    assert_eq!(refused, [(name("web"), "port 99: this proxy mode has no SCTP".to_owned())]);
    assert_eq!(ips(&rule(&tracker, &tcp("node4", 30080)).external.endpoints), ["10.0.0.1"]);
    assert_eq!(ips(&rule(&tracker, &tcp("node6", 30080)).external.endpoints), ["fd00::1"]);
    let dns = Frontend { port: 53, protocol: Protocol::Udp, ..tcp("fd96::1", 80) };
    assert_eq!(rule(&tracker, &dns).internal.endpoints[0].port, 53);
    assert!(!tracker.state().frontends.contains_key(&Frontend { protocol: Protocol::Tcp, ..dns }));
}

#[test]
fn services_that_no_node_proxies() {
    for more in [
        json!({ "clusterIP": "None", "clusterIPs": ["None"] }),
        json!({ "clusterIP": "", "clusterIPs": [] }),
        json!({ "type": "ExternalName", "externalName": "example.com" }),
    ] {
        let tracker = web(more.clone(), Value::Null, json!([ready("10.0.0.1", HERE)]));
        assert!(tracker.state().frontends.is_empty(), "{more}");
    }
}

#[test]
fn a_claim_never_takes_anothers_address() {
    let mut tracker = Tracker::new(ALL);
    // The thief comes first, in time and by name.
    put_service(
        &mut tracker,
        "a-thief",
        spec(json!({ "clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2"], "externalIPs": ["10.96.0.1"] })),
        Value::Null,
    );
    tracker.refresh();
    put_service(&mut tracker, "victim", spec(json!({})), Value::Null);
    let (touched, _) = tracker.refresh();
    let contested = tcp("10.96.0.1", 80);
    assert!(touched.contains(&contested));
    assert_eq!(tracker.owner(&contested), Some(&name("victim")));
    let explained = crate::explain::explain(&tracker, name("a-thief"));
    assert!(explained.frontends.iter().any(|(at, owner)| *at == contested && owner.is_err()));
    // It gets the address when the victim is gone, and nothing stays when both are.
    tracker.set_service(name("victim"), None);
    tracker.refresh();
    assert_eq!(tracker.owner(&contested), Some(&name("a-thief")));
    tracker.set_service(name("a-thief"), None);
    tracker.refresh();
    assert!(tracker.state().frontends.is_empty());
}

#[test]
fn only_changes_are_compiled() {
    let mut tracker = web(json!({}), Value::Null, json!([ready("10.0.0.1", HERE)]));
    assert!(!put_service(&mut tracker, "web", spec(json!({})), Value::Null), "the same again");
    assert!(!put_slice(&mut tracker, "web-1", "web", "IPv4", json!([ready("10.0.0.1", HERE)])));
    assert_eq!(tracker.pending(), 0);
    // A slice that moves to another Service leaves the first.
    put_service(
        &mut tracker,
        "other",
        spec(json!({ "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"] })),
        Value::Null,
    );
    put_slice(&mut tracker, "web-1", "other", "IPv4", json!([ready("10.0.0.1", HERE)]));
    let (touched, _) = tracker.refresh();
    assert_eq!(touched.len(), 2);
    assert!(rule(&tracker, &tcp("10.96.0.1", 80)).internal.endpoints.is_empty());
    assert_eq!(rule(&tracker, &tcp("10.96.0.9", 80)).internal.endpoints.len(), 1);
    // A list without it takes it away.
    tracker.retain_slices(&HashSet::new());
    tracker.retain_services(&HashSet::from([name("web")]));
    tracker.refresh();
    assert_eq!(tracker.state().frontends.len(), 1);
}

#[test]
fn plans_lead_from_anything_to_the_desired_state() {
    let with = |endpoints: Value| web(json!({}), Value::Null, endpoints).state().clone();
    let mut states = vec![ProxyState::default(), with(json!([])), with(json!([ready("10.0.0.1", HERE)]))];
    let mut addressed = with(json!([ready("10.0.0.1", "there")]));
    addressed.node_addresses.insert("192.0.2.1".parse().unwrap(), NodeAddressScope::Everybody);
    states.push(addressed);
    for from in &states {
        for to in &states {
            let steps = plan(to, from);
            let mut result = from.clone();
            record(&steps, to, &mut result);
            assert!(plan(to, &result).is_empty());
            assert_eq!(
                steps,
                plan_for(to.frontends.keys().chain(from.frontends.keys()).collect::<HashSet<_>>(), to, from)
            );
        }
    }
}
