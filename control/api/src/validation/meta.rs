//! `ObjectMeta`: names, labels, annotations, owners, finalizers, and what may not change.

use serde_json::Value;

use super::read::{Errors, child, flag, immutable_at, int, items, map, set, text};
use super::{content, label_map, push_messages};
use crate::field::{FieldError, Path};

/// Most bytes of all annotations of an object, keys and values.
pub const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;

/// What is wrong with a name of this kind.
#[must_use]
pub fn name_errors(group: &str, kind: &str, name: &str) -> Vec<String> {
    match (group, kind) {
        ("", "Namespace" | "Service") => content::dns1123_label(name),
        ("rbac.authorization.k8s.io", _) | ("apiregistration.k8s.io" | "node.k8s.io", _) => {
            content::path_segment_name(name)
        }
        ("certificates.k8s.io", "ClusterTrustBundle") => content::path_segment_name(name),
        // An Event's name is only a key; old clients write what they like.
        ("" | "events.k8s.io", "Event") => Vec::new(),
        _ => content::dns1123_subdomain(name),
    }
}

/// `ValidateObjectMeta`; `namespaced` None leaves the namespace unchecked.
pub fn object_meta(group: &str, kind: &str, namespaced: Option<bool>, object: &Value, errs: &mut Errors) {
    let meta = child(object, "metadata");
    let path = Path::new("metadata");
    let generate = text(meta, "generateName");
    if !generate.is_empty() {
        // As a prefix it may end in a dash, which the suffix then covers.
        let masked = format!("{}a", generate.strip_suffix('-').unwrap_or(generate));
        push_messages(errs, &path.child("generateName"), generate, name_errors(group, kind, &masked));
    }
    let name = text(meta, "name");
    if name.is_empty() {
        errs.push(FieldError::required(path.child("name"), "name or generateName is required"));
    } else {
        push_messages(errs, &path.child("name"), name, name_errors(group, kind, name));
    }
    let namespace = text(meta, "namespace");
    match namespaced {
        Some(true) if namespace.is_empty() => errs.push(FieldError::required(path.child("namespace"), "")),
        Some(true) => push_messages(errs, &path.child("namespace"), namespace, content::dns1123_label(namespace)),
        Some(false) if !namespace.is_empty() => {
            errs.push(FieldError::forbidden(path.child("namespace"), "not allowed on this type"));
        }
        _ => {}
    }
    if let Some(generation) = int(meta, "generation").filter(|g| *g < 0) {
        errs.push(FieldError::invalid(path.child("generation"), generation, "must be greater than or equal to 0"));
    }
    shared(meta, &path, errs);
    finalizers(meta, &path.child("finalizers"), errs);
}

/// What creation and update check alike.
fn shared(meta: &Value, path: &Path, errs: &mut Errors) {
    label_map(meta, "labels", &path.child("labels"), errs);
    annotations(meta, &path.child("annotations"), errs);
    owner_references(meta, &path.child("ownerReferences"), errs);
}

/// `ValidateAnnotations`, also of pod templates.
pub(super) fn annotations(meta: &Value, path: &Path, errs: &mut Errors) {
    let mut total = 0;
    for (key, value) in map(meta, "annotations").into_iter().flatten() {
        push_messages(errs, path, key, content::label_key(&key.to_lowercase()));
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > MAX_ANNOTATIONS_BYTES {
        errs.push(FieldError::too_long(path, MAX_ANNOTATIONS_BYTES));
    }
}

fn owner_references(meta: &Value, path: &Path, errs: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in items(meta, "ownerReferences") {
        let (api_version, kind, name) = (text(owner, "apiVersion"), text(owner, "kind"), text(owner, "name"));
        let version = api_version.rsplit('/').next().unwrap_or_default();
        if version.is_empty() {
            errs.push(FieldError::invalid(path.child("apiVersion"), api_version, "version must not be empty"));
        }
        for key in ["kind", "name", "uid"] {
            if text(owner, key).is_empty() {
                errs.push(FieldError::invalid(path.child(key), "", "must not be empty"));
            }
        }
        if (api_version, kind) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errs.push(FieldError::invalid(path, owner.clone(), detail));
        }
        if !flag(owner, "controller") {
            continue;
        }
        let this = format!("{kind}/{name}");
        match &controller {
            None => controller = Some(this),
            Some(first) => errs.push(FieldError::invalid(
                path,
                child(meta, "ownerReferences").clone(),
                format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                ),
            )),
        }
    }
}

fn finalizers(meta: &Value, path: &Path, errs: &mut Errors) {
    let list: Vec<&str> = items(meta, "finalizers").iter().filter_map(Value::as_str).collect();
    for finalizer in &list {
        push_messages(errs, path, finalizer, content::label_key(finalizer));
    }
    if list.contains(&"orphan") && list.contains(&"foregroundDeletion") {
        let value = child(meta, "finalizers").clone();
        errs.push(FieldError::invalid(path, value, "finalizer orphan and foregroundDeletion cannot be both set"));
    }
}

/// `ValidateObjectMetaUpdate`.
pub fn object_meta_update(new: &Value, old: &Value, errs: &mut Errors) {
    let (new, old) = (child(new, "metadata"), child(old, "metadata"));
    let path = Path::new("metadata");
    if set(old, "deletionTimestamp").is_some() {
        let before = items(old, "finalizers");
        let mut added: Vec<&str> =
            items(new, "finalizers").iter().filter(|f| !before.contains(f)).filter_map(Value::as_str).collect();
        if !added.is_empty() {
            added.sort_unstable();
            let quoted: Vec<String> = added.iter().map(|f| crate::field::quote(f)).collect();
            errs.push(FieldError::forbidden(
                path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    quoted.join(", ")
                ),
            ));
        }
    }
    if text(new, "resourceVersion").is_empty() {
        errs.push(FieldError::invalid(path.child("resourceVersion"), "", "must be specified for an update"));
    }
    let generation = |meta| int(meta, "generation").unwrap_or_default();
    if generation(new) < generation(old) {
        errs.push(FieldError::invalid(path.child("generation"), generation(new), "must not be decremented"));
    }
    for key in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        immutable_at(child(new, key), child(old, key), &path.child(key), errs);
    }
    shared(new, &path, errs);
}
