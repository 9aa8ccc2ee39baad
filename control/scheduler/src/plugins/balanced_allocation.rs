//! NodeResourcesBalancedAllocation: prefers nodes whose CPU and memory fill up evenly.

use crate::cache::{NodeInfo, PodInfo, Snapshot};
use crate::framework::{CycleState, MAX_NODE_SCORE, Plugin, PreScore, Score};

pub(super) struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }
}

impl PreScore for NodeResourcesBalancedAllocation {
    /// A best-effort Pod changes no balance.
    fn pre_score(&self, _: &mut CycleState, pod: &PodInfo, _: &Snapshot, _: &[&NodeInfo]) -> bool {
        pod.requests.milli_cpu != 0 || pod.requests.memory != 0
    }
}

/// 100 when both are used to the same share, less the further they lie apart.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "shares between 0 and 1; the result lies in 0..=100"
)]
fn balance(requested: [i64; 2], allocatable: [i64; 2]) -> i64 {
    let fractions: Vec<f64> = requested
        .iter()
        .zip(allocatable)
        .filter(|(_, have)| *have != 0)
        .map(|(used, have)| (*used as f64 / have as f64).min(1.0))
        .collect();
    let deviation = match fractions.as_slice() {
        [cpu, memory] => ((cpu - memory) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}

impl Score for NodeResourcesBalancedAllocation {
    /// Half the scale is no change of balance; better and worse lie above and below it.
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &Snapshot) -> i64 {
        let (used, have) = (node.requested(), node.allocatable());
        let allocatable = [have.milli_cpu, have.memory];
        let before = balance([used.milli_cpu, used.memory], allocatable);
        let after = balance([used.milli_cpu + pod.requests.milli_cpu, used.memory + pod.requests.memory], allocatable);
        MAX_NODE_SCORE / 2 + (MAX_NODE_SCORE / 2 + after - before) / 2
    }
}
