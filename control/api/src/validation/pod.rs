//! Pods, pod templates and bindings.

use serde_json::Value;

use super::read::{Errors, child, flag, items, one_of, resource_quantity, set, text};
use super::scheduling::{affinity, gates, spread_constraints, tolerations};
use super::volume::{self, Volumes};
use super::{container, content, label_map, meta, push_messages};
use crate::field::{FieldError, Path};

/// A Pod on creation: its spec, and what only templates and running Pods may have.
pub(super) fn create(pod: &Value, errs: &mut Errors) {
    pod_spec(child(pod, "spec"), &Path::new("spec"), true, errs);
    let path = Path::new("spec");
    if !items(child(pod, "spec"), "ephemeralContainers").is_empty() {
        errs.push(FieldError::forbidden(path.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !items(child(pod, "spec"), "schedulingGates").is_empty() && !text(child(pod, "spec"), "nodeName").is_empty() {
        errs.push(FieldError::forbidden(
            path.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        ));
    }
}

/// `ValidatePodTemplateSpec`.
pub fn pod_template(template: &Value, path: &Path, errs: &mut Errors) {
    let meta = child(template, "metadata");
    label_map(meta, "labels", &path.child("metadata").child("labels"), errs);
    meta::annotations(meta, &path.child("annotations"), errs);
    let spec = child(template, "spec");
    pod_spec(spec, &path.child("spec"), false, errs);
    if !items(spec, "ephemeralContainers").is_empty() {
        errs.push(FieldError::forbidden(
            path.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
}

/// `ValidatePodSpec`; `is_pod` is false in a template, where host ports are not defaulted.
pub fn pod_spec(spec: &Value, path: &Path, is_pod: bool, errs: &mut Errors) {
    if set(spec, "terminationGracePeriodSeconds").is_none() {
        errs.push(FieldError::required(path.child("terminationGracePeriodSeconds"), ""));
    }
    let volumes = volume::all(items(spec, "volumes"), &path.child("volumes"), errs);
    containers(spec, &volumes, path, errs);
    if flag(spec, "hostNetwork") {
        host_network_ports(spec, is_pod, path, errs);
    }
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errs);
    one_of(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path, errs);
    if text(spec, "dnsPolicy") == "None" && items(child(spec, "dnsConfig"), "nameservers").is_empty() {
        errs.push(FieldError::required(
            path.child("dnsConfig").child("nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        ));
    }
    label_map(spec, "nodeSelector", &path.child("nodeSelector"), errs);
    security_context(spec, path, errs);
    for (i, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            errs.push(FieldError::required(path.child("imagePullSecrets").index(i).child("name"), ""));
        }
    }
    affinity(child(spec, "affinity"), &path.child("affinity"), errs);
    gates(spec, path, errs);
    spread_constraints(spec, &path.child("topologySpreadConstraints"), errs);
    names(spec, path, errs);
    if let Some(seconds) = child(spec, "activeDeadlineSeconds").as_i64() {
        for message in content::in_range(seconds, 1, i64::from(i32::MAX)) {
            errs.push(FieldError::invalid(path.child("activeDeadlineSeconds"), seconds, message));
        }
    }
    tolerations(items(spec, "tolerations"), &path.child("tolerations"), errs);
    for (i, alias) in items(spec, "hostAliases").iter().enumerate() {
        let path = path.child("hostAliases").index(i);
        push_messages(errs, &path.child("ip"), text(alias, "ip"), content::ip_address(text(alias, "ip")));
        for (j, host) in items(alias, "hostnames").iter().filter_map(Value::as_str).enumerate() {
            push_messages(errs, &path.child("hostnames").index(j), host, content::dns1123_subdomain(host));
        }
    }
    for (name, value) in super::read::map(spec, "overhead").into_iter().flatten() {
        resource_quantity(name, value, &path.child("overhead").key(name), errs);
    }
    if let Some(resources) = set(spec, "resources") {
        container::resources(resources, &path.child("resources"), true, errs);
    }
}

fn containers(spec: &Value, volumes: &Volumes<'_>, path: &Path, errs: &mut Errors) {
    let grace_s = child(spec, "terminationGracePeriodSeconds").as_i64();
    let main = items(spec, "containers");
    let main_path = path.child("containers");
    if main.is_empty() {
        errs.push(FieldError::required(&main_path, ""));
    }
    let mut names: Vec<&str> = Vec::new();
    for (i, c) in main.iter().enumerate() {
        container::common(c, volumes, &main_path.index(i), errs);
        container::unique_name(c, &mut names, &main_path.index(i), errs);
        container::hooks_and_probes(c, grace_s, &main_path.index(i), errs);
        container::restart_policy(c, &main_path.index(i), errs);
    }
    container::host_port_conflicts(main, &main_path, errs);
    let init_path = path.child("initContainers");
    for (i, c) in items(spec, "initContainers").iter().enumerate() {
        let at = init_path.index(i);
        container::common(c, volumes, &at, errs);
        container::restart_policy(c, &at, errs);
        container::unique_name(c, &mut names, &at, errs);
        container::host_port_conflicts(std::slice::from_ref(c), &init_path, errs);
        if text(c, "restartPolicy") == "Always" {
            container::hooks_and_probes(c, grace_s, &at, errs);
            continue;
        }
        for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if set(c, key).is_some() {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errs.push(FieldError::forbidden(at.child(key), detail));
            }
        }
    }
    let ephemeral_path = path.child("ephemeralContainers");
    for (i, c) in items(spec, "ephemeralContainers").iter().enumerate() {
        let at = ephemeral_path.index(i);
        container::common(c, volumes, &at, errs);
        container::unique_name(c, &mut names, &at, errs);
        for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "ports"] {
            if set(c, key).is_some_and(|v| v.as_array().is_none_or(|a| !a.is_empty())) {
                errs.push(FieldError::forbidden(at.child(key), "cannot be set for an Ephemeral Container"));
            }
        }
    }
}

fn host_network_ports(spec: &Value, is_pod: bool, path: &Path, errs: &mut Errors) {
    for (i, c) in items(spec, "containers").iter().enumerate() {
        for (j, port) in items(c, "ports").iter().enumerate() {
            let number = |key| child(port, key).as_i64().unwrap_or_default();
            let (host, inner) = (number("hostPort"), number("containerPort"));
            if (is_pod || host != 0) && host != inner {
                let at = path.child("containers").index(i).child("ports").index(j).child("hostPort");
                errs.push(FieldError::invalid(at, host, "must match `containerPort` when `hostNetwork` is true"));
            }
        }
    }
}

fn names(spec: &Value, path: &Path, errs: &mut Errors) {
    let mut check = |key: &str, rule: fn(&str) -> Vec<String>| {
        let value = text(spec, key);
        if !value.is_empty() {
            push_messages(errs, &path.child(key), value, rule(value));
        }
    };
    check("serviceAccountName", content::dns1123_subdomain);
    check("nodeName", content::dns1123_subdomain);
    check("hostname", content::dns1123_label);
    check("subdomain", content::dns1123_label);
    check("priorityClassName", content::dns1123_subdomain);
    check("runtimeClassName", content::dns1123_subdomain);
    if set(spec, "preemptionPolicy").is_some() {
        one_of(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, errs);
    }
}

fn security_context(spec: &Value, path: &Path, errs: &mut Errors) {
    let context = child(spec, "securityContext");
    let at = path.child("securityContext");
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(id) = child(context, key).as_i64() {
            for message in content::in_range(id, 0, i64::from(i32::MAX)) {
                errs.push(FieldError::invalid(at.child(key), id, message));
            }
        }
    }
    for (i, id) in items(context, "supplementalGroups").iter().filter_map(Value::as_i64).enumerate() {
        for message in content::in_range(id, 0, i64::from(i32::MAX)) {
            errs.push(FieldError::invalid(at.child("supplementalGroups").index(i), id, message));
        }
    }
    if flag(spec, "hostPID") && flag(spec, "shareProcessNamespace") {
        errs.push(FieldError::invalid(
            path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    let sysctls = items(context, "sysctls");
    for (i, sysctl) in sysctls.iter().enumerate() {
        let name = text(sysctl, "name");
        let at = at.child("sysctls").index(i).child("name");
        if name.is_empty() {
            errs.push(FieldError::required(at, ""));
        } else if sysctls[..i].iter().any(|s| text(s, "name") == name) {
            errs.push(FieldError::duplicate(at, name));
        }
    }
}

/// `ValidatePodBinding`: the body of `pods/binding`.
#[must_use]
pub fn binding(binding: &Value) -> Vec<FieldError> {
    let target = child(binding, "target");
    let path = Path::new("target");
    let mut errs = Vec::new();
    let kind = text(target, "kind");
    if !kind.is_empty() && kind != "Node" {
        errs.push(FieldError::not_supported(path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if text(target, "name").is_empty() {
        errs.push(FieldError::required(path.child("name"), ""));
    }
    errs
}
