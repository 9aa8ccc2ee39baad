//! NodeUnschedulable: cordoned nodes take only Pods that tolerate it.

use k8s_openapi::api::core::v1::Taint;

use super::tolerations::tolerated;
use crate::cache::{NodeInfo, PodInfo};
use crate::framework::{ClusterEvent, CycleState, Filter, Plugin, Rejection};

pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }
    fn may_help(&self, event: ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdd | ClusterEvent::NodeTaints)
    }
}

impl Filter for NodeUnschedulable {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if node.unschedulable() && !tolerated(pod.tolerations(), &taint) {
            return Err(Rejection::unresolvable(self.name(), "node(s) were unschedulable"));
        }
        Ok(())
    }
}
