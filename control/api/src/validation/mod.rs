//! Validation of objects after defaulting, in upstream's words.
//!
//! Objects have passed the schema before (`crate::strict`): types are right, so what is checked
//! here is meaning. A kind without rules of its own gets those of its metadata.

mod config;
mod container;
pub mod content;
mod discovery;
mod meta;
mod node;
mod pod;
mod pod_update;
mod rbac;
mod read;
mod scheduling;
mod service;
mod storage;
mod volume;
mod workloads;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::field::{FieldError, Path};
use crate::registry;
use read::{Errors, map, text};

pub use meta::{MAX_ANNOTATIONS_BYTES, name_errors, object_meta, object_meta_update};
pub use pod::{binding, pod_spec, pod_template};
pub use pod_update::ephemeral_containers_update;
pub use read::semantically_equal;

/// Upstream's message for a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// Checks an object that is to be created.
#[must_use]
pub fn validate_create(group: &str, version: &str, kind: &str, object: &Value) -> Vec<FieldError> {
    let namespaced = registry::find_kind(group, version, kind).map(|row| row.namespaced);
    let mut errs = Vec::new();
    object_meta(group, kind, namespaced, object, &mut errs);
    match (group, kind) {
        ("", "Pod") => pod::create(object, &mut errs),
        ("", "PodTemplate") => {
            pod::pod_template(read::child(object, "template"), &Path::new("template"), &mut errs);
        }
        ("", "Service") => service::create(object, &mut errs),
        ("", "ConfigMap") => config::config_map(object, &mut errs),
        ("", "Secret") => config::secret(object, &mut errs),
        ("", "Namespace") => config::namespace(object, &mut errs),
        ("", "Node") => node::create(object, &mut errs),
        ("", "Endpoints") => discovery::endpoints(object, &mut errs),
        ("", "PersistentVolume") => storage::volume(object, &mut errs),
        ("", "PersistentVolumeClaim") => storage::claim(object, &mut errs),
        ("storage.k8s.io", "StorageClass") => storage::class(object, &mut errs),
        ("", "ReplicationController") | ("apps" | "batch", _) => workloads::create(kind, object, &mut errs),
        ("discovery.k8s.io", "EndpointSlice") => discovery::endpoint_slice(object, &mut errs),
        ("rbac.authorization.k8s.io", _) => rbac::check(kind, object, &mut errs),
        _ => {}
    }
    errs
}

/// Checks an object that is to replace `old`; the status is not looked at.
#[must_use]
pub fn validate_update(group: &str, version: &str, kind: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errs = Vec::new();
    object_meta_update(new, old, &mut errs);
    let mut immutable = |field: &str| read::immutable(new, old, field, &mut errs);
    match (group, kind) {
        ("", "Pod") => {
            pod_update::update(new, old, &mut errs);
            return errs;
        }
        ("", "Node") => {
            node::update(new, old, &mut errs);
            return errs;
        }
        ("", "Service") => service::update(new, old, &mut errs),
        ("", "ConfigMap") => config::immutable_data(new, old, &["data", "binaryData"], &mut errs),
        ("", "Secret") => {
            immutable("type");
            config::immutable_data(new, old, &["data"], &mut errs);
        }
        ("", "PersistentVolumeClaim") => storage::claim_update(new, old, &mut errs),
        ("storage.k8s.io", "StorageClass") => {
            for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                immutable(field);
            }
        }
        ("apps" | "batch", _) => workloads::update(kind, new, old, &mut errs),
        ("discovery.k8s.io", "EndpointSlice") => immutable("addressType"),
        ("scheduling.k8s.io", "PriorityClass") if new.get("value") != old.get("value") => {
            errs.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding")
            if new.get("roleRef") != old.get("roleRef") =>
        {
            let value = read::child(new, "roleRef").clone();
            errs.push(FieldError::invalid("roleRef", value, "cannot change roleRef"));
        }
        _ => {}
    }
    // What may not be created may not be updated to either; metadata was checked already.
    let mut whole = validate_create(group, version, kind, new);
    whole.retain(|e| !e.field.starts_with("metadata.") || e.field == "metadata.name" && read::is_empty_name(new));
    errs.append(&mut whole);
    errs
}

/// Checks the status of `new` (its spec is taken from `old` by the server).
#[must_use]
pub fn validate_status_update(group: &str, _version: &str, kind: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errs = Vec::new();
    object_meta_update(new, old, &mut errs);
    match (group, kind) {
        ("", "Pod") => pod_update::status_update(new, old, &mut errs),
        ("", "Node") => node::update(new, old, &mut errs),
        ("", "Namespace") => config::namespace_status(new, &mut errs),
        ("apps", _) => workloads::status(kind, new, &mut errs),
        _ => {}
    }
    errs
}

/// Appends an `Invalid` error for each message.
fn push_messages(errs: &mut Errors, path: &Path, value: &str, messages: Vec<String>) {
    errs.extend(messages.into_iter().map(|m| FieldError::invalid(path, value, m)));
}

/// `ValidateLabels`: keys and values of a label map.
fn label_map(object: &Value, key: &str, path: &Path, errs: &mut Errors) {
    for (label, value) in map(object, key).into_iter().flatten() {
        push_messages(errs, path, label, content::label_key(label));
        let value = value.as_str().unwrap_or_default();
        push_messages(errs, path, value, content::label_value(value));
    }
}

/// `ValidateLabelSelector`.
fn label_selector(selector: &Value, path: &Path, errs: &mut Errors) {
    label_map(selector, "matchLabels", &path.child("matchLabels"), errs);
    for (i, term) in read::items(selector, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        match text(term, "operator") {
            "In" | "NotIn" if read::items(term, "values").is_empty() => errs.push(FieldError::required(
                path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !read::items(term, "values").is_empty() => errs.push(FieldError::forbidden(
                path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errs.push(FieldError::invalid(path.child("operator"), other, "not a valid selector operator")),
        }
        let key = text(term, "key");
        push_messages(errs, &path.child("key"), key, content::label_key(key));
        for (j, value) in read::items(term, "values").iter().filter_map(Value::as_str).enumerate() {
            push_messages(errs, &path.child("values").index(j), value, content::label_value(value));
        }
    }
}
