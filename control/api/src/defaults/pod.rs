//! Pods and pod templates.

use serde_json::Value;

use super::{
    Object, canonical_quantity, child, child_or_new, default_nonzero, default_to, each, is_unset, is_zero,
    resource_list, resource_requirements, text,
};
use crate::resources;

/// The pull policy that upstream gives an image without one: `Always` for the tag `latest` or none.
#[must_use]
pub fn image_pull_policy(image: &str) -> &'static str {
    if image.is_empty() || image.contains('@') {
        // Upstream can't parse an empty name and finds no tag beside a digest alone.
        let tag_before_digest = image.split('@').next().and_then(tag_of);
        return if tag_before_digest == Some("latest") { "Always" } else { "IfNotPresent" };
    }
    match tag_of(image) {
        None | Some("latest") => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn tag_of(image: &str) -> Option<&str> {
    let last = image.rsplit('/').next()?;
    last.split_once(':').map(|(_, tag)| tag)
}

/// A whole Pod: `SetObjectDefaults_Pod`.
pub(super) fn pod(root: &mut Object) {
    let Some(spec) = child(root, "spec") else {
        return;
    };
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            resource_requirements(container, "resources");
            if let Some(resources) = child(container, "resources")
                && !is_unset(resources, "limits")
            {
                super::merge_missing(resources, "requests", "limits");
            }
        }
    }
    pod_level_resources(spec);
    default_to(spec, "enableServiceLinks", || true.into());
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        host_network_ports(spec);
    }
    pod_spec(spec);
}

fn host_network_ports(spec: &mut Object) {
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            for port in each(container, "ports") {
                if is_zero(port, "hostPort")
                    && let Some(number) = port.get("containerPort").cloned()
                {
                    port.insert("hostPort".to_owned(), number);
                }
            }
        }
    }
}

/// `defaultHugePagePodLimits` and `defaultPodRequests` (`PodLevelResources`).
fn pod_level_resources(spec: &mut Object) {
    resource_requirements(spec, "resources");
    let has = |key: &str| {
        let list = spec.get("resources").and_then(|r| r.get(key)).and_then(Value::as_object);
        list.is_some_and(|l| !l.is_empty())
    };
    let (has_limits, has_requests) = (has("limits"), has("requests"));
    if !has_limits && !has_requests {
        return;
    }
    let whole = Value::Object(spec.clone());
    let limits = resources::aggregate_container_limits(&whole);
    let requests = resources::aggregate_container_requests(&whole);
    let Some(own) = child(spec, "resources") else {
        return;
    };
    for (name, quantity) in limits {
        let requested = own.get("requests").is_some_and(|r| r.get(&name).is_some());
        if name.starts_with("hugepages-") && !requested {
            insert_missing(own, "limits", &name, || quantity.to_string().into());
        }
    }
    let limits = own.get("limits").and_then(Value::as_object).cloned().unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    for (name, quantity) in requests {
        if matches!(name.as_str(), "cpu" | "memory") {
            insert_missing(own, "requests", &name, || quantity.to_string().into());
        }
    }
    for (name, value) in limits {
        if resources::is_pod_level_resource(&name) {
            insert_missing(own, "requests", &name, || value.clone());
        }
    }
}

fn insert_missing(resources: &mut Object, list: &str, name: &str, value: impl FnOnce() -> Value) {
    if let Some(list) = child_or_new(resources, list)
        && !list.contains_key(name)
    {
        list.insert(name.to_owned(), value());
    }
}

/// The defaults of a `PodSpec`, alone or in a template.
pub fn pod_spec(spec: &mut Object) {
    default_nonzero(spec, "dnsPolicy", "ClusterFirst");
    default_nonzero(spec, "restartPolicy", "Always");
    default_to(spec, "securityContext", || Value::Object(Object::new()));
    default_to(spec, "terminationGracePeriodSeconds", || 30.into());
    default_nonzero(spec, "schedulerName", "default-scheduler");
    // The deprecated twin of serviceAccountName is kept equal by upstream's conversion.
    let account = match (text(spec, "serviceAccountName"), text(spec, "serviceAccount")) {
        ("", old) => old.to_owned(),
        (new, _) => new.to_owned(),
    };
    if !account.is_empty() {
        spec.insert("serviceAccountName".to_owned(), account.clone().into());
        spec.insert("serviceAccount".to_owned(), account.into());
    }
    for v in each(spec, "volumes") {
        volume(v);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for c in each(spec, list) {
            container(c);
        }
    }
    resource_list(spec, "overhead");
    resource_requirements(spec, "resources");
}

