//! NodeName: a Pod that names its node.

use crate::cache::{NodeInfo, PodInfo};
use crate::framework::{ClusterEvent, CycleState, Filter, Plugin, Rejection};

pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }
    fn may_help(&self, event: ClusterEvent) -> bool {
        event == ClusterEvent::NodeAdd
    }
}

impl Filter for NodeName {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.node_name().is_empty() || pod.node_name() == node.name() {
            return Ok(());
        }
        Err(Rejection::unresolvable(self.name(), "node(s) didn't match the requested node name"))
    }
}
