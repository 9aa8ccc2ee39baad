//! Spec and status are written by different clients: neither may touch the other's part.

use orlop_api::registry::ResourceInfo;
use serde_json::{Value, json};

use super::{is_namespace, is_pod, pods};
use crate::meta;

/// Kinds whose creator brings the status along: a kubelet registers its node with it.
const STATUS_ON_CREATE: &[(&str, &str)] = &[("", "nodes"), ("", "componentstatuses")];

/// Groups whose status writes may not touch labels.
const LABELS_ARE_SPEC: &[&str] = &["apps", "batch"];

pub(super) fn on_create(row: &ResourceInfo, object: &mut Value) {
    if !row.has_status() || STATUS_ON_CREATE.contains(&(row.group, row.plural)) {
        return;
    }
    let status = match (row.group, row.plural) {
        ("", "pods") => json!({"phase": "Pending", "qosClass": orlop_api::resources::qos_class(&object["spec"])}),
        ("", "namespaces") => json!({"phase": "Active"}),
        ("", "persistentvolumes" | "persistentvolumeclaims") => json!({"phase": "Pending"}),
        ("", "services") => json!({"loadBalancer": {}}),
        ("networking.k8s.io", "ingresses") => json!({"loadBalancer": {}}),
        ("apps", "replicasets") | ("", "replicationcontrollers") => json!({"replicas": 0}),
        ("apps", "statefulsets") => json!({"replicas": 0, "availableReplicas": 0}),
        ("apps", "daemonsets") => json!({
            "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0
        }),
        ("policy", "poddisruptionbudgets") => json!({
            "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0
        }),
        ("storage.k8s.io", "volumeattachments") => json!({"attached": false}),
        ("autoscaling", _) => json!({"currentMetrics": null, "desiredReplicas": 0}),
        _ => json!({}),
    };
    if let Some(map) = object.as_object_mut() {
        map.insert("status".into(), status);
    }
}

pub(super) fn on_update(row: &ResourceInfo, new: &mut Value, old: &Value) {
    if row.has_status() {
        meta::carry_top(new, old, "status");
    }
}

pub(super) fn on_status_update(row: &ResourceInfo, subresource: &str, new: &mut Value, old: &Value) {
    let mut out = old.clone();
    meta::carry_top(&mut out, new, "status");
    if let Some(metadata) = new.get("metadata") {
        let mut metadata = metadata.clone();
        if let Some(map) = metadata.as_object_mut() {
            for field in ["ownerReferences", "finalizers"] {
                match old.get("metadata").and_then(|m| m.get(field)) {
                    Some(value) => map.insert(field.to_owned(), value.clone()),
                    None => map.shift_remove(field),
                };
            }
            if LABELS_ARE_SPEC.contains(&row.group) {
                match old.get("metadata").and_then(|m| m.get("labels")) {
                    Some(value) => map.insert("labels".to_owned(), value.clone()),
                    None => map.shift_remove("labels"),
                };
            }
        }
        out["metadata"] = metadata;
    }
    if row.plural == "certificatesigningrequests" {
        certificate_status(subresource, &mut out, old);
    }
    if is_pod(row) {
        pods::prepare_status(&mut out, old);
    }
    if is_namespace(row) && !meta::is_deleting(&out) {
        out["status"]["phase"] = json!("Active");
    }
    *new = out;
}

/// `approval` writes the Approved and Denied conditions and nothing else; `status` writes all the rest.
fn certificate_status(subresource: &str, new: &mut Value, old: &Value) {
    let conditions = |object: &Value, verdicts: bool| -> Vec<Value> {
        object
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|c| matches!(c["type"].as_str(), Some("Approved" | "Denied")) == verdicts)
            .cloned()
            .collect()
    };
    let (verdicts, others) = if subresource == "approval" {
        let wanted = (conditions(new, true), conditions(old, false));
        meta::carry_top(new, old, "status");
        wanted
    } else {
        (conditions(old, true), conditions(new, false))
    };
    let all: Vec<Value> = verdicts.into_iter().chain(others).collect();
    let status = meta::child_mut(new, "status");
    if all.is_empty() {
        status.shift_remove("conditions");
    } else {
        status.insert("conditions".into(), Value::Array(all));
    }
}
