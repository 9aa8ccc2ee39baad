//! The core group, Pods aside.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{
    Object, child, child_or_new, default_nonzero, default_to, each, has_items, is_unset, is_zero, merge_missing, pod,
    resource_list, text,
};

pub(super) fn apply(kind: &str, root: &mut Object) {
    match kind {
        "Pod" => pod::pod(root),
        "PodTemplate" => pod::template(root, "template"),
        "Service" => service(root),
        "ReplicationController" => replication_controller(root),
        "Secret" => {
            encode_string_data(root);
            default_nonzero(root, "type", "Opaque");
        }
        "Namespace" => namespace(root),
        "Node" => node(root),
        "Endpoints" => {
            for subset in each(root, "subsets") {
                for port in each(subset, "ports") {
                    default_nonzero(port, "protocol", "TCP");
                }
            }
        }
        "PersistentVolume" => persistent_volume(root),
        "PersistentVolumeClaim" => persistent_volume_claim(root),
        "LimitRange" => {
            for item in child(root, "spec").into_iter().flat_map(|s| each(s, "limits")) {
                limit_range_item(item);
            }
        }
        "ResourceQuota" => {
            for (part, key) in [("spec", "hard"), ("status", "hard"), ("status", "used")] {
                if let Some(part) = child(root, part) {
                    resource_list(part, key);
                }
            }
        }
        _ => {}
    }
}

fn service(root: &mut Object) {
    let Some(spec) = child_or_new(root, "spec") else {
        return;
    };
    default_nonzero(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.shift_remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let timeout = spec.get("sessionAffinityConfig").and_then(|c| c.pointer("/clientIP/timeoutSeconds"));
            if matches!(timeout, None | Some(Value::Null)) {
                let config = json!({ "clientIP": { "timeoutSeconds": 10800 } });
                spec.insert("sessionAffinityConfig".to_owned(), config);
            }
        }
        _ => {}
    }
    default_nonzero(spec, "type", "ClusterIP");
    for port in each(spec, "ports") {
        default_nonzero(port, "protocol", "TCP");
        if is_zero(port, "targetPort")
            && let Some(number) = port.get("port").cloned()
        {
            port.insert("targetPort".to_owned(), number);
        }
    }
    let kind = text(spec, "type").to_owned();
    let external =
        matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && has_items(spec, "externalIPs"));
    if external {
        default_nonzero(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        default_to(spec, "internalTrafficPolicy", || "Cluster".into());
    }
    if kind == "LoadBalancer" {
        default_to(spec, "allocateLoadBalancerNodePorts", || true.into());
    }
    // Neither is a pointer upstream, so both are always there.
    let balancer = child_or_new(root, "status").and_then(|s| child_or_new(s, "loadBalancer"));
    if kind == "LoadBalancer" {
        for ingress in balancer.into_iter().flat_map(|b| each(b, "ingress")) {
            if !is_zero(ingress, "ip") {
                default_to(ingress, "ipMode", || "VIP".into());
            }
        }
    }
}

fn replication_controller(root: &mut Object) {
    let Some(spec) = child(root, "spec") else {
        return;
    };
    default_to(spec, "replicas", || 1.into());
    pod::template(spec, "template");
    let labels = spec.get("template").and_then(|t| t.pointer("/metadata/labels")).cloned();
    let Some(labels @ Value::Object(_)) = labels else {
        return;
    };
    if !has_items(spec, "selector") {
        spec.insert("selector".to_owned(), labels.clone());
    }
    if let Some(meta) = child_or_new(root, "metadata")
        && !has_items(meta, "labels")
    {
        meta.insert("labels".to_owned(), labels);
    }
}

fn namespace(root: &mut Object) {
    if let Some(meta) = child(root, "metadata") {
        let name = text(meta, "name").to_owned();
        if !name.is_empty()
            && let Some(labels) = child_or_new(meta, "labels")
        {
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
        }
    }
    if let Some(status) = child_or_new(root, "status") {
        default_nonzero(status, "phase", "Active");
    }
}

fn node(root: &mut Object) {
    if let Some(status) = child(root, "status") {
        resource_list(status, "capacity");
        if is_unset(status, "allocatable")
            && let Some(capacity) = status.get("capacity").filter(|c| !c.is_null()).cloned()
        {
            status.insert("allocatable".to_owned(), capacity);
        }
        resource_list(status, "allocatable");
    }
}

fn persistent_volume(root: &mut Object) {
    if let Some(status) = child_or_new(root, "status") {
        default_nonzero(status, "phase", "Pending");
    }
    if let Some(spec) = child(root, "spec") {
        default_nonzero(spec, "persistentVolumeReclaimPolicy", "Retain");
        default_to(spec, "volumeMode", || "Filesystem".into());
        resource_list(spec, "capacity");
        pod::host_path(spec);
        pod::block_devices(spec);
    }
}

fn persistent_volume_claim(root: &mut Object) {
    if let Some(status) = child_or_new(root, "status") {
        default_nonzero(status, "phase", "Pending");
        resource_list(status, "capacity");
        resource_list(status, "allocatedResources");
    }
    if let Some(spec) = child(root, "spec") {
        pod::claim_spec(spec);
    }
}

fn limit_range_item(item: &mut Object) {
    for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        resource_list(item, key);
    }
    if text(item, "type") == "Container" {
        child_or_new(item, "default");
        child_or_new(item, "defaultRequest");
        merge_missing(item, "default", "max");
        merge_missing(item, "defaultRequest", "default");
        merge_missing(item, "defaultRequest", "min");
    }
}

/// `stringData` is for writing only: upstream's conversion moves it into `data`, over what stands there.
fn encode_string_data(root: &mut Object) {
    let Some(Value::Object(texts)) = root.shift_remove("stringData") else { return };
    let Some(data) = child_or_new(root, "data") else { return };
    for (key, text) in texts {
        if let Value::String(text) = text {
            data.insert(key, Value::String(STANDARD.encode(text)));
        }
    }
}
