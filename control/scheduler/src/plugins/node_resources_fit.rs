//! NodeResourcesFit: what the Pod asks for must be free; emptier nodes score higher (LeastAllocated).

use crate::cache::{NodeInfo, PodInfo, Snapshot};
use crate::framework::{ClusterEvent, CycleState, Filter, MAX_NODE_SCORE, Plugin, Rejection, Score};

pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }
    fn may_help(&self, event: ClusterEvent) -> bool {
        use ClusterEvent as E;
        matches!(event, E::NodeAdd | E::NodeAllocatable | E::AssignedPodDelete | E::AssignedPodUpdate)
    }
}

/// One resource that is short.
struct Short {
    reason: String,
    /// More is asked for than the node has at all.
    unresolvable: bool,
}

fn insufficient(pod: &PodInfo, node: &NodeInfo) -> Vec<Short> {
    let mut short = Vec::new();
    let (want, have, used) = (&pod.requests, node.allocatable(), node.requested());
    let pods = i64::try_from(node.pods().len()).unwrap_or(i64::MAX);
    if pods >= have.pods {
        short.push(Short { reason: "Too many pods".to_owned(), unresolvable: false });
    }
    if want.is_zero() {
        return short;
    }
    let mut check = |name: &str, want: i64, have: i64, used: i64| {
        if want > 0 && want > have.saturating_sub(used) {
            short.push(Short { reason: format!("Insufficient {name}"), unresolvable: want > have });
        }
    };
    check("cpu", want.milli_cpu, have.milli_cpu, used.milli_cpu);
    check("memory", want.memory, have.memory, used.memory);
    check("ephemeral-storage", want.ephemeral_storage, have.ephemeral_storage, used.ephemeral_storage);
    let scalar = |map: &std::collections::BTreeMap<String, i64>, name: &str| map.get(name).copied().unwrap_or_default();
    for (name, amount) in &want.scalar {
        check(name, *amount, scalar(&have.scalar, name), scalar(&used.scalar, name));
    }
    short
}

impl Filter for NodeResourcesFit {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let short = insufficient(pod, node);
        if short.is_empty() {
            return Ok(());
        }
        Err(Rejection {
            plugin: self.name(),
            resolvable: !short.iter().any(|s| s.unresolvable),
            reasons: short.into_iter().map(|s| s.reason).collect(),
        })
    }
}

/// Free share after the Pod, 0 to 100.
fn least_requested(requested: i64, capacity: i64) -> i64 {
    if capacity == 0 || requested > capacity {
        return 0;
    }
    // Through i128, so that bytes times 100 can't overflow.
    let free = i128::from(capacity - requested) * i128::from(MAX_NODE_SCORE) / i128::from(capacity);
    i64::try_from(free).unwrap_or_default()
}

impl Score for NodeResourcesFit {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &Snapshot) -> i64 {
        let (cpu, memory) = node.non_zero_requested();
        let have = node.allocatable();
        let parts = [(cpu + pod.non_zero_milli_cpu, have.milli_cpu), (memory + pod.non_zero_memory, have.memory)];
        let counted: Vec<i64> =
            parts.iter().filter(|(_, have)| *have != 0).map(|(used, have)| least_requested(*used, *have)).collect();
        let count = i64::try_from(counted.len()).unwrap_or_default();
        if count == 0 { 0 } else { counted.iter().sum::<i64>() / count }
    }
}
