//! PodTopologySpread: Pods of a kind are spread evenly over the domains of a topology.
//!
//! Upstream's default constraints (hostname, zone) apply to Pods without their own; the Pods that
//! count for them are those of the same controller.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use orlop_api::selector::{LabelSelector, Operator, Requirement, selector_from_object};
use serde_json::json;

use super::affinity_match::pod_allows_node;
use super::tolerations::tolerated;
use crate::cache::{NodeInfo, PodInfo, Snapshot};
use crate::framework::{
    ClusterEvent, CycleState, Filter, MAX_NODE_SCORE, Plugin, PreFilter, PreFilterResult, PreScore, Rejection, Score,
};

const REASON: &str = "node(s) didn't match pod topology spread constraints";

pub(super) struct PodTopologySpread;

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }
    fn may_help(&self, event: ClusterEvent) -> bool {
        use ClusterEvent as E;
        !matches!(event, E::NodeAllocatable | E::NodeOther | E::NamespaceLabels)
    }
}

/// Which Pods a constraint counts.
enum Counted {
    Selected(LabelSelector),
    SameController(String),
}

struct Constraint {
    max_skew: i64,
    topology_key: String,
    counted: Counted,
    min_domains: i64,
    honor_affinity: bool,
    honor_taints: bool,
}

impl Constraint {
    fn new(pod: &PodInfo, c: &TopologySpreadConstraint) -> Self {
        let selector =
            selector_from_object(Some(&json!(c.label_selector))).unwrap_or_else(|_| LabelSelector::nothing());
        let mut requirements = selector.requirements().to_vec();
        // matchLabelKeys: the new Pod's own values.
        for key in c.match_label_keys.iter().flatten() {
            if let Some(value) = pod.label(key) {
                let values = vec![value.to_owned()];
                requirements.push(Requirement { key: key.clone(), operator: Operator::In, values });
            }
        }
        let nothing = c.label_selector.is_none();
        Self {
            max_skew: c.max_skew.into(),
            topology_key: c.topology_key.clone(),
            counted: Counted::Selected(if nothing {
                LabelSelector::nothing()
            } else {
                LabelSelector::from_requirements(requirements)
            }),
            min_domains: c.min_domains.unwrap_or(1).into(),
            honor_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: c.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    fn by_controller(controller: &str, topology_key: &str, max_skew: i64) -> Self {
        Self {
            max_skew,
            topology_key: topology_key.to_owned(),
            counted: Counted::SameController(controller.to_owned()),
            min_domains: 1,
            honor_affinity: true,
            honor_taints: false,
        }
    }

    fn counts(&self, pod: &PodInfo, other: &PodInfo) -> bool {
        if other.is_deleted() || other.namespace != pod.namespace {
            return false;
        }
        match &self.counted {
            Counted::Selected(selector) => selector.matches_with(|key| other.label(key)),
            Counted::SameController(uid) => other.controller.as_ref() == Some(uid),
        }
    }

    fn eligible(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        let taints = || {
            let hard = node.taints().iter().filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"));
            hard.into_iter().all(|t| tolerated(pod.tolerations(), t))
        };
        (!self.honor_affinity || pod_allows_node(pod.spec(), node)) && (!self.honor_taints || taints())
    }

    fn matching_on(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        i64::try_from(node.pods().iter().filter(|p| self.counts(pod, p)).count()).unwrap_or(i64::MAX)
    }
}

fn constraints(pod: &PodInfo, action: &str) -> Vec<Constraint> {
    let all = pod.spec().and_then(|s| s.topology_spread_constraints.as_deref()).unwrap_or_default();
    all.iter().filter(|c| c.when_unsatisfiable == action).map(|c| Constraint::new(pod, c)).collect()
}

/// A constraint and its Pods by domain.
struct Tally {
    constraint: Constraint,
    domains: BTreeMap<String, i64>,
    matches_itself: i64,
}

struct Filtering(Vec<Tally>);

impl PreFilter for PodTopologySpread {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        let hard = constraints(pod, "DoNotSchedule");
        if hard.is_empty() {
            return Ok(PreFilterResult::Skip);
        }
        let keys: Vec<String> = hard.iter().map(|c| c.topology_key.clone()).collect();
        let counted = hard
            .into_iter()
            .map(|constraint| {
                let mut domains: BTreeMap<String, i64> = BTreeMap::new();
                for node in snapshot.nodes() {
                    // A node without all the keys is no domain of any.
                    let labelled = keys.iter().all(|k| node.label(k).is_some());
                    let Some(value) = node.label(&constraint.topology_key) else {
                        continue;
                    };
                    if labelled && constraint.eligible(pod, node) {
                        *domains.entry(value.to_owned()).or_default() += constraint.matching_on(pod, node);
                    }
                }
                let matches_itself = i64::from(constraint.counts(pod, pod));
                Tally { constraint, domains, matches_itself }
            })
            .collect();
        state.write(Filtering(counted));
        Ok(PreFilterResult::All)
    }
}

impl Filter for PodTopologySpread {
    fn filter(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(Filtering(all)) = state.read() else {
            return Ok(());
        };
        for Tally { constraint, domains, matches_itself } in all {
            let Some(value) = node.label(&constraint.topology_key) else {
                let reason = format!("{REASON} (missing required label)");
                return Err(Rejection::unresolvable(self.name(), reason));
            };
            let enough = i64::try_from(domains.len()).unwrap_or(i64::MAX) >= constraint.min_domains;
            let least = if enough { domains.values().copied().min().unwrap_or_default() } else { 0 };
            let here = domains.get(value).copied().unwrap_or_default();
            if here + matches_itself - least > constraint.max_skew {
                return Err(Rejection::unschedulable(self.name(), REASON));
            }
        }
        Ok(())
    }
}

/// A constraint, its Pods by domain, and what each Pod weighs.
struct Soft {
    constraint: Constraint,
    domains: HashMap<String, i64>,
    weight: f64,
}

struct Scoring {
    soft: Vec<Soft>,
    /// Whether nodes without a key are left out (the Pod's own constraints) or count as empty.
    require_keys: bool,
}

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

impl PreScore for PodTopologySpread {
    #[allow(clippy::cast_precision_loss, reason = "a count of nodes")]
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot, nodes: &[&NodeInfo]) -> bool {
        let mut list = constraints(pod, "ScheduleAnyway");
        let has_own = pod.spec().is_some_and(|s| s.topology_spread_constraints.as_ref().is_some_and(|c| !c.is_empty()));
        if !has_own && let Some(controller) = &pod.controller {
            list.push(Constraint::by_controller(controller, HOSTNAME, 3));
            list.push(Constraint::by_controller(controller, ZONE, 5));
        }
        if list.is_empty() {
            return false;
        }
        let soft = list
            .into_iter()
            .map(|constraint| {
                let key = constraint.topology_key.clone();
                let mut domains: HashMap<String, i64> = HashMap::new();
                for node in nodes {
                    if let Some(value) = node.label(&key) {
                        domains.insert(value.to_owned(), 0);
                    }
                }
                for node in snapshot.nodes().filter(|n| constraint.eligible(pod, n)) {
                    if let Some(entry) = node.label(&key).and_then(|v| domains.get_mut(v)) {
                        *entry += constraint.matching_on(pod, node);
                    }
                }
                let weight = (domains.len() as f64 + 2.0).ln();
                Soft { constraint, domains, weight }
            })
            .collect();
        state.write(Scoring { soft, require_keys: has_own });
        true
    }
}

