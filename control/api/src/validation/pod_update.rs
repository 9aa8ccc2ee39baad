//! Changes of a Pod: almost all of its spec is fixed.

use serde_json::{Value, json};

use super::read::{Errors, child, int, items, semantically_equal, text};
use super::scheduling::tolerations;
use super::{content, pod, push_messages};
use crate::field::{FieldError, Path};

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// `ValidatePodUpdate`, metadata aside.
pub(super) fn update(new: &Value, old: &Value, errs: &mut Errors) {
    let (new, old) = (child(new, "spec"), child(old, "spec"));
    let path = Path::new("spec");
    pod::pod_spec(new, &path, true, errs);
    for list in ["containers", "initContainers"] {
        let (now, before) = (items(new, list), items(old, list));
        if now.len() != before.len() {
            errs.push(FieldError::forbidden(path.child(list), "pod updates may not add or remove containers"));
            return;
        }
        for (i, c) in now.iter().enumerate() {
            let image = text(c, "image");
            if image.trim() != image {
                let at = path.child(list).index(i).child("image");
                errs.push(FieldError::invalid(at, image, "must not have leading or trailing whitespace"));
            }
        }
    }
    if !deadline(new, old, &path.child("activeDeadlineSeconds"), errs) {
        return;
    }
    added_tolerations(new, old, &path.child("tolerations"), errs);
    removed_gates(new, old, &path.child("schedulingGates"), errs);
    let munged = munge(new, old);
    if !semantically_equal(&munged, old) {
        let changed = changed_fields(&munged, old);
        errs.push(FieldError::forbidden(&path, format!("{UPDATABLE}\n{changed}")));
    }
}

/// Whether to go on.
fn deadline(new: &Value, old: &Value, path: &Path, errs: &mut Errors) -> bool {
    let key = "activeDeadlineSeconds";
    match (int(new, key), int(old, key)) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errs.push(FieldError::invalid(path, seconds, content::range_error(0, i64::from(i32::MAX))));
            false
        }
        (Some(seconds), Some(before)) if before < seconds => {
            errs.push(FieldError::invalid(path, seconds, "must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errs.push(FieldError::invalid(path, Value::Null, detail));
            true
        }
        _ => true,
    }
}

fn added_tolerations(new: &Value, old: &Value, path: &Path, errs: &mut Errors) {
    let without_seconds = |t: &Value| {
        let mut t = t.clone();
        if let Some(t) = t.as_object_mut() {
            t.shift_remove("tolerationSeconds");
        }
        t
    };
    let now: Vec<Value> = items(new, "tolerations").iter().map(without_seconds).collect();
    if items(old, "tolerations").iter().any(|t| !now.contains(&without_seconds(t))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errs.push(FieldError::forbidden(path, detail));
        return;
    }
    if !semantically_equal(child(new, "tolerations"), child(old, "tolerations")) {
        tolerations(items(new, "tolerations"), path, errs);
    }
}

fn removed_gates(new: &Value, old: &Value, path: &Path, errs: &mut Errors) {
    for (i, gate) in items(new, "schedulingGates").iter().enumerate() {
        if !items(old, "schedulingGates").contains(gate) {
            let name = text(gate, "name");
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errs.push(FieldError::forbidden(path.index(i).child("name"), detail));
        }
    }
}

/// The new spec with everything that may change put back to what it was.
fn munge(new: &Value, old: &Value) -> Value {
    let mut munged = new.clone();
    for list in ["containers", "initContainers"] {
        let containers = munged.get_mut(list).and_then(Value::as_array_mut);
        for (c, before) in containers.into_iter().flatten().zip(items(old, list)) {
            if let Some(image) = before.get("image") {
                c["image"] = image.clone();
            }
        }
    }
    let mut kept = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    let grace = |spec| int(spec, "terminationGracePeriodSeconds");
    if grace(old).is_some_and(|g| g < 0) && grace(new) == Some(1) {
        kept.push("terminationGracePeriodSeconds");
    }
    if !items(old, "schedulingGates").is_empty() {
        // A gated Pod may be narrowed to fewer nodes.
        let added_only = super::read::map(old, "nodeSelector")
            .into_iter()
            .flatten()
            .all(|(key, value)| child(new, "nodeSelector").get(key) == Some(value));
        if added_only {
            kept.push("nodeSelector");
        }
    }
    if let Some(spec) = munged.as_object_mut() {
        for key in kept {
            match old.get(key) {
                Some(value) => spec.insert(key.to_owned(), value.clone()),
                None => spec.shift_remove(key),
            };
        }
    }
    munged
}

