//! apps and batch.

use serde_json::{Value, json};

use super::{Object, child, child_or_new, default_nonzero, default_to, each, has_items, is_unset, pod, text};

pub(super) fn apply_apps(kind: &str, root: &mut Object) {
    let Some(spec) = child(root, "spec") else {
        return;
    };
    match kind {
        "Deployment" => deployment(spec),
        "ReplicaSet" => default_to(spec, "replicas", || 1.into()),
        "DaemonSet" => daemon_set(spec),
        "StatefulSet" => stateful_set(spec),
        _ => return,
    }
    pod::template(spec, "template");
}

fn deployment(spec: &mut Object) {
    default_to(spec, "replicas", || 1.into());
    if let Some(strategy) = child_or_new(spec, "strategy") {
        default_nonzero(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = child_or_new(strategy, "rollingUpdate")
        {
            default_to(rolling, "maxUnavailable", || "25%".into());
            default_to(rolling, "maxSurge", || "25%".into());
        }
    }
    default_to(spec, "revisionHistoryLimit", || 10.into());
    default_to(spec, "progressDeadlineSeconds", || 600.into());
}

fn daemon_set(spec: &mut Object) {
    if let Some(strategy) = child_or_new(spec, "updateStrategy") {
        default_nonzero(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = child_or_new(strategy, "rollingUpdate")
        {
            default_to(rolling, "maxUnavailable", || 1.into());
            default_to(rolling, "maxSurge", || 0.into());
        }
    }
    default_to(spec, "revisionHistoryLimit", || 10.into());
}

fn stateful_set(spec: &mut Object) {
    default_nonzero(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = child_or_new(spec, "updateStrategy") {
        if text(strategy, "type").is_empty() {
            strategy.insert("type".to_owned(), "RollingUpdate".into());
            default_to(strategy, "rollingUpdate", || json!({}));
        }
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            default_to(rolling, "partition", || 0.into());
            // MaxUnavailableStatefulSet is beta and on.
            default_to(rolling, "maxUnavailable", || 1.into());
        }
    }
    if let Some(policy) = child_or_new(spec, "persistentVolumeClaimRetentionPolicy") {
        default_nonzero(policy, "whenDeleted", "Retain");
        default_nonzero(policy, "whenScaled", "Retain");
    }
    default_to(spec, "replicas", || 1.into());
    default_to(spec, "revisionHistoryLimit", || 10.into());
    for claim in each(spec, "volumeClaimTemplates") {
        if let Some(status) = child_or_new(claim, "status") {
            default_nonzero(status, "phase", "Pending");
        }
        if let Some(claim_spec) = child(claim, "spec") {
            pod::claim_spec(claim_spec);
        }
    }
}

pub(super) fn apply_batch(kind: &str, root: &mut Object) {
    match kind {
        "Job" => {
            let labels = child(root, "spec").and_then(|spec| {
                job_spec(spec);
                spec.get("template").and_then(|t| t.pointer("/metadata/labels")).cloned()
            });
            if let Some(labels @ Value::Object(_)) = labels
                && let Some(meta) = child_or_new(root, "metadata")
                && !has_items(meta, "labels")
            {
                meta.insert("labels".to_owned(), labels);
            }
        }
        "CronJob" => {
            let Some(spec) = child(root, "spec") else {
                return;
            };
            default_nonzero(spec, "concurrencyPolicy", "Allow");
            default_to(spec, "suspend", || false.into());
            default_to(spec, "successfulJobsHistoryLimit", || 3.into());
            default_to(spec, "failedJobsHistoryLimit", || 1.into());
            // Upstream leaves the job's own defaults to the Job that is created.
            if let Some(job) = child(spec, "jobTemplate").and_then(|t| child(t, "spec")) {
                failure_policy(job);
                pod::template(job, "template");
            }
        }
        _ => {}
    }
}

fn job_spec(spec: &mut Object) {
    if is_unset(spec, "completions") && is_unset(spec, "parallelism") {
        spec.insert("completions".to_owned(), 1.into());
    }
    default_to(spec, "parallelism", || 1.into());
    let limit = if is_unset(spec, "backoffLimitPerIndex") { 6 } else { i32::MAX };
    default_to(spec, "backoffLimit", || limit.into());
    default_to(spec, "completionMode", || "NonIndexed".into());
    default_to(spec, "suspend", || false.into());
    let replacement = if is_unset(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    default_to(spec, "podReplacementPolicy", || replacement.into());
    default_to(spec, "manualSelector", || false.into());
    failure_policy(spec);
    pod::template(spec, "template");
}

fn failure_policy(spec: &mut Object) {
    let rules = child(spec, "podFailurePolicy").into_iter().flat_map(|p| each(p, "rules"));
    for rule in rules {
        for condition in each(rule, "onPodConditions") {
            default_nonzero(condition, "status", "True");
        }
    }
}
