//! What one kind's objects go through that others don't: which fields a write may touch, what is
//! set for it, when it is gone. Generic first; a kind appears by name only where upstream differs.

pub(crate) mod deletion;
pub(crate) mod event_leases;
mod jobs;
mod pods;
mod status;

use orlop_api::field::FieldError;
use orlop_api::registry::ResourceInfo;
use orlop_api::validation;
use serde_json::{Value, json};

use crate::{meta, scheme};

/// Kinds that PUT creates where they are missing (upstream `AllowCreateOnUpdate`).
const CREATES_ON_UPDATE: &[(&str, &str)] = &[
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "services"),
    ("coordination.k8s.io", "leases"),
    ("events.k8s.io", "events"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
];

/// Kinds whose PUT must name a `resourceVersion` (upstream `AllowUnconditionalUpdate` false).
const REQUIRES_VERSION: &[(&str, &str)] = &[
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    ("coordination.k8s.io", "leases"),
    ("node.k8s.io", "runtimeclasses"),
    ("policy", "poddisruptionbudgets"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "volumeattachments"),
];

pub(crate) fn creates_on_update(row: &ResourceInfo) -> bool {
    CREATES_ON_UPDATE.contains(&(row.group, row.plural))
}

pub(crate) fn requires_version(row: &ResourceInfo) -> bool {
    REQUIRES_VERSION.contains(&(row.group, row.plural))
}

pub(crate) fn is_service(row: &ResourceInfo) -> bool {
    row.group.is_empty() && row.plural == "services"
}

pub(crate) fn is_pod(row: &ResourceInfo) -> bool {
    row.group.is_empty() && row.plural == "pods"
}

fn is_namespace(row: &ResourceInfo) -> bool {
    row.group.is_empty() && row.plural == "namespaces"
}

/// What every new object gets and may not bring.
pub(crate) fn prepare_create(row: &ResourceInfo, object: &mut Value, now: jiff::Timestamp) {
    for field in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "resourceVersion"] {
        meta::remove(object, field);
    }
    meta::set(object, "uid", uuid::Uuid::new_v4().to_string());
    meta::set(object, "creationTimestamp", meta::time(now));
    if row.generation {
        meta::set(object, "generation", 1);
    }
    status::on_create(row, object);
    if is_namespace(row) {
        let finalizers = meta::child_mut(object, "spec").entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = finalizers.as_array_mut()
            && !list.iter().any(|f| f == "kubernetes")
        {
            list.push(json!("kubernetes"));
        }
        // What an admission plugin or controller would add: selectors by name work at once.
        let name = meta::name(object).to_owned();
        let labels = meta::metadata_mut(object).entry("labels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert("kubernetes.io/metadata.name".into(), json!(name));
        }
    }
}

/// After mutating admission: what a new object gets beside what its writer asked for, and is no field of theirs.
pub(crate) fn complete_create(row: &ResourceInfo, object: &mut Value) {
    if row.group == "batch" && row.plural == "jobs" {
        jobs::select_own_pods(object);
    }
}

/// After mutating admission: what is derived from the final spec.
pub(crate) fn after_mutation(row: &ResourceInfo, object: &mut Value) {
    if is_pod(row) {
        pods::set_qos_class(object);
    }
}

/// Which parts of `new` count in a write to `subresource` (empty: the object itself).
pub(crate) fn prepare_update(row: &ResourceInfo, subresource: &str, new: &mut Value, old: &Value) {
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "name",
        "namespace",
        "generateName",
    ] {
        meta::carry(new, old, field);
    }
    meta::remove(new, "selfLink");
    // The client's version was compared already.
    meta::carry(new, old, "resourceVersion");
    match subresource {
        "" => {
            status::on_update(row, new, old);
            if is_namespace(row) {
                let spec = meta::child_mut(new, "spec");
                match old.pointer("/spec/finalizers") {
                    Some(finalizers) => spec.insert("finalizers".into(), finalizers.clone()),
                    None => spec.shift_remove("finalizers"),
                };
                let name = meta::name(new).to_owned();
                let labels = meta::metadata_mut(new).entry("labels").or_insert_with(|| json!({}));
                if let Some(labels) = labels.as_object_mut() {
                    labels.insert("kubernetes.io/metadata.name".into(), json!(name));
                }
            }
        }
        "status" | "approval" => status::on_status_update(row, subresource, new, old),
        "finalize" => {
            // Only the finalizers of the spec.
            let finalizers = new.pointer("/spec/finalizers").cloned();
            let mut out = old.clone();
            let spec = meta::child_mut(&mut out, "spec");
            match finalizers {
                Some(finalizers) => spec.insert("finalizers".into(), finalizers),
                None => spec.shift_remove("finalizers"),
            };
            *new = out;
        }
        "ephemeralcontainers" => pods::only_ephemeral_containers(new, old),
        "resize" => pods::only_resize(new, old),
        _ => {}
    }
}

/// A changed spec is a new generation; a Pod that gets its node is still the first one, as upstream
/// binds without the update strategy.
pub(crate) fn bump_generation(row: &ResourceInfo, subresource: &str, new: &mut Value, old: &Value) {
    if !row.generation || matches!(subresource, "status" | "approval" | "binding") {
        return;
    }
    if without_meta_and_status(new) != without_meta_and_status(old) {
        meta::set(new, "generation", meta::generation(old) + 1);
    }
}

fn without_meta_and_status(object: &Value) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(k, v)| !matches!(k.as_str(), "metadata" | "status" | "apiVersion" | "kind") && !v.is_null())
        .collect();
    fields.sort_by_key(|(k, _)| k.as_str());
    fields
}

pub(crate) fn validate_update(row: &ResourceInfo, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    match subresource {
        "" => scheme::validate_update(row, new, old),
        "status" | "approval" => scheme::validate_status_update(row, new, old),
        "ephemeralcontainers" => validation::ephemeral_containers_update(new, old),
        _ => Vec::new(),
    }
}

/// Whether this write was the last thing that held a deleted object.
pub(crate) fn gone_after_update(row: &ResourceInfo, new: &Value) -> bool {
    if !meta::is_deleting(new) || !meta::finalizers(new).is_empty() {
        return false;
    }
    if is_namespace(row) {
        let held_by = new.pointer("/spec/finalizers").and_then(Value::as_array);
        return held_by.is_none_or(Vec::is_empty);
    }
    meta::grace_period_s(new).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests;
