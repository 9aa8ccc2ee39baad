//! apps, batch and ReplicationController.

use serde_json::Value;

use super::read::{Errors, child, immutable_at, int, items, nonnegative, semantically_equal, set, text};
use super::{content, label_selector, pod_template, push_messages, storage};
use crate::field::{FieldError, Path};
use crate::selector::{LabelSelector, labels_of, selector_from_object};

pub(super) fn create(kind: &str, object: &Value, errs: &mut Errors) {
    let spec = child(object, "spec");
    let path = Path::new("spec");
    match kind {
        "Deployment" => {
            nonnegative(spec, &["replicas"], &path, errs);
            template(kind, spec, &path, errs);
            deployment_strategy(child(spec, "strategy"), &path.child("strategy"), errs);
            nonnegative(spec, &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"], &path, errs);
            if let (Some(deadline), ready) = (int(spec, "progressDeadlineSeconds"), int(spec, "minReadySeconds"))
                && deadline <= ready.unwrap_or_default()
            {
                let detail = "must be greater than minReadySeconds";
                errs.push(FieldError::invalid(path.child("progressDeadlineSeconds"), deadline, detail));
            }
        }
        "ReplicaSet" => {
            nonnegative(spec, &["replicas", "minReadySeconds"], &path, errs);
            template(kind, spec, &path, errs);
        }
        "ReplicationController" => {
            nonnegative(spec, &["replicas", "minReadySeconds"], &path, errs);
            replication_controller(spec, &path, errs);
        }
        "DaemonSet" => {
            template(kind, spec, &path, errs);
            nonnegative(spec, &["minReadySeconds", "revisionHistoryLimit"], &path, errs);
            let strategy = child(spec, "updateStrategy");
            update_type(strategy, &path.child("updateStrategy"), errs);
        }
        "StatefulSet" => {
            nonnegative(spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"], &path, errs);
            template(kind, spec, &path, errs);
            stateful_set(spec, &path, errs);
        }
        "Job" => job(spec, &path, errs),
        "CronJob" => cron_job(object, errs),
        _ => {}
    }
}

fn selector(kind: &str, spec: &Value, path: &Path, errs: &mut Errors) -> Option<LabelSelector> {
    let at = path.child("selector");
    let Some(given) = set(spec, "selector") else {
        errs.push(FieldError::required(at, ""));
        return None;
    };
    label_selector(given, &at, errs);
    match selector_from_object(Some(given)) {
        Ok(selector) => {
            if selector.is_everything() {
                let name = match kind {
                    // Upstream's message of ReplicaSets names deployments.
                    "ReplicaSet" => "deployment".to_owned(),
                    other => other.to_lowercase(),
                };
                errs.push(FieldError::invalid(at, given.clone(), format!("empty selector is invalid for {name}")));
            }
            Some(selector)
        }
        Err(_) => {
            errs.push(FieldError::invalid(at, given.clone(), "invalid label selector"));
            None
        }
    }
}

/// Selector and pod template, of kinds whose Pods always restart.
fn template(kind: &str, spec: &Value, path: &Path, errs: &mut Errors) {
    let selector = selector(kind, spec, path, errs);
    let template = child(spec, "template");
    let at = path.child("template");
    if let Some(selector) = selector {
        matches_template(&selector, template, &at, errs);
    }
    pod_template(template, &at, errs);
    always_restarts(kind, child(template, "spec"), &at.child("spec"), errs);
}

fn matches_template(selector: &LabelSelector, template: &Value, path: &Path, errs: &mut Errors) {
    if !selector.is_everything() && !selector.matches_labels(labels_of(template)) {
        errs.push(FieldError::invalid(
            path.child("metadata").child("labels"),
            child(child(template, "metadata"), "labels").clone(),
            "`selector` does not match template `labels`",
        ));
    }
}

fn always_restarts(kind: &str, pod_spec: &Value, path: &Path, errs: &mut Errors) {
    let policy = text(pod_spec, "restartPolicy");
    if policy != "Always" {
        errs.push(FieldError::not_supported(path.child("restartPolicy"), policy, &["Always"]));
    }
    if set(pod_spec, "activeDeadlineSeconds").is_some() {
        let kind = if kind == "Deployment" { "ReplicaSet" } else { kind };
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errs.push(FieldError::forbidden(path.child("activeDeadlineSeconds"), detail));
    }
}

fn replication_controller(spec: &Value, path: &Path, errs: &mut Errors) {
    let labels = super::read::map(spec, "selector").filter(|s| !s.is_empty());
    match labels {
        None => errs.push(FieldError::required(path.child("selector"), "")),
        Some(labels) => {
            let selector = LabelSelector::from_map(labels);
            matches_template(&selector, child(spec, "template"), &path.child("template"), errs);
        }
    }
    let at = path.child("template");
    match set(spec, "template") {
        None => errs.push(FieldError::required(at, "")),
        Some(template) => {
            pod_template(template, &at, errs);
            always_restarts("ReplicationController", child(template, "spec"), &at.child("spec"), errs);
        }
    }
}

/// A whole number or percentage: the number, and whether it is a percentage.
fn int_or_percent(object: &Value, key: &str, path: &Path, errs: &mut Errors) -> Option<(i64, bool)> {
    match child(object, key) {
        Value::String(s) => {
            push_messages(errs, &path.child(key), s, content::percent(s));
            Some((s.strip_suffix('%')?.parse().ok()?, true))
        }
        Value::Number(n) => {
            nonnegative(object, &[key], path, errs);
            Some((n.as_i64()?, false))
        }
        _ => None,
    }
}

fn deployment_strategy(strategy: &Value, path: &Path, errs: &mut Errors) {
    let at = path.child("rollingUpdate");
    match (text(strategy, "type"), set(strategy, "rollingUpdate")) {
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => {
            errs.push(FieldError::forbidden(at, "may not be specified when strategy `type` is 'Recreate'"));
        }
        ("RollingUpdate", None) => {
            errs.push(FieldError::required(at, "this should be defaulted and never be nil"));
        }
        ("RollingUpdate", Some(rolling)) => {
            let unavailable = int_or_percent(rolling, "maxUnavailable", &at, errs);
            let surge = int_or_percent(rolling, "maxSurge", &at, errs);
            let value = || child(rolling, "maxUnavailable").clone();
            let zero = |v: Option<(i64, bool)>| v.is_none_or(|(n, _)| n == 0);
            if zero(unavailable) && zero(surge) {
                let detail = "may not be 0 when `maxSurge` is 0";
                errs.push(FieldError::invalid(at.child("maxUnavailable"), value(), detail));
            }
            if unavailable.is_some_and(|(n, percent)| percent && n > 100) {
                errs.push(FieldError::invalid(at.child("maxUnavailable"), value(), "must not be greater than 100%"));
            }
        }
        _ => errs.push(FieldError::not_supported(path, strategy.clone(), &["Recreate", "RollingUpdate"])),
    }
}

fn update_type(strategy: &Value, path: &Path, errs: &mut Errors) {
    if !matches!(text(strategy, "type"), "RollingUpdate" | "OnDelete") {
        errs.push(FieldError::not_supported(path, strategy.clone(), &["RollingUpdate", "OnDelete"]));
    }
}

fn stateful_set(spec: &Value, path: &Path, errs: &mut Errors) {
    let policy = text(spec, "podManagementPolicy");
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        errs.push(FieldError::invalid(path.child("podManagementPolicy"), policy, detail));
    }
    update_type(child(spec, "updateStrategy"), &path.child("updateStrategy"), errs);
    let service = text(spec, "serviceName");
    if !service.is_empty() {
        push_messages(errs, &path.child("serviceName"), service, content::dns1123_label(service));
    }
    for (i, claim) in items(spec, "volumeClaimTemplates").iter().enumerate() {
        let path = path.child("volumeClaimTemplates").index(i).child("spec");
        storage::claim_spec(child(claim, "spec"), &path, errs);
    }
}

fn job(spec: &Value, path: &Path, errs: &mut Errors) {
    nonnegative(
        spec,
        &[
            "parallelism",
            "completions",
            "activeDeadlineSeconds",
            "backoffLimit",
            "ttlSecondsAfterFinished",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
        ],
        path,
        errs,
    );
    let mode = text(spec, "completionMode");
    if !matches!(mode, "" | "NonIndexed" | "Indexed") {
        errs.push(FieldError::not_supported(path.child("completionMode"), mode, &["NonIndexed", "Indexed"]));
    }
    if mode == "Indexed" {
        if set(spec, "completions").is_none() {
            errs.push(FieldError::required(path.child("completions"), "when completion mode is Indexed"));
        }
    } else {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(value) = int(spec, key) {
                errs.push(FieldError::invalid(path.child(key), value, "requires indexed completion mode"));
            }
        }
    }
    let template = child(spec, "template");
    let at = path.child("template");
    // The selector is generated on creation, after the defaults.
    if let Some(given) = set(spec, "selector") {
        label_selector(given, &path.child("selector"), errs);
        if let Ok(selector) = selector_from_object(Some(given)) {
            matches_template(&selector, template, &at, errs);
        }
    }
    pod_template(template, &at, errs);
    let at = at.child("spec").child("restartPolicy");
    match text(child(template, "spec"), "restartPolicy") {
        "" | "Always" => errs.push(FieldError::required(at, "valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if set(spec, "podFailurePolicy").is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errs.push(FieldError::invalid(at, "OnFailure", detail));
        }
        "OnFailure" | "Never" => {}
        other => errs.push(FieldError::not_supported(at, other, &["OnFailure", "Never"])),
    }
}

fn cron_job(object: &Value, errs: &mut Errors) {
    const MAX_NAME: usize = 52;
    let name = text(child(object, "metadata"), "name");
    if name.len() > MAX_NAME {
        errs.push(FieldError::invalid("metadata.name", name, "must be no more than 52 characters"));
    }
    let spec = child(object, "spec");
    let path = Path::new("spec");
    if text(spec, "schedule").is_empty() {
        errs.push(FieldError::required(path.child("schedule"), ""));
    }
    nonnegative(
        spec,
        &["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"],
        &path,
        errs,
    );
    super::read::one_of(spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"], &path, errs);
    job(child(child(spec, "jobTemplate"), "spec"), &path.child("jobTemplate").child("spec"), errs);
}

/// What an update may not change.
pub(super) fn update(kind: &str, new: &Value, old: &Value, errs: &mut Errors) {
    let (new_spec, old_spec) = (child(new, "spec"), child(old, "spec"));
    let path = Path::new("spec");
    let fixed: &[&str] = match kind {
        "Deployment" | "ReplicaSet" | "DaemonSet" => &["selector"],
        "Job" => {
            &["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
        }
        _ => &[],
    };
    for key in fixed {
        immutable_at(child(new_spec, key), child(old_spec, key), &path.child(key), errs);
    }
    match kind {
        "Job" if !matches!(new_spec.get("suspend"), Some(Value::Bool(true))) => {
            immutable_at(child(new_spec, "template"), child(old_spec, "template"), &path.child("template"), errs);
        }
        "StatefulSet" => {
            const MUTABLE: &[&str] = &[
                "replicas",
                "template",
                "updateStrategy",
                "minReadySeconds",
                "ordinals",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
            ];
            let without = |spec: &Value| {
                let mut spec = spec.clone();
                if let Some(spec) = spec.as_object_mut() {
                    spec.retain(|key, _| !MUTABLE.contains(&key.as_str()));
                }
                spec
            };
            if !semantically_equal(&without(new_spec), &without(old_spec)) {
                let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
                errs.push(FieldError::forbidden(&path, detail));
            }
        }
        "ControllerRevision" if !semantically_equal(child(new, "data"), child(old, "data")) => {
            errs.push(FieldError::invalid("data", child(new, "data").clone(), super::IMMUTABLE));
        }
        _ => {}
    }
}

/// Counters of a status, and how they bound each other.
pub(super) fn status(kind: &str, object: &Value, errs: &mut Errors) {
    let status = child(object, "status");
    let path = Path::new("status");
    let counters = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "currentReplicas",
        "collisionCount",
    ];
    nonnegative(status, &counters, &path, errs);
    if !matches!(kind, "Deployment" | "ReplicaSet" | "StatefulSet") {
        return;
    }
    let count = |key| int(status, key).unwrap_or_default();
    for key in ["updatedReplicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        if count(key) > count("replicas") {
            errs.push(FieldError::invalid(path.child(key), count(key), "cannot be greater than status.replicas"));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let detail = "cannot be greater than readyReplicas";
        errs.push(FieldError::invalid(path.child("availableReplicas"), count("availableReplicas"), detail));
    }
}
