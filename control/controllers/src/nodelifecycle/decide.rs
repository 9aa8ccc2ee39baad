//! Conditions of a silent node, taints by conditions, and how disrupted zones are. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that taint while they are True.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
/// Conditions that only the kubelet knows.
const KUBELETS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Share of a zone's nodes that must be lost for it to count as disrupted.
const UNHEALTHY_PERCENT: usize = 55;
/// Zones above this size are evicted slowly when disrupted, smaller ones not at all.
const LARGE_ZONE: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadyState {
    Ready,
    NotReady,
    Unknown,
    NeverReported,
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

pub(super) fn ready_state(node: &Node) -> ReadyState {
    match condition(node, "Ready").map(|c| c.status.as_str()) {
        Some("True") => ReadyState::Ready,
        Some("False") => ReadyState::NotReady,
        Some(_) => ReadyState::Unknown,
        None => ReadyState::NeverReported,
    }
}

/// What changes in a node's status with each report of its kubelet.
pub(super) fn heartbeat(node: &Node) -> Option<&Time> {
    condition(node, "Ready")?.last_heartbeat_time.as_ref()
}

/// The conditions of a node that says nothing any more; `None` where they say so already.
pub(super) fn silent_conditions(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let mut conditions = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let mut changed = false;
    for kind in KUBELETS {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(known) if known.status == "Unknown" => continue,
            Some(known) => {
                known.status = "Unknown".to_owned();
                known.reason = Some("NodeStatusUnknown".to_owned());
                known.message = Some("Kubelet stopped posting node status.".to_owned());
                known.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.creation_timestamp(),
                last_transition_time: Some(Time(now)),
            }),
        }
        changed = true;
    }
    changed.then_some(conditions)
}

/// Whether a node that is not ready may lose its Pods now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    Allowed,
    /// Not now; what is tainted stays tainted.
    Hold,
    /// No node is to be evicted at all.
    Withdraw,
}

fn is_ours(taint: &Taint) -> bool {
    let key = taint.key.as_str();
    match taint.effect.as_str() {
        "NoSchedule" => [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&key) || PRESSURES.iter().any(|p| p.1 == key),
        "NoExecute" => key == NOT_READY || key == UNREACHABLE,
        _ => false,
    }
}

fn known_taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

/// Has a NoExecute taint of this controller.
pub(super) fn is_given_up(node: &Node) -> bool {
    known_taints(node).iter().any(|t| t.effect == "NoExecute" && is_ours(t))
}

/// All taints that the node should have, others' included; `None` where it has them.
pub(super) fn taints(node: &Node, eviction: Eviction, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let trouble = match ready_state(node) {
        ReadyState::NotReady => Some(NOT_READY),
        ReadyState::Unknown => Some(UNREACHABLE),
        // The admission of nodes put not-ready there; it stays until the first report.
        ReadyState::NeverReported => {
            let there = known_taints(node).iter().any(|t| t.key == NOT_READY && t.effect == "NoSchedule");
            there.then_some(NOT_READY)
        }
        ReadyState::Ready => None,
    };
    if let Some(key) = trouble {
        wanted.push((key, "NoSchedule"));
    }
    for (kind, key) in PRESSURES {
        if condition(node, kind).is_some_and(|c| c.status == "True") {
            wanted.push((key, "NoSchedule"));
        }
    }
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let never = ready_state(node) == ReadyState::NeverReported;
    if let Some(key) = trouble.filter(|_| !never) {
        let keep = match eviction {
            Eviction::Allowed => true,
            Eviction::Hold => is_given_up(node),
            Eviction::Withdraw => false,
        };
        if keep {
            wanted.push((key, "NoExecute"));
        }
    }
    let known = known_taints(node);
    let mut result: Vec<Taint> = known
        .iter()
        .filter(|t| !is_ours(t) || wanted.contains(&(t.key.as_str(), t.effect.as_str())))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !result.iter().any(|t| t.key == key && t.effect == effect) {
            result.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    (result != known).then_some(result)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZoneState {
    Normal,
    PartialSmall,
    PartialLarge,
    Full,
}

/// How much of the cluster is lost.
#[derive(Debug, PartialEq)]
pub(super) struct Disruption {
    pub(super) all_lost: bool,
    zones: BTreeMap<String, ZoneState>,
}

impl Disruption {
    pub(super) fn zone(&self, zone: &str) -> ZoneState {
        self.zones.get(zone).copied().unwrap_or(ZoneState::Normal)
    }
}

pub(super) fn zone_of(node: &Node) -> String {
    let label = |name: &str| node.labels().get(name).cloned().unwrap_or_default();
    format!("{}:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

pub(super) fn disruption(nodes: &[Arc<Node>]) -> Disruption {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for node in nodes {
        let count = counts.entry(zone_of(node)).or_default();
        match ready_state(node) {
            ReadyState::Ready => count.0 += 1,
            _ => count.1 += 1,
        }
    }
    let state = |(ready, lost): (usize, usize)| {
        let total = ready + lost;
        if ready == 0 && lost > 0 {
            ZoneState::Full
        } else if lost > 2 && lost * 100 >= total * UNHEALTHY_PERCENT {
            if total > LARGE_ZONE { ZoneState::PartialLarge } else { ZoneState::PartialSmall }
        } else {
            ZoneState::Normal
        }
    };
    let zones: BTreeMap<_, _> = counts.into_iter().map(|(zone, count)| (zone, state(count))).collect();
    Disruption { all_lost: !zones.is_empty() && zones.values().all(|s| *s == ZoneState::Full), zones }
}
