//! What a Deployment's status says: counts, and the conditions Available, Progressing and
//! ReplicaFailure with upstream's reasons and messages. Pure.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

/// Progress is not judged at this deadline (upstream's "no deadline").
const NO_DEADLINE: i32 = i32::MAX;

pub(super) fn deadline_s(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref()?.progress_deadline_seconds.filter(|d| *d != NO_DEADLINE)
}

fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

pub(super) fn condition<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

pub(super) fn new_condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Puts `new` in the place of the old condition of its type. Same status and reason: nothing
/// changes; same status: the time of transition stays.
pub(super) fn set_condition(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    let conditions = status.conditions.get_or_insert_default();
    if let Some(old) = conditions.iter().find(|c| c.type_ == new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    conditions.retain(|c| c.type_ != new.type_);
    conditions.push(new);
}

pub(super) fn remove_condition(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != kind);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

/// The counts, and Available.
pub(super) fn counts(
    deployment: &Deployment,
    all: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    max_unavailable: i32,
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |get: &dyn Fn(&ReplicaSet) -> i32| all.iter().map(|set| get(set)).sum::<i32>();
    let wanted = sum(&|set| set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0));
    let of_status = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
    let available = sum(&|set| of_status(set).available_replicas.unwrap_or(0));
    let nonzero = |n: i32| (n > 0).then_some(n);
    let old = deployment.status.clone().unwrap_or_default();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(sum(&|set| of_status(set).replicas)),
        updated_replicas: nonzero(new.map_or(0, |set| of_status(set).replicas)),
        ready_replicas: nonzero(sum(&|set| of_status(set).ready_replicas.unwrap_or(0))),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero(wanted - available),
        terminating_replicas: Some(sum(&|set| of_status(set).terminating_replicas.unwrap_or(0))),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let enough = available >= replicas(deployment) - max_unavailable;
    let (state, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set_condition(&mut status, new_condition("Available", state, reason, message.to_owned(), now));
    status
}

pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let want = replicas(deployment);
    status.updated_replicas.unwrap_or(0) == want
        && status.replicas.unwrap_or(0) == want
        && status.available_replicas.unwrap_or(0) == want
        && status.observed_generation >= deployment.metadata.generation
}

fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |value: Option<i32>| value.unwrap_or(0);
    let outdated = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || outdated(new) < outdated(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

fn timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let Some(progressing) = condition(status, "Progressing") else { return false };
    match progressing.reason.as_deref() {
        Some("NewReplicaSetAvailable") => false,
        Some("ProgressDeadlineExceeded") => true,
        _ => remaining_s(deployment, status, now).is_some_and(|left| left < 0),
    }
}

/// Seconds until the deadline, negative once it has passed.
fn remaining_s(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<i64> {
    let since = condition(status, "Progressing")?.last_update_time.as_ref()?.0;
    Some(i64::from(deadline_s(deployment)?) - now.duration_since(since).as_secs())
}

/// Judges the roll-out: Progressing and ReplicaFailure on top of [`counts`].
pub(super) fn rollout(
    deployment: &Deployment,
    mut status: DeploymentStatus,
    all: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    if deadline_s(deployment).is_none() {
        remove_condition(&mut status, "Progressing");
    }
    let reason = condition(&old, "Progressing").and_then(|c| c.reason.as_deref());
    let was_complete = status.replicas == status.updated_replicas && reason == Some("NewReplicaSetAvailable");
    if deadline_s(deployment).is_some() && !was_complete {
        let subject = match new {
            Some(set) => format!("ReplicaSet \"{}\"", set.name_any()),
            None => format!("Deployment \"{}\"", deployment.name_any()),
        };
        if is_complete(deployment, &status) {
            let message = format!("{subject} has successfully progressed.");
            set_condition(&mut status, new_condition("Progressing", "True", "NewReplicaSetAvailable", message, now));
        } else if is_progressing(&old, &status) {
            let message = format!("{subject} is progressing.");
            let mut progress = new_condition("Progressing", "True", "ReplicaSetUpdated", message, now);
            // Progress starts the deadline anew, so this condition is replaced even if it says the same.
            if let Some(known) = condition(&status, "Progressing").filter(|c| c.status == "True") {
                progress.last_transition_time.clone_from(&known.last_transition_time);
            }
            remove_condition(&mut status, "Progressing");
            set_condition(&mut status, progress);
        } else if timed_out(deployment, &status, now) {
            let message = format!("{subject} has timed out progressing.");
            set_condition(&mut status, new_condition("Progressing", "False", "ProgressDeadlineExceeded", message, now));
        }
    }
    match failure_of(all, new) {
        Some(failure) => set_condition(&mut status, failure),
        None => remove_condition(&mut status, "ReplicaFailure"),
    }
    status
}

/// The new set's failure where it has one, else any other set's.
fn failure_of(all: &[&ReplicaSet], new: Option<&ReplicaSet>) -> Option<DeploymentCondition> {
    let of = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        let failure = conditions.iter().find(|c| c.type_ == "ReplicaFailure")?;
        Some(DeploymentCondition {
            type_: "ReplicaFailure".to_owned(),
            status: failure.status.clone(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            last_transition_time: failure.last_transition_time.clone(),
            last_update_time: failure.last_transition_time.clone(),
        })
    };
    new.and_then(of).or_else(|| all.iter().find_map(|set| of(set)))
}

/// Seconds until the deadline must be judged; `None` where nothing is to be judged.
pub(super) fn judge_again_in_s(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<u64> {
    let reason = condition(status, "Progressing")?.reason.as_deref();
    if is_complete(deployment, status) || matches!(reason, Some("NewReplicaSetAvailable" | "ProgressDeadlineExceeded"))
    {
        return None;
    }
    // A second past it, for timestamps hold whole seconds.
    Some(u64::try_from(remaining_s(deployment, status, now)?).unwrap_or(0) + 1)
}
