//! ConfigMap, Secret and Namespace.

use serde_json::Value;

use super::read::{Errors, child, flag, items, map, semantically_equal, set, text};
use super::{content, push_messages};
use crate::field::{FieldError, Path};

/// Most bytes of all values of a ConfigMap or Secret.
const MAX_DATA_BYTES: usize = 1024 * 1024;

pub(super) fn config_map(object: &Value, errs: &mut Errors) {
    let binary = map(object, "binaryData");
    let mut total = 0;
    for (key, value) in map(object, "data").into_iter().flatten() {
        let path = Path::new("data").key(key);
        push_messages(errs, &path, key, content::config_map_key(key));
        if binary.is_some_and(|b| b.contains_key(key)) {
            errs.push(FieldError::invalid(&path, key.clone(), "duplicate of key present in binaryData"));
        }
        total += value.as_str().map_or(0, str::len);
    }
    for (key, value) in binary.into_iter().flatten() {
        push_messages(errs, &Path::new("binaryData").key(key), key, content::config_map_key(key));
        total += decoded_len(value);
    }
    if total > MAX_DATA_BYTES {
        errs.push(FieldError::too_long("", MAX_DATA_BYTES));
    }
}

/// Length of what a base64 text stands for.
fn decoded_len(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count().min(2) * usize::from(text.len() >= 4)
}

pub(super) fn secret(object: &Value, errs: &mut Errors) {
    let path = Path::new("data");
    let data = map(object, "data");
    let mut total = 0;
    for (key, value) in data.into_iter().flatten() {
        push_messages(errs, &path.key(key), key, content::config_map_key(key));
        total += decoded_len(value);
    }
    if total > MAX_DATA_BYTES {
        errs.push(FieldError::too_long(&path, MAX_DATA_BYTES));
    }
    let has = |key: &str| data.is_some_and(|d| d.contains_key(key));
    let mut require = |keys: &[&str]| {
        for key in keys {
            if !has(key) {
                errs.push(FieldError::required(path.key(key), ""));
            }
        }
    };
    match text(object, "type") {
        "kubernetes.io/dockercfg" => require(&[".dockercfg"]),
        "kubernetes.io/dockerconfigjson" => require(&[".dockerconfigjson"]),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => require(&["username", "password"]),
        "kubernetes.io/ssh-auth" => require(&["ssh-privatekey"]),
        "kubernetes.io/tls" => require(&["tls.crt", "tls.key"]),
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let annotations = child(child(object, "metadata"), "annotations");
            if text(annotations, key).is_empty() {
                errs.push(FieldError::required(Path::new("metadata").child("annotations").key(key), ""));
            }
        }
        _ => {}
    }
}

/// An object marked immutable keeps its data and the mark.
pub(super) fn immutable_data(new: &Value, old: &Value, fields: &[&str], errs: &mut Errors) {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if !flag(old, "immutable") {
        return;
    }
    if !flag(new, "immutable") {
        errs.push(FieldError::forbidden("immutable", DETAIL));
    }
    let data = |object: &Value, field: &str| serde_json::json!({ "data": child(object, field) });
    for field in fields {
        if !semantically_equal(&data(new, field), &data(old, field)) {
            errs.push(FieldError::forbidden(*field, DETAIL));
        }
    }
}

pub(super) fn namespace(object: &Value, errs: &mut Errors) {
    let path = Path::new("spec").child("finalizers");
    for finalizer in items(child(object, "spec"), "finalizers").iter().filter_map(Value::as_str) {
        push_messages(errs, &path, finalizer, content::label_key(finalizer));
        let standard = matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion");
        if !finalizer.contains('/') && !standard {
            errs.push(FieldError::invalid(
                &path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
}

pub(super) fn namespace_status(object: &Value, errs: &mut Errors) {
    let phase = text(child(object, "status"), "phase");
    let deleted = set(child(object, "metadata"), "deletionTimestamp").is_some();
    let path = Path::new("status").child("Phase");
    if !deleted && phase != "Active" {
        errs.push(FieldError::invalid(path, phase, "may only be 'Active' if `deletionTimestamp` is empty"));
    } else if deleted && phase != "Terminating" {
        errs.push(FieldError::invalid(path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty"));
    }
}
