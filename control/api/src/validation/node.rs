//! Nodes and taints.

use serde_json::Value;

use super::read::{Errors, child, items, map, resource_quantity, text};
use super::{content, push_messages};
use crate::field::{FieldError, Path};

pub(super) fn create(node: &Value, errs: &mut Errors) {
    taints(node, errs);
    resources(node, errs);
    let path = Path::new("spec").child("podCIDRs");
    for (i, cidr) in items(child(node, "spec"), "podCIDRs").iter().filter_map(Value::as_str).enumerate() {
        push_messages(errs, &path.index(i), cidr, content::cidr(cidr));
    }
}

fn taints(node: &Value, errs: &mut Errors) {
    // Upstream reports them below metadata.
    let path = Path::new("metadata").child("taints");
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, taint) in items(child(node, "spec"), "taints").iter().enumerate() {
        let path = path.index(i);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        push_messages(errs, &path.child("key"), key, content::label_key(key));
        let value_errors = content::label_value(value);
        if !value_errors.is_empty() {
            errs.push(FieldError::invalid(path.child("value"), value, value_errors.join(";")));
        }
        taint_effect(effect, &path.child("effect"), errs);
        if seen.contains(&(key, effect)) {
            errs.push(FieldError::duplicate(&path, taint.clone()));
        }
        seen.push((key, effect));
    }
}

/// `validateTaintEffect`.
pub(super) fn taint_effect(effect: &str, path: &Path, errs: &mut Errors) {
    const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
    match effect {
        "" => errs.push(FieldError::required(path, "")),
        known if EFFECTS.contains(&known) => {}
        other => errs.push(FieldError::not_supported(path, other, EFFECTS)),
    }
}

fn resources(node: &Value, errs: &mut Errors) {
    for list in ["capacity", "allocatable"] {
        for (name, value) in map(child(node, "status"), list).into_iter().flatten() {
            resource_quantity(name, value, &Path::new("status").child(list).child(name), errs);
        }
    }
}

pub(super) fn update(new: &Value, old: &Value, errs: &mut Errors) {
    taints(new, errs);
    resources(new, errs);
    let addresses = items(child(new, "status"), "addresses");
    for (i, address) in addresses.iter().enumerate() {
        if addresses[..i].contains(address) {
            errs.push(FieldError::duplicate(Path::new("status").child("addresses").index(i), address.clone()));
        }
    }
    let (new, old) = (child(new, "spec"), child(old, "spec"));
    let keeps = |key: &str, set: bool| !set || child(new, key) == child(old, key);
    if !keeps("podCIDRs", !items(old, "podCIDRs").is_empty()) {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errs.push(FieldError::forbidden("spec.podCIDRs", detail));
    }
    if !keeps("providerID", !text(old, "providerID").is_empty()) {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errs.push(FieldError::forbidden("spec.providerID", detail));
    }
}
