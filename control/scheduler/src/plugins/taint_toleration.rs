//! TaintToleration: taints keep Pods off (`NoSchedule`, `NoExecute`) or repel them (`PreferNoSchedule`).

use super::tolerations::tolerated;
use crate::cache::{NodeInfo, PodInfo, Snapshot};
use crate::framework::{ClusterEvent, CycleState, Filter, Plugin, PreScore, Rejection, Score, default_normalize};

pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }
    fn may_help(&self, event: ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdd | ClusterEvent::NodeTaints)
    }
}

impl Filter for TaintToleration {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let repelled = node
            .taints()
            .iter()
            .filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"))
            .any(|t| !tolerated(pod.tolerations(), t));
        if repelled {
            return Err(Rejection::unresolvable(self.name(), "node(s) had untolerated taint(s)"));
        }
        Ok(())
    }
}

impl PreScore for TaintToleration {
    fn pre_score(&self, _: &mut CycleState, _: &PodInfo, _: &Snapshot, nodes: &[&NodeInfo]) -> bool {
        nodes.iter().any(|n| n.taints().iter().any(|t| t.effect == "PreferNoSchedule"))
    }
}

impl Score for TaintToleration {
    fn weight(&self) -> i64 {
        3
    }
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &Snapshot) -> i64 {
        let soft = node.taints().iter().filter(|t| t.effect == "PreferNoSchedule");
        let repelled = soft.filter(|t| !tolerated(pod.tolerations(), t)).count();
        i64::try_from(repelled).unwrap_or(i64::MAX)
    }
    fn normalize(&self, _: &CycleState, _: &[&NodeInfo], scores: &mut [i64]) {
        default_normalize(true, scores);
    }
}
