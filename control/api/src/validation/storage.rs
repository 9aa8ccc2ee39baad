//! PersistentVolumes, claims and storage classes.

use serde_json::Value;

use super::read::{Errors, child, items, map, one_of, resource_quantity, semantically_equal, text};
use super::{content, push_messages};
use crate::field::{FieldError, Path};

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn access_modes(spec: &Value, path: &Path, errs: &mut Errors) {
    let modes: Vec<&str> = items(spec, "accessModes").iter().filter_map(Value::as_str).collect();
    let path = path.child("accessModes");
    for mode in &modes {
        if !ACCESS_MODES.contains(mode) {
            errs.push(FieldError::not_supported(&path, *mode, ACCESS_MODES));
        }
    }
    if modes.len() > 1 && modes.contains(&"ReadWriteOncePod") {
        errs.push(FieldError::forbidden(&path, "may not use ReadWriteOncePod with other access modes"));
    }
}

/// Keys of a PersistentVolumeSpec that are no volume source.
const NOT_A_SOURCE: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(super) fn volume(object: &Value, errs: &mut Errors) {
    let spec = child(object, "spec");
    let path = Path::new("spec");
    if items(spec, "accessModes").is_empty() {
        errs.push(FieldError::required(path.child("accessModes"), ""));
    }
    access_modes(spec, &path, errs);
    match map(spec, "capacity").filter(|c| !c.is_empty()) {
        None => errs.push(FieldError::required(path.child("capacity"), "")),
        Some(capacity) => {
            if capacity.len() > 1 || !capacity.contains_key("storage") {
                let value = child(spec, "capacity").clone();
                errs.push(FieldError::not_supported(path.child("capacity"), value, &["storage"]));
            }
            for (name, value) in capacity {
                let path = path.child("capacity").key(name);
                if let Some(quantity) = resource_quantity(name, value, &path, errs)
                    && quantity.is_zero()
                {
                    errs.push(FieldError::invalid(&path, quantity.to_string(), "must be greater than zero"));
                }
            }
        }
    }
    one_of(spec, "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"], &path, errs);
    let sources: Vec<&String> = spec
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| !value.is_null() && !NOT_A_SOURCE.contains(&key.as_str()))
        .map(|(key, _)| key)
        .collect();
    if sources.is_empty() {
        errs.push(FieldError::required(&path, "must specify a volume type"));
    }
    for extra in sources.iter().skip(1) {
        errs.push(FieldError::forbidden(path.child(extra), "may not specify more than 1 volume type"));
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        push_messages(errs, &path.child("storageClassName"), class, content::dns1123_subdomain(class));
    }
}

pub(super) fn claim(object: &Value, errs: &mut Errors) {
    claim_spec(child(object, "spec"), &Path::new("spec"), errs);
}

/// The spec of a claim, alone or in a template.
pub(super) fn claim_spec(spec: &Value, path: &Path, errs: &mut Errors) {
    if items(spec, "accessModes").is_empty() {
        errs.push(FieldError::required(path.child("accessModes"), "at least 1 access mode is required"));
    }
    access_modes(spec, path, errs);
    let resources = path.child("resources");
    match child(spec, "resources").pointer("/requests/storage") {
        None | Some(Value::Null) => errs.push(FieldError::required(resources.key("storage"), "")),
        Some(value) => {
            let path = resources.key("storage");
            if let Some(quantity) = resource_quantity("storage", value, &path, errs)
                && quantity.is_zero()
            {
                errs.push(FieldError::invalid(&path, quantity.to_string(), "must be greater than zero"));
            }
        }
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        push_messages(errs, &path.child("storageClassName"), class, content::dns1123_subdomain(class));
    }
}

/// A bound claim may only grow; an unbound one may also get its volume and class.
pub(super) fn claim_update(new: &Value, old: &Value, errs: &mut Errors) {
    let (mut new_spec, old_spec) = (child(new, "spec").clone(), child(old, "spec"));
    let unbound = text(old_spec, "volumeName").is_empty();
    let keep = |spec: &mut Value, key: &str| {
        if let Some(spec) = spec.as_object_mut() {
            match old_spec.get(key) {
                Some(value) => spec.insert(key.to_owned(), value.clone()),
                None => spec.shift_remove(key),
            };
        }
    };
    if unbound {
        keep(&mut new_spec, "volumeName");
    } else {
        keep(&mut new_spec, "resources");
    }
    if old_spec.get("storageClassName").is_none_or(Value::is_null) {
        keep(&mut new_spec, "storageClassName");
    }
    keep(&mut new_spec, "volumeAttributesClassName");
    if !semantically_equal(&new_spec, old_spec) {
        errs.push(FieldError::forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
}

pub(super) fn class(object: &Value, errs: &mut Errors) {
    if text(object, "provisioner").is_empty() {
        errs.push(FieldError::required("provisioner", ""));
    }
    one_of(object, "reclaimPolicy", &["Delete", "Retain"], &Path::default(), errs);
    one_of(object, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], &Path::default(), errs);
}
