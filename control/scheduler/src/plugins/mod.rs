//! Upstream's default plugins, a module each.

mod affinity_match;
mod balanced_allocation;
mod default_binder;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod pod_topology_spread;
mod priority_sort;
mod scheduling_gates;
mod taint_toleration;
mod tolerations;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use default_binder::DefaultBinder;
pub use priority_sort::PrioritySort;

use crate::framework::Framework;
use crate::preemption::DefaultPreemption;

/// The default profile, in upstream's order.
#[must_use]
pub fn default_framework() -> Framework {
    let node_affinity = Arc::new(node_affinity::NodeAffinity);
    let taints = Arc::new(taint_toleration::TaintToleration);
    let fit = Arc::new(node_resources_fit::NodeResourcesFit);
    let spread = Arc::new(pod_topology_spread::PodTopologySpread);
    let pods = Arc::new(inter_pod_affinity::InterPodAffinity);
    let balanced = Arc::new(balanced_allocation::NodeResourcesBalancedAllocation);
    let ports = Arc::new(node_ports::NodePorts);
    Framework {
        pre_enqueue: vec![Arc::new(scheduling_gates::SchedulingGates)],
        pre_filter: vec![node_affinity.clone(), ports.clone(), spread.clone(), pods.clone()],
        filter: vec![
            Arc::new(node_unschedulable::NodeUnschedulable),
            Arc::new(node_name::NodeName),
            taints.clone(),
            node_affinity.clone(),
            ports,
            fit.clone(),
            spread.clone(),
            pods.clone(),
        ],
        post_filter: vec![Arc::new(DefaultPreemption)],
        pre_score: vec![taints.clone(), node_affinity.clone(), spread.clone(), pods.clone(), balanced.clone()],
        score: vec![taints, node_affinity, fit, spread, pods, balanced, Arc::new(image_locality::ImageLocality)],
        reserve: Vec::new(),
    }
}
