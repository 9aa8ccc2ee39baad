//! What is particular to Pods.

use serde_json::{Value, json};

use crate::meta;

pub(super) fn set_qos_class(pod: &mut Value) {
    if pod.pointer("/status/qosClass").and_then(Value::as_str).is_none_or(str::is_empty) {
        let class = orlop_api::resources::qos_class(&pod["spec"]);
        meta::child_mut(pod, "status").insert("qosClass".into(), json!(class));
    }
}

/// The class was decided at creation; a status writer that leaves it out doesn't take it away.
pub(super) fn prepare_status(pod: &mut Value, old: &Value) {
    let status = meta::child_mut(pod, "status");
    if let Some(class) = old.pointer("/status/qosClass") {
        status.insert("qosClass".into(), class.clone());
    }
    // Lists merged by key leave nulls nowhere; the phase may not become empty.
    if status.get("phase").and_then(Value::as_str).is_none_or(str::is_empty)
        && let Some(phase) = old.pointer("/status/phase")
    {
        status.insert("phase".into(), phase.clone());
    }
}

/// `pods/ephemeralcontainers` adds ephemeral containers and nothing else.
pub(super) fn only_ephemeral_containers(new: &mut Value, old: &Value) {
    let containers = new.pointer("/spec/ephemeralContainers").cloned();
    let mut out = old.clone();
    if let Some(containers) = containers {
        meta::child_mut(&mut out, "spec").insert("ephemeralContainers".into(), containers);
    }
    *new = out;
}

/// `pods/resize` changes resources and resize policies of containers and nothing else.
pub(super) fn only_resize(new: &mut Value, old: &Value) {
    let mut out = old.clone();
    for kind in ["containers", "initContainers"] {
        let wanted = new.pointer(&format!("/spec/{kind}")).and_then(Value::as_array).cloned().unwrap_or_default();
        let Some(containers) = out.pointer_mut(&format!("/spec/{kind}")).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            let Some(from) = wanted.iter().find(|c| c["name"] == container["name"]) else { continue };
            for field in ["resources", "resizePolicy"] {
                meta::carry_top(container, from, field);
            }
        }
    }
    if let Some(resources) = new.pointer("/spec/resources").cloned() {
        meta::child_mut(&mut out, "spec").insert("resources".into(), resources);
    }
    *new = out;
}
