//! NodePorts: ports of the host are taken once.

use crate::cache::{NodeInfo, PodInfo, Snapshot};
use crate::framework::{ClusterEvent, CycleState, Filter, Plugin, PreFilter, PreFilterResult, Rejection};

pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }
    fn may_help(&self, event: ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdd | ClusterEvent::AssignedPodDelete)
    }
}

impl PreFilter for NodePorts {
    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: &Snapshot) -> Result<PreFilterResult, Rejection> {
        Ok(if pod.host_ports.is_empty() { PreFilterResult::Skip } else { PreFilterResult::All })
    }
}

impl Filter for NodePorts {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let taken = node.pods().iter().flat_map(|p| &p.host_ports);
        let conflict = taken.into_iter().any(|t| pod.host_ports.iter().any(|w| w.conflicts(t)));
        if conflict {
            let reason = "node(s) didn't have free ports for the requested pod ports";
            return Err(Rejection::unschedulable(self.name(), reason));
        }
        Ok(())
    }
}
