//! How many Pods to make or which to delete, and what the status says. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod_control::BURST;
use crate::pods;

/// What a sync does about the number of replicas.
#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// `active`: the set's own Pods that count. `related`: active Pods of all sets of the same
/// controller (other revisions of a Deployment), which decide how crowded a node is.
pub(super) fn plan(want: i32, active: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Plan {
    let want = usize::try_from(want).unwrap_or(0);
    if active.len() < want {
        return Plan::Create((want - active.len()).min(BURST));
    }
    let surplus = (active.len() - want).min(BURST);
    if surplus == 0 {
        return Plan::Nothing;
    }
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related {
        *on_node.entry(pods::node_name(pod)).or_default() += 1;
    }
    let rank = |pod: &Pod| on_node.get(pods::node_name(pod)).copied().unwrap_or(0);
    let mut order = active.to_vec();
    if surplus < order.len() {
        order.sort_by(|a, b| pods::deletion_order((a, rank(a)), (b, rank(b)), now));
    }
    order.truncate(surplus);
    Plan::Delete(order)
}

/// `failure`: what the sync's last create or delete met, with the difference that it was to close.
pub(super) fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = set.spec.as_ref();
    let min_ready_s = spec.and_then(|s| s.min_ready_seconds).unwrap_or(0);
    let template_labels = spec.and_then(|s| s.template.as_ref()?.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let count =
        |test: &dyn Fn(&Pod) -> bool| i32::try_from(active.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX);
    let labeled = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        template_labels.iter().all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
    };
    let old = set.status.clone().unwrap_or_default();
    let nonzero = |n: i32| (n > 0).then_some(n);
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: nonzero(count(&labeled)),
        ready_replicas: nonzero(count(&pods::is_ready)),
        available_replicas: nonzero(count(&|pod| pods::is_available(pod, min_ready_s, now))),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions.unwrap_or_default(), failure, now),
    }
}

/// `ReplicaFailure` appears with the first failure, keeps its time, and goes with the next success.
fn conditions(
    mut old: Vec<ReplicaSetCondition>,
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let known = old.iter().any(|c| c.type_ == "ReplicaFailure");
    match failure {
        None => old.retain(|c| c.type_ != "ReplicaFailure"),
        Some((reason, message)) if !known => old.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
    }
    (!old.is_empty()).then_some(old)
}