/// The changed top-level fields, one line each, old and new.
fn changed_fields(new: &Value, old: &Value) -> String {
    let keys = |v: &Value| v.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut all = keys(old);
    all.extend(keys(new));
    all.sort_unstable();
    all.dedup();
    let lines: Vec<String> = all
        .iter()
        .filter(|k| {
            let wrap = |v: &Value| json!({ (*k).as_str(): child(v, k) });
            !semantically_equal(&wrap(new), &wrap(old))
        })
        .map(|k| format!("-  {k}: {}\n+  {k}: {}", child(old, k), child(new, k)))
        .collect();
    lines.join("\n")
}

/// `ValidatePodEphemeralContainersUpdate`: containers may only be added.
#[must_use]
pub fn ephemeral_containers_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errs = Vec::new();
    super::object_meta_update(new, old, &mut errs);
    let (new, old) = (child(new, "spec"), child(old, "spec"));
    let path = Path::new("spec").child("ephemeralContainers");
    pod::pod_spec(new, &Path::new("spec"), true, &mut errs);
    for before in items(old, "ephemeralContainers") {
        let name = text(before, "name");
        match items(new, "ephemeralContainers").iter().position(|c| text(c, "name") == name) {
            None => {
                let detail =
                    format!("existing ephemeral containers {} may not be removed\n", crate::field::quote(name));
                errs.push(FieldError::forbidden(&path, detail));
            }
            Some(i) if !semantically_equal(&items(new, "ephemeralContainers")[i], before) => {
                let detail =
                    format!("existing ephemeral containers {} may not be changed\n", crate::field::quote(name));
                errs.push(FieldError::forbidden(&path, detail));
            }
            Some(_) => {}
        }
    }
    errs
}

/// `ValidatePodStatusUpdate`, metadata aside.
pub(super) fn status_update(new: &Value, old: &Value, errs: &mut Errors) {
    let path = Path::new("status");
    if text(child(new, "spec"), "nodeName") != text(child(old, "spec"), "nodeName") {
        errs.push(FieldError::forbidden(path.child("nodeName"), "may not be changed directly"));
    }
    let spec = child(old, "spec");
    let (new, old) = (child(new, "status"), child(old, "status"));
    let nominated = text(new, "nominatedNodeName");
    if !nominated.is_empty() && nominated != text(old, "nominatedNodeName") {
        push_messages(errs, &path.child("nominatedNodeName"), nominated, content::dns1123_subdomain(nominated));
    }
    let (now, before) = (text(new, "qosClass"), text(old, "qosClass"));
    if !before.is_empty() && now != before {
        errs.push(FieldError::invalid(path.child("qosClass"), now, super::IMMUTABLE));
    }
    if text(spec, "restartPolicy") != "Never" {
        return;
    }
    // A container that ended and must not restart may not run again.
    for (i, status) in items(new, "containerStatuses").iter().enumerate() {
        let same = |s: &&Value| text(s, "name") == text(status, "name");
        let ended = |s: &Value| child(s, "state").get("terminated").is_some_and(|t| !t.is_null());
        let was_ended = items(old, "containerStatuses").iter().find(same).is_some_and(ended);
        let own_policy =
            items(spec, "containers").iter().find(same).is_some_and(|c| !text(c, "restartPolicy").is_empty());
        if was_ended && !ended(status) && !own_policy {
            let at = path.child("containerStatuses").index(i).child("state");
            errs.push(FieldError::forbidden(at, "may not be transitioned to non-terminated state"));
        }
    }
}
