//! DefaultPreemption: where no node fits, Pods of lower priority may have to go. Pure; PodDisruptionBudgets
//! are not looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cache::{NodeInfo, PodInfo, Snapshot};
use crate::framework::{Framework, NodeRejections, Nomination, Plugin, PostFilter, PostFilterResult};
use crate::schedule::fits;

/// Most nodes that are tried out.
const MAX_CANDIDATES: usize = 100;

pub(crate) struct DefaultPreemption;

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }
}

/// Why the Pod may not preempt at all.
fn not_eligible(pod: &PodInfo, snapshot: &Snapshot) -> Option<&'static str> {
    if pod.spec().and_then(|s| s.preemption_policy.as_deref()) == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = pod.pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref()).unwrap_or_default();
    let leaving =
        snapshot.node(nominated).is_some_and(|n| n.pods().iter().any(|p| p.is_deleted() && p.priority < pod.priority));
    // What was preempted for this Pod before is still on its way out.
    leaving.then_some("not eligible due to a terminating pod on the nominated node.")
}

/// The fewest and least important Pods whose going makes room on a node.
fn victims_on(framework: &Framework, pod: &PodInfo, snapshot: &Snapshot, node: &NodeInfo) -> Option<Vec<Arc<PodInfo>>> {
    let mut lower: Vec<Arc<PodInfo>> = node.pods().iter().filter(|p| p.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return None;
    }
    let mut emptied = node.clone();
    for victim in &lower {
        emptied.remove_pod(&victim.uid);
    }
    let would_fit = |node: &NodeInfo| fits(framework, pod, &snapshot.with_node(node.clone()), node);
    if !would_fit(&emptied) {
        return None;
    }
    // Reprieve the most important ones first.
    lower.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.key().cmp(&b.key())));
    let mut victims = Vec::new();
    for candidate in lower {
        emptied.add_pod(Arc::clone(&candidate));
        if !would_fit(&emptied) {
            emptied.remove_pod(&candidate.uid);
            victims.push(candidate);
        }
    }
    victims.reverse();
    Some(victims)
}

impl PostFilter for DefaultPreemption {
    fn post_filter(
        &self,
        framework: &Framework,
        pod: &PodInfo,
        snapshot: &Snapshot,
        rejections: &NodeRejections,
    ) -> PostFilterResult {
        if let Some(reason) = not_eligible(pod, snapshot) {
            return PostFilterResult { nomination: None, message: format!("preemption: {reason}") };
        }
        let nodes = snapshot.num_nodes();
        let mut no_victims = 0;
        let candidates: Vec<Nomination> = rejections
            .iter()
            .filter(|(_, r)| r.resolvable)
            .take(MAX_CANDIDATES)
            .filter_map(|(name, _)| {
                let victims = snapshot.node(name).and_then(|n| victims_on(framework, pod, snapshot, n));
                if victims.is_none() {
                    no_victims += 1;
                }
                Some(Nomination { node: name.clone(), victims: victims? })
            })
            .collect();
        let nomination = candidates.into_iter().min_by_key(|n| {
            let priorities: Vec<i64> = n.victims.iter().map(|v| v.priority.into()).collect();
            (priorities.iter().copied().max(), priorities.iter().sum::<i64>(), priorities.len(), n.node.clone())
        });
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        counts.insert("No preemption victims found for incoming pod".to_owned(), no_victims);
        counts.insert("Preemption is not helpful for scheduling".to_owned(), nodes.saturating_sub(no_victims));
        let mut parts: Vec<String> =
            counts.iter().filter(|(_, n)| **n > 0).map(|(reason, n)| format!("{n} {reason}")).collect();
        parts.sort_unstable();
        let message = match &nomination {
            Some(_) => String::new(),
            None => format!("preemption: 0/{nodes} nodes are available: {}.", parts.join(", ")),
        };
        PostFilterResult { nomination, message }
    }
}