impl Score for PodTopologySpread {
    fn weight(&self) -> i64 {
        2
    }

    /// Lower is better until it is normalized.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "counts of Pods times a small weight"
    )]
    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, _: &Snapshot) -> i64 {
        let Some(scoring) = state.read::<Scoring>() else {
            return 0;
        };
        let mut sum = 0.0;
        for soft in &scoring.soft {
            if let Some(value) = node.label(&soft.constraint.topology_key) {
                let count = soft.domains.get(value).copied().unwrap_or_default();
                sum += count as f64 * soft.weight + (soft.constraint.max_skew - 1) as f64;
            }
        }
        sum.round() as i64
    }

    fn normalize(&self, state: &CycleState, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let Some(scoring) = state.read::<Scoring>() else {
            return;
        };
        let ignored = |node: &NodeInfo| {
            scoring.require_keys && scoring.soft.iter().any(|s| node.label(&s.constraint.topology_key).is_none())
        };
        let kept = || nodes.iter().zip(scores.iter()).filter(|(n, _)| !ignored(n)).map(|(_, s)| *s);
        let (min, max) = (kept().min().unwrap_or_default(), kept().max().unwrap_or_default());
        for (node, score) in nodes.iter().zip(scores.iter_mut()) {
            *score = if ignored(node) {
                0
            } else if max == 0 {
                MAX_NODE_SCORE
            } else {
                MAX_NODE_SCORE * (max + min - *score) / max
            };
        }
    }
}