fn container(c: &mut Object) {
    if is_zero(c, "imagePullPolicy") {
        let policy = image_pull_policy(text(c, "image"));
        c.insert("imagePullPolicy".to_owned(), policy.into());
    }
    default_nonzero(c, "terminationMessagePath", "/dev/termination-log");
    default_nonzero(c, "terminationMessagePolicy", "File");
    // Not a pointer upstream, so it is always there.
    default_to(c, "resources", || Value::Object(Object::new()));
    resource_requirements(c, "resources");
    for port in each(c, "ports") {
        default_nonzero(port, "protocol", "TCP");
    }
    for env in each(c, "env") {
        if let Some(source) = child(env, "valueFrom") {
            if let Some(field) = child(source, "fieldRef") {
                default_nonzero(field, "apiVersion", "v1");
            }
            divisor(source);
            if let Some(file) = child(source, "fileKeyRef") {
                default_to(file, "optional", || false.into());
            }
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = child(c, key) {
            probe(p);
        }
    }
    if let Some(lifecycle) = child(c, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(handler) = child(lifecycle, key) {
                http_get(handler);
            }
        }
    }
    if let Some(security) = child(c, "securityContext")
        && !is_unset(security, "procMount")
    {
        default_nonzero(security, "procMount", "Default");
    }
}

fn divisor(source: &mut Object) {
    if let Some(resource) = child(source, "resourceFieldRef") {
        default_to(resource, "divisor", || "0".into());
        if let Some(value) = resource.get_mut("divisor") {
            canonical_quantity(value, false);
        }
    }
}

fn probe(p: &mut Object) {
    default_nonzero(p, "timeoutSeconds", 1);
    default_nonzero(p, "periodSeconds", 10);
    default_nonzero(p, "successThreshold", 1);
    default_nonzero(p, "failureThreshold", 3);
    http_get(p);
    if let Some(grpc) = child(p, "grpc") {
        default_to(grpc, "service", || "".into());
    }
}

fn http_get(handler: &mut Object) {
    if let Some(http) = child(handler, "httpGet") {
        default_nonzero(http, "path", "/");
        default_nonzero(http, "scheme", "HTTP");
    }
}

/// Defaults of one volume.
fn volume(v: &mut Object) {
    let has_source = v.iter().any(|(key, value)| key != "name" && !value.is_null());
    if !has_source {
        v.insert("emptyDir".to_owned(), Value::Object(Object::new()));
    }
    if let Some(image) = child(v, "image")
        && is_zero(image, "pullPolicy")
    {
        let policy = image_pull_policy(text(image, "reference"));
        image.insert("pullPolicy".to_owned(), policy.into());
    }
    host_path(v);
    for key in ["secret", "configMap"] {
        if let Some(source) = child(v, key) {
            default_to(source, "defaultMode", || 0o644.into());
        }
    }
    if let Some(downward) = child(v, "downwardAPI") {
        default_to(downward, "defaultMode", || 0o644.into());
        downward_items(downward);
    }
    if let Some(projected) = child(v, "projected") {
        default_to(projected, "defaultMode", || 0o644.into());
        for source in each(projected, "sources") {
            if let Some(downward) = child(source, "downwardAPI") {
                downward_items(downward);
            }
            if let Some(token) = child(source, "serviceAccountToken") {
                default_to(token, "expirationSeconds", || 3600.into());
            }
        }
    }
    if let Some(empty) = child(v, "emptyDir")
        && let Some(limit) = empty.get_mut("sizeLimit")
    {
        canonical_quantity(limit, false);
    }
    block_devices(v);
    if let Some(template) = child(v, "ephemeral").and_then(|e| child(e, "volumeClaimTemplate"))
        && let Some(spec) = child(template, "spec")
    {
        claim_spec(spec);
    }
}

fn downward_items(downward: &mut Object) {
    for item in each(downward, "items") {
        if let Some(field) = child(item, "fieldRef") {
            default_nonzero(field, "apiVersion", "v1");
        }
        divisor(item);
    }
}

pub(super) fn host_path(v: &mut Object) {
    if let Some(path) = child(v, "hostPath") {
        default_to(path, "type", || "".into());
    }
}

/// Drivers whose in-tree fields still carry defaults.
pub(super) fn block_devices(v: &mut Object) {
    if let Some(iscsi) = child(v, "iscsi") {
        default_nonzero(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = child(v, "rbd") {
        default_nonzero(rbd, "pool", "rbd");
        default_nonzero(rbd, "user", "admin");
        default_nonzero(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(azure) = child(v, "azureDisk") {
        default_to(azure, "cachingMode", || "ReadWrite".into());
        default_to(azure, "fsType", || "ext4".into());
        default_to(azure, "readOnly", || false.into());
        default_to(azure, "kind", || "Shared".into());
    }
    if let Some(scale_io) = child(v, "scaleIO") {
        default_nonzero(scale_io, "storageMode", "ThinProvisioned");
        default_nonzero(scale_io, "fsType", "xfs");
    }
}

/// The spec of a claim: alone, in a template, or in an ephemeral volume.
pub(super) fn claim_spec(spec: &mut Object) {
    default_to(spec, "volumeMode", || "Filesystem".into());
    resource_requirements(spec, "resources");
}

/// A `PodTemplateSpec` under `key`.
pub(super) fn template(object: &mut Object, key: &str) {
    if let Some(template) = child(object, key)
        && let Some(spec) = child(template, "spec")
    {
        pod_spec(spec);
    }
}
