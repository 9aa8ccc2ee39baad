//! InterPodAffinity: near to or far from other Pods, by topology.

use std::collections::HashMap;

use crate::cache::{AffinityTerm, NodeInfo, PodInfo, Snapshot};
use crate::framework::{
    ClusterEvent, CycleState, Filter, MAX_NODE_SCORE, Plugin, PreFilter, PreFilterResult, PreScore, Rejection, Score,
};

/// Weight of an existing Pod's required affinity when it is scored (`hardPodAffinityWeight`).
const HARD_AFFINITY_WEIGHT: i64 = 1;

pub(super) struct InterPodAffinity;

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }
    fn may_help(&self, event: ClusterEvent) -> bool {
        use ClusterEvent as E;
        matches!(
            event,
            E::NodeAdd
                | E::NodeLabels
                | E::AssignedPodAdd
                | E::AssignedPodUpdate
                | E::AssignedPodDelete
                | E::NamespaceLabels
        )
    }
}

/// How many matches there are in each topology domain, by key and value of the node label.
type Domains = HashMap<(String, String), i64>;

fn count(domains: &mut Domains, key: &str, node: &NodeInfo, by: i64) {
    if let Some(value) = node.label(key) {
        *domains.entry((key.to_owned(), value.to_owned())).or_default() += by;
    }
}

fn get(domains: &Domains, key: &str, node: &NodeInfo) -> Option<i64> {
    let value = node.label(key)?;
    Some(domains.get(&(key.to_owned(), value.to_owned())).copied().unwrap_or_default())
}

struct Filtering {
    /// Existing Pods that refuse the new one.
    existing_anti: Domains,
    affinity: Domains,
    anti: Domains,
    /// The new Pod meets its own affinity, so it may be the first of its kind.
    matches_itself: bool,
}

impl PreFilter for InterPodAffinity {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        let all_match = |terms: &[AffinityTerm], other: &PodInfo| terms.iter().all(|t| t.matches(other, snapshot));
        let mut found = Filtering {
            existing_anti: Domains::new(),
            affinity: Domains::new(),
            anti: Domains::new(),
            matches_itself: all_match(&pod.required_affinity, pod),
        };
        for node in snapshot.nodes() {
            for existing in node.pods() {
                for term in existing.required_anti_affinity.iter().filter(|t| t.matches(pod, snapshot)) {
                    count(&mut found.existing_anti, &term.topology_key, node, 1);
                }
                if !pod.required_affinity.is_empty() && all_match(&pod.required_affinity, existing) {
                    for term in &pod.required_affinity {
                        count(&mut found.affinity, &term.topology_key, node, 1);
                    }
                }
                for term in pod.required_anti_affinity.iter().filter(|t| t.matches(existing, snapshot)) {
                    count(&mut found.anti, &term.topology_key, node, 1);
                }
            }
        }
        let nothing =
            found.existing_anti.is_empty() && pod.required_affinity.is_empty() && pod.required_anti_affinity.is_empty();
        if nothing {
            return Ok(PreFilterResult::Skip);
        }
        state.write(found);
        Ok(PreFilterResult::All)
    }
}

impl Filtering {
    fn affinity_holds(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        let mut near = true;
        for term in &pod.required_affinity {
            match get(&self.affinity, &term.topology_key, node) {
                None => return false,
                Some(matches) => near &= matches > 0,
            }
        }
        near || (self.affinity.is_empty() && self.matches_itself)
    }
}

impl Filter for InterPodAffinity {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(found) = state.read::<Filtering>() else {
            return Ok(());
        };
        if !found.affinity_holds(pod, node) {
            let reason = "node(s) didn't match pod affinity rules";
            return Err(Rejection::unresolvable(self.name(), reason));
        }
        let crowded = |t: &AffinityTerm| get(&found.anti, &t.topology_key, node).is_some_and(|n| n > 0);
        if pod.required_anti_affinity.iter().any(crowded) {
            let reason = "node(s) didn't match pod anti-affinity rules";
            return Err(Rejection::unschedulable(self.name(), reason));
        }
        let refused =
            found.existing_anti.iter().any(|((key, value), n)| *n > 0 && node.label(key) == Some(value.as_str()));
        if refused {
            let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Rejection::unschedulable(self.name(), reason));
        }
        Ok(())
    }
}

struct Scoring(Domains);

impl PreScore for InterPodAffinity {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot, _: &[&NodeInfo]) -> bool {
        let mut sums = Domains::new();
        for node in snapshot.nodes() {
            for existing in node.pods() {
                let sides = [
                    (&pod.preferred_affinity, &**existing, 1),
                    (&pod.preferred_anti_affinity, &**existing, -1),
                    (&existing.preferred_affinity, pod, 1),
                    (&existing.preferred_anti_affinity, pod, -1),
                ];
                for (terms, meant, sign) in sides {
                    for t in terms.iter().filter(|t| t.term.matches(meant, snapshot)) {
                        count(&mut sums, &t.term.topology_key, node, sign * t.weight);
                    }
                }
                for term in existing.required_affinity.iter().filter(|t| t.matches(pod, snapshot)) {
                    count(&mut sums, &term.topology_key, node, HARD_AFFINITY_WEIGHT);
                }
            }
        }
        if sums.is_empty() {
            return false;
        }
        state.write(Scoring(sums));
        true
    }
}

impl Score for InterPodAffinity {
    fn weight(&self) -> i64 {
        2
    }
    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, _: &Snapshot) -> i64 {
        let Some(Scoring(sums)) = state.read() else {
            return 0;
        };
        sums.iter().filter(|((key, value), _)| node.label(key) == Some(value.as_str())).map(|(_, weight)| weight).sum()
    }
    fn normalize(&self, _: &CycleState, _: &[&NodeInfo], scores: &mut [i64]) {
        let (min, max) = scores.iter().fold((i64::MAX, i64::MIN), |(lo, hi), s| (lo.min(*s), hi.max(*s)));
        for score in scores.iter_mut() {
            *score = if max > min { (*score - min) * MAX_NODE_SCORE / (max - min) } else { 0 };
        }
    }
}
