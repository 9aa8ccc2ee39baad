//! NodeAffinity: `nodeSelector`, required and preferred node affinity.

use std::collections::BTreeSet;

use super::affinity_match::{pod_allows_node, required, term_matches};
use crate::cache::{NodeInfo, PodInfo, Snapshot};
use crate::framework::{
    ClusterEvent, CycleState, Filter, Plugin, PreFilter, PreFilterResult, PreScore, Rejection, Score, default_normalize,
};

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }
    fn may_help(&self, event: ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdd | ClusterEvent::NodeLabels)
    }
}

impl PreFilter for NodeAffinity {
    /// Pods pinned to names (those of DaemonSets) look only at those nodes.
    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: &Snapshot) -> Result<PreFilterResult, Rejection> {
        let Some(spec) = pod.spec() else {
            return Ok(PreFilterResult::Skip);
        };
        let Some(selector) = required(spec) else {
            let any = spec.node_selector.as_ref().is_some_and(|s| !s.is_empty());
            return Ok(if any { PreFilterResult::All } else { PreFilterResult::Skip });
        };
        let mut names = BTreeSet::new();
        for term in &selector.node_selector_terms {
            let pinned: Vec<&String> = term
                .match_fields
                .iter()
                .flatten()
                .filter(|r| r.key == "metadata.name" && r.operator == "In")
                .flat_map(|r| r.values.iter().flatten())
                .collect();
            if pinned.is_empty() {
                return Ok(PreFilterResult::All);
            }
            names.extend(pinned.into_iter().cloned());
        }
        Ok(PreFilterResult::Nodes(names))
    }
}

impl Filter for NodeAffinity {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod_allows_node(pod.spec(), node) { Ok(()) } else { Err(Rejection::unresolvable(self.name(), REASON)) }
    }
}

fn preferred(pod: &PodInfo) -> &[k8s_openapi::api::core::v1::PreferredSchedulingTerm] {
    pod.spec()
        .and_then(|s| s.affinity.as_ref()?.node_affinity.as_ref())
        .and_then(|n| n.preferred_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

impl PreScore for NodeAffinity {
    fn pre_score(&self, _: &mut CycleState, pod: &PodInfo, _: &Snapshot, _: &[&NodeInfo]) -> bool {
        !preferred(pod).is_empty()
    }
}

impl Score for NodeAffinity {
    fn weight(&self) -> i64 {
        2
    }
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &Snapshot) -> i64 {
        preferred(pod).iter().filter(|t| term_matches(&t.preference, node)).map(|t| i64::from(t.weight)).sum()
    }
    fn normalize(&self, _: &CycleState, _: &[&NodeInfo], scores: &mut [i64]) {
        default_normalize(false, scores);
    }
}
