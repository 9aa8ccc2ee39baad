//! What controllers read off a Pod: active, ready, available; the order in which replicas go; and
//! removing a Pod with the reason on it.

use std::cmp::Ordering;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use crate::error::{Result, api, is_not_found};

/// Lower goes first when replicas must go (`controller.kubernetes.io/pod-deletion-cost`).
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn is_terminated(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor going away.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminated(pod) && pod.metadata.deletion_timestamp.is_none()
}

pub(crate) fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, "Ready").filter(|c| c.status == "True")
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some()
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    ready_condition(pod)?.last_transition_time.as_ref().map(|t| t.0)
}

/// Ready for at least `min_ready_s` seconds.
pub(crate) fn is_available(pod: &Pod, min_ready_s: i32, now: Timestamp) -> bool {
    if !is_ready(pod) {
        return false;
    }
    min_ready_s == 0
        || ready_since(pod).is_some_and(|since| now.duration_since(since).as_secs() >= i64::from(min_ready_s))
}

/// Seconds until a ready Pod becomes available; `None` where it is already, or is not ready.
pub(crate) fn available_in_s(pod: &Pod, min_ready_s: i32, now: Timestamp) -> Option<u64> {
    let since = ready_since(pod)?;
    let left = i64::from(min_ready_s) - now.duration_since(since).as_secs();
    u64::try_from(left).ok().filter(|left| *left > 0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|c| c.restart_count).max().unwrap_or(0)
}

/// The deletion cost that the Pod's annotation gives; 0 where it gives none that is a number.
fn deletion_cost(pod: &Pod) -> i32 {
    pod.annotations().get(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// Ages are compared by their magnitude, so that which of several young Pods goes is left to chance
/// (their uid), not always to the youngest (upstream's `LogarithmicScaleDown`).
fn age_magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let age_ns = now.duration_since(since).as_nanos();
    i64::from(age_ns.max(0).checked_ilog2().unwrap_or(0))
}

fn later_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp, tie: Ordering) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) if a == b => Ordering::Equal,
        (Some(a), Some(b)) => age_magnitude(a, now).cmp(&age_magnitude(b, now)).then(tie),
    }
}

/// Which of two replicas goes first (`Less`). `rank`: how many replicas share its node.
pub(crate) fn deletion_order(a: (&Pod, usize), b: (&Pod, usize), now: Timestamp) -> Ordering {
    let ((a, rank_a), (b, rank_b)) = (a, b);
    let phase_order = |pod: &Pod| match phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let uid_order = a.uid().cmp(&b.uid());
    let created = |pod: &Pod| pod.creation_timestamp().map(|t| t.0);
    node_name(a)
        .is_empty()
        .cmp(&node_name(b).is_empty())
        .reverse()
        .then_with(|| phase_order(a).cmp(&phase_order(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| match (is_ready(a), is_ready(b)) {
            (true, true) => later_first(ready_since(a), ready_since(b), now, uid_order),
            _ => Ordering::Equal,
        })
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| later_first(created(a), created(b), now, uid_order))
        .then(uid_order)
}

/// Says on the Pod that it is about to be removed, and by whom (condition `DisruptionTarget`).
pub(crate) async fn disrupt(client: &Client, pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Result<()> {
    if condition(pod, "DisruptionTarget").is_some_and(|c| c.status == "True") {
        return Ok(());
    }
    let mut changed = pod.clone();
    let conditions = changed.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    match pods.replace_status(&pod.name_any(), &PostParams::default(), &changed).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(api("writing the status of pod", pod.name_any())(error)),
    }
}

/// Deletes exactly this Pod; `grace_s` `Some(0)` removes it without asking its kubelet.
pub(crate) async fn remove(client: &Client, pod: &Pod, grace_s: Option<u32>) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let params = DeleteParams {
        grace_period_seconds: grace_s,
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    match pods.delete(&pod.name_any(), &params).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(api("deleting pod", pod.name_any())(error)),
    }
}
