//! Taints, silent nodes, disrupted zones.
#![allow(clippy::needless_pass_by_value, reason = "json! literals read best where they stand")]

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::decide::{Eviction, ZoneState, disruption, silent_conditions, taints};

fn now() -> jiff::Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn node(ready: &str, spec: Value) -> Node {
    let conditions = match ready {
        "" => json!([]),
        status => json!([{"type": "Ready", "status": status}, {"type": "MemoryPressure", "status": "False"}]),
    };
    serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": conditions}}))
        .unwrap()
}

fn told(node: &Node, eviction: Eviction) -> Option<Vec<String>> {
    Some(
        taints(node, eviction, now())?
            .iter()
            .map(|t| format!("{}:{}", t.key.trim_start_matches("node.kubernetes.io/"), t.effect))
            .collect(),
    )
}

#[test]
fn taints_follow_conditions() {
    let ours = |key: &str, effect: &str| json!({"key": format!("node.kubernetes.io/{key}"), "effect": effect});
    let mine = json!({"key": "mine", "effect": "NoExecute"});
    for (what, node, eviction, expect) in [
        ("a good node", node("True", json!({})), Eviction::Allowed, None),
        (
            "ready again",
            node("True", json!({"taints": [mine, ours("not-ready", "NoSchedule"), ours("unreachable", "NoExecute")]})),
            Eviction::Allowed,
            Some(vec!["mine:NoExecute"]),
        ),
        (
            "not ready",
            node("False", json!({})),
            Eviction::Allowed,
            Some(vec!["not-ready:NoSchedule", "not-ready:NoExecute"]),
        ),
        ("not ready, but evictions wait", node("False", json!({})), Eviction::Hold, Some(vec!["not-ready:NoSchedule"])),
        (
            "lost",
            node("Unknown", json!({"taints": [ours("not-ready", "NoSchedule"), ours("not-ready", "NoExecute")]})),
            Eviction::Hold,
            Some(vec!["unreachable:NoSchedule", "unreachable:NoExecute"]),
        ),
        (
            "all nodes lost",
            node("Unknown", json!({"taints": [ours("unreachable", "NoSchedule"), ours("unreachable", "NoExecute")]})),
            Eviction::Withdraw,
            Some(vec!["unreachable:NoSchedule"]),
        ),
        (
            "cordoned",
            node("True", json!({"unschedulable": true})),
            Eviction::Allowed,
            Some(vec!["unschedulable:NoSchedule"]),
        ),
        ("new", node("", json!({"taints": [ours("not-ready", "NoSchedule")]})), Eviction::Allowed, None),
    ] {
        let expect = expect.map(|e: Vec<&str>| e.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(told(&node, eviction), expect, "{what}");
    }
    let pressed = serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": [
        {"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}, {"type": "NetworkUnavailable", "status": "True"}]}})).unwrap();
    assert_eq!(
        told(&pressed, Eviction::Allowed).unwrap(),
        ["disk-pressure:NoSchedule", "network-unavailable:NoSchedule"]
    );
}

#[test]
fn silence() {
    let told = |n: &Node| {
        silent_conditions(n, now()).map(|all| {
            all.iter()
                .map(|c| format!("{}={} {}", c.type_, c.status, c.reason.clone().unwrap_or_default()))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(
        told(&node("True", json!({}))).unwrap(),
        [
            "Ready=Unknown NodeStatusUnknown",
            "MemoryPressure=Unknown NodeStatusUnknown",
            "DiskPressure=Unknown NodeStatusNeverUpdated",
            "PIDPressure=Unknown NodeStatusNeverUpdated"
        ]
    );
    let mut silent = node("", json!({}));
    silent.status.as_mut().unwrap().conditions = silent_conditions(&silent, now());
    assert_eq!(told(&silent), None, "it is told once");
}

#[test]
fn disrupted_zones() {
    let zone = |name: &str, ready: usize, lost: usize| -> Vec<Arc<Node>> {
        (0..ready + lost)
            .map(|n| {
                let mut node = node(if n < ready { "True" } else { "Unknown" }, json!({}));
                node.metadata.labels = Some([("topology.kubernetes.io/zone".to_owned(), name.to_owned())].into());
                Arc::new(node)
            })
            .collect()
    };
    for (ready, lost, expect) in [
        (1, 0, ZoneState::Normal),
        (0, 1, ZoneState::Full),
        (2, 2, ZoneState::Normal),
        (2, 3, ZoneState::PartialSmall),
        (40, 60, ZoneState::PartialLarge),
        (60, 40, ZoneState::Normal),
    ] {
        let mut nodes = zone("a", ready, lost);
        assert_eq!(disruption(&nodes).all_lost, ready == 0);
        nodes.extend(zone("b", 1, 0));
        let found = disruption(&nodes);
        assert_eq!((found.zone(":a"), found.all_lost), (expect, false), "{ready} ready, {lost} lost");
    }
    assert!(!disruption(&[]).all_lost);
}
