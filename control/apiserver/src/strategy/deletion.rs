//! What a delete request does to an object: nothing more, marks it, or removes it. Pure.

use orlop_api::registry::ResourceInfo;
use orlop_api::status::Status;
use serde_json::{Value, json};

use super::{is_namespace, is_pod};
use crate::meta;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// `spec.terminationGracePeriodSeconds` where a pod has none.
const DEFAULT_GRACE_S: i64 = 30;

/// Kinds whose delete answers with the object (upstream `ReturnDeletedObject`).
const RETURNS_OBJECT: &[(&str, &str)] = &[
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("policy", "podsecuritypolicies"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
];

pub(crate) fn returns_object(row: &ResourceInfo) -> bool {
    RETURNS_OBJECT.contains(&(row.group, row.plural))
}

/// What becomes of dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl Propagation {
    pub(crate) fn parse(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Self>, Status> {
        let invalid = |field: &str, what: String| {
            Status::new(422, "Invalid", format!("DeleteOptions.meta.k8s.io \"\" is invalid: {field}: {what}"))
        };
        match (policy, orphan) {
            (Some(policy), Some(_)) => Err(invalid(
                "propagationPolicy",
                format!("Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set"),
            )),
            (Some("Orphan"), None) | (None, Some(true)) => Ok(Some(Self::Orphan)),
            (Some("Background"), None) | (None, Some(false)) => Ok(Some(Self::Background)),
            (Some("Foreground"), None) => Ok(Some(Self::Foreground)),
            (Some(other), None) => Err(invalid(
                "propagationPolicy",
                format!(
                    "Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\", \"nil\""
                ),
            )),
            (None, None) => Ok(None),
        }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It is on its way out already, and this request doesn't hurry it.
    Unchanged,
    /// Store this and wait for finalizers or the kubelet.
    Mark(Value),
    /// Remove it.
    Now,
}

pub(crate) fn decide(
    row: &ResourceInfo,
    object: &Value,
    grace_s: Option<i64>,
    propagation: Option<Propagation>,
    now: jiff::Timestamp,
) -> Verdict {
    let mut marked = object.clone();
    meta::remove(&mut marked, "resourceVersion");
    set_garbage_finalizers(&mut marked, propagation);
    let held = !meta::finalizers(&marked).is_empty() || held_by_spec(row, &marked);
    let grace_s = if is_pod(row) { pod_grace_s(object, grace_s) } else { 0 };

    if meta::is_deleting(object) {
        let before = meta::grace_period_s(object).unwrap_or(0);
        // A grace period may only shrink.
        if grace_s < before {
            let left = deletion_time(object, before).map_or(now, |at| at - seconds(before)) + seconds(grace_s);
            set_deletion(&mut marked, left, grace_s);
        }
        let remaining = grace_s.min(before);
        return if held || remaining > 0 {
            if unversioned(object) == marked { Verdict::Unchanged } else { Verdict::Mark(marked) }
        } else {
            Verdict::Now
        };
    }
    if !held && grace_s == 0 {
        return Verdict::Now;
    }
    set_deletion(&mut marked, now + seconds(grace_s), grace_s);
    if is_namespace(row) {
        meta::child_mut(&mut marked, "status").insert("phase".into(), json!("Terminating"));
        meta::remove(&mut marked, "deletionGracePeriodSeconds");
    }
    let generation = meta::generation(&marked);
    if generation > 0 {
        meta::set(&mut marked, "generation", generation + 1);
    }
    Verdict::Mark(marked)
}

fn unversioned(object: &Value) -> Value {
    let mut out = object.clone();
    meta::remove(&mut out, "resourceVersion");
    out
}

fn seconds(s: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(s)
}

fn deletion_time(object: &Value, _grace_s: i64) -> Option<jiff::Timestamp> {
    meta::text(object, "deletionTimestamp").parse().ok()
}

fn set_deletion(object: &mut Value, at: jiff::Timestamp, grace_s: i64) {
    meta::set(object, "deletionTimestamp", meta::time(at));
    meta::set(object, "deletionGracePeriodSeconds", grace_s);
}

/// A namespace goes only once the namespace controller has emptied it.
fn held_by_spec(row: &ResourceInfo, object: &Value) -> bool {
    is_namespace(row)
        && object.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// Seconds that the kubelet has; 0 where no kubelet knows the pod or everything in it has ended.
fn pod_grace_s(pod: &Value, wanted: Option<i64>) -> i64 {
    let assigned = pod.pointer("/spec/nodeName").and_then(Value::as_str).is_some_and(|n| !n.is_empty());
    let ended = matches!(pod.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed"));
    if !assigned || ended {
        return 0;
    }
    let of_spec = || pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    match wanted.or_else(of_spec).unwrap_or(DEFAULT_GRACE_S) {
        negative if negative < 0 => 1,
        grace_s => grace_s,
    }
}

/// The garbage collector reads the policy from finalizers.
fn set_garbage_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let mut finalizers: Vec<String> = meta::finalizers(object)
        .into_iter()
        .filter(|f| !matches!(*f, ORPHAN | FOREGROUND))
        .map(str::to_owned)
        .collect();
    match propagation {
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    if finalizers.is_empty() {
        meta::remove(object, "finalizers");
    } else {
        meta::set(object, "finalizers", json!(finalizers));
    }
}
