//! One container: ports, environment, mounts, probes, resources.

use serde_json::Value;

use super::discovery::PROTOCOLS;
use super::read::{Errors, child, flag, int, items, map, nonnegative, one_of, resource_quantity, set, text};
use super::volume::{Volumes, descending_path};
use super::{content, push_messages};
use crate::field::{FieldError, Path};
use crate::resources::is_pod_level_resource;

/// `validateContainerCommon`.
pub(super) fn common(c: &Value, volumes: &Volumes<'_>, path: &Path, errs: &mut Errors) {
    let name = text(c, "name");
    if name.is_empty() {
        errs.push(FieldError::required(path.child("name"), ""));
    } else {
        push_messages(errs, &path.child("name"), name, content::dns1123_label(name));
    }
    if text(c, "image").is_empty() {
        errs.push(FieldError::required(path.child("image"), ""));
    }
    one_of(c, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errs);
    ports(c, &path.child("ports"), errs);
    environment(c, path, errs);
    mounts(c, volumes, path, errs);
    one_of(c, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errs);
    if let Some(own) = set(c, "resources") {
        resources(own, &path.child("resources"), false, errs);
    }
    security_context(child(c, "securityContext"), &path.child("securityContext"), errs);
}

pub(super) fn unique_name<'a>(c: &'a Value, names: &mut Vec<&'a str>, path: &Path, errs: &mut Errors) {
    let name = text(c, "name");
    if names.contains(&name) {
        errs.push(FieldError::duplicate(path.child("name"), name));
    } else if !name.is_empty() {
        names.push(name);
    }
}

/// Restart policy and rules of a single container (`ContainerRestartRules`).
pub(super) fn restart_policy(c: &Value, path: &Path, errs: &mut Errors) {
    let rules = !items(c, "restartPolicyRules").is_empty();
    if set(c, "restartPolicy").is_none() {
        if rules {
            let detail = "must specify restartPolicy when restart rules are used";
            errs.push(FieldError::required(path.child("restartPolicy"), detail));
        }
        return;
    }
    one_of(c, "restartPolicy", &["Always", "Never", "OnFailure"], path, errs);
}

fn ports(c: &Value, path: &Path, errs: &mut Errors) {
    let mut names: Vec<&str> = Vec::new();
    for (i, port) in items(c, "ports").iter().enumerate() {
        let path = path.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let messages = content::port_name(name);
            if messages.is_empty() && names.contains(&name) {
                errs.push(FieldError::duplicate(path.child("name"), name));
            }
            push_messages(errs, &path.child("name"), name, messages);
            names.push(name);
        }
        match int(port, "containerPort").unwrap_or_default() {
            0 => errs.push(FieldError::required(path.child("containerPort"), "")),
            number => port_number(number, &path.child("containerPort"), errs),
        }
        match int(port, "hostPort").unwrap_or_default() {
            0 => {}
            number => port_number(number, &path.child("hostPort"), errs),
        }
        one_of(port, "protocol", PROTOCOLS, &path, errs);
    }
}

fn port_number(number: i64, path: &Path, errs: &mut Errors) {
    errs.extend(content::port_number(number).into_iter().map(|m| FieldError::invalid(path, number, m)));
}

/// `ValidatePortNumOrName`.
pub(super) fn port_or_name(port: &Value, path: &Path, errs: &mut Errors) {
    match port {
        Value::String(name) => push_messages(errs, path, name, content::port_name(name)),
        other => port_number(other.as_i64().unwrap_or_default(), path, errs),
    }
}

/// Host ports taken twice over these containers.
pub(super) fn host_port_conflicts(containers: &[Value], path: &Path, errs: &mut Errors) {
    let mut taken: Vec<String> = Vec::new();
    for (i, c) in containers.iter().enumerate() {
        for (j, port) in items(c, "ports").iter().enumerate() {
            let number = int(port, "hostPort").unwrap_or_default();
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if taken.contains(&key) {
                let at = path.index(i).child("ports").index(j).child("hostPort");
                errs.push(FieldError::duplicate(at, key));
            } else {
                taken.push(key);
            }
        }
    }
}

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const SOURCES: &[&str] = &["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

fn environment(c: &Value, path: &Path, errs: &mut Errors) {
    for (i, variable) in items(c, "env").iter().enumerate() {
        let path = path.child("env").index(i);
        match text(variable, "name") {
            "" => errs.push(FieldError::required(path.child("name"), "")),
            name => push_messages(errs, &path.child("name"), name, content::env_var_name(name)),
        }
        if let Some(source) = set(variable, "valueFrom") {
            value_source(source, !text(variable, "value").is_empty(), &path.child("valueFrom"), errs);
        }
    }
    for (i, source) in items(c, "envFrom").iter().enumerate() {
        let path = path.child("envFrom").index(i);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            push_messages(errs, &path.child("prefix"), prefix, content::env_var_name(prefix));
        }
        let given: Vec<&str> = ["configMapRef", "secretRef"].into_iter().filter(|k| set(source, k).is_some()).collect();
        for key in &given {
            if text(child(source, key), "name").is_empty() {
                errs.push(FieldError::required(path.child(key).child("name"), ""));
            }
        }
        match given.len() {
            0 => errs.push(FieldError::invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errs.push(FieldError::invalid(&path, "", "may not have more than one field specified at a time")),
        }
    }
}

fn value_source(source: &Value, has_value: bool, path: &Path, errs: &mut Errors) {
    let given: Vec<&str> = SOURCES.iter().copied().filter(|k| set(source, k).is_some()).collect();
    for key in &given {
        let (from, path) = (child(source, key), path.child(key));
        match *key {
            "fieldRef" => field_reference(from, ENV_FIELDS, &path, errs),
            "resourceFieldRef" => {
                if text(from, "resource").is_empty() {
                    errs.push(FieldError::required(path.child("resource"), ""));
                }
            }
            "fileKeyRef" => {
                for field in ["key", "volumeName", "path"] {
                    if text(from, field).is_empty() {
                        errs.push(FieldError::required(path.child(field), ""));
                    }
                }
            }
            _ => {
                if text(from, "name").is_empty() {
                    errs.push(FieldError::required(path.child("name"), ""));
                }
                match text(from, "key") {
                    "" => errs.push(FieldError::required(path.child("key"), "")),
                    name => push_messages(errs, &path.child("key"), name, content::config_map_key(name)),
                }
            }
        }
    }
    if given.is_empty() {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errs.push(FieldError::invalid(path, "", detail));
    } else if has_value {
        errs.push(FieldError::invalid(path, "", "may not be specified when `value` is not empty"));
    } else if given.len() > 1 {
        errs.push(FieldError::invalid(path, "", "may not have more than one field specified at a time"));
    }
}

/// `validateObjectFieldSelector`; `metadata.labels['k']` and `metadata.annotations['k']` are allowed
/// beside `fields`.
pub(super) fn field_reference(from: &Value, fields: &[&str], path: &Path, errs: &mut Errors) {
    if text(from, "apiVersion").is_empty() {
        errs.push(FieldError::required(path.child("apiVersion"), ""));
    }
    let field = text(from, "fieldPath");
    if field.is_empty() {
        errs.push(FieldError::required(path.child("fieldPath"), ""));
        return;
    }
    let subscript = field.strip_suffix("']").and_then(|f| f.split_once("['"));
    match subscript {
        Some(("metadata.labels" | "metadata.annotations", key)) => {
            push_messages(errs, path, key, content::label_key(&key.to_lowercase()));
        }
        Some((other, _)) => errs.push(FieldError::invalid(path, other, "does not support subscript")),
        None if fields.contains(&field) => {}
        None => errs.push(FieldError::not_supported(path.child("fieldPath"), field, fields)),
    }
}

fn mounts(c: &Value, volumes: &Volumes<'_>, path: &Path, errs: &mut Errors) {
    let devices = items(c, "volumeDevices");
    let mounts = items(c, "volumeMounts");
    for (i, mount) in mounts.iter().enumerate() {
        let at = path.child("volumeMounts").index(i);
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errs.push(FieldError::required(at.child("name"), ""));
        }
        if !volumes.has(name) {
            errs.push(FieldError::not_found(at.child("name"), name));
        }
        if target.is_empty() {
            errs.push(FieldError::required(at.child("mountPath"), ""));
        }
        if mounts[..i].iter().any(|m| text(m, "mountPath") == target) {
            errs.push(FieldError::invalid(at.child("mountPath"), target, "must be unique"));
        }
        if devices.iter().any(|d| text(d, "name") == name) {
            errs.push(FieldError::invalid(at.child("name"), name, "must not already exist in volumeDevices"));
        }
        let (sub, sub_expr) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        descending_path(sub, &path.child("volumeMounts").child("subPath"), errs);
        descending_path(sub_expr, &path.child("volumeMounts").child("subPathExpr"), errs);
        if !sub.is_empty() && !sub_expr.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errs.push(FieldError::invalid(at.child("subPathExpr"), sub_expr, detail));
        }
        if let Some(mode) = set(mount, "mountPropagation").and_then(Value::as_str) {
            let at = path.child("volumeMounts").child("mountPropagation");
            let modes = ["Bidirectional", "HostToContainer", "None"];
            if !modes.contains(&mode) {
                errs.push(FieldError::not_supported(at, mode, &modes));
            } else if mode == "Bidirectional" && !flag(child(c, "securityContext"), "privileged") {
                let detail = "Bidirectional mount propagation is available only to privileged containers";
                errs.push(FieldError::forbidden(at, detail));
            }
        }
    }
    for (i, device) in devices.iter().enumerate() {
        let at = path.child("volumeDevices").index(i);
        let name = text(device, "name");
        if name.is_empty() {
            errs.push(FieldError::required(at.child("name"), ""));
        }
        if !volumes.has(name) {
            errs.push(FieldError::not_found(at.child("name"), name));
        } else if !volumes.is_claim(name) {
            let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errs.push(FieldError::invalid(at.child("name"), name, detail));
        }
        if text(device, "devicePath").is_empty() {
            errs.push(FieldError::required(at.child("devicePath"), ""));
        }
    }
}

/// Lifecycle handlers and probes.
pub(super) fn hooks_and_probes(c: &Value, grace_s: Option<i64>, path: &Path, errs: &mut Errors) {
    for key in ["postStart", "preStop"] {
        if let Some(hook) = set(child(c, "lifecycle"), key) {
            handler(
                hook,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                grace_s,
                &path.child("lifecycle").child(key),
                errs,
            );
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = set(c, key) else {
            continue;
        };
        let path = path.child(key);
        handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], grace_s, &path, errs);
        let numbers =
            ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
        nonnegative(probe, &numbers, &path, errs);
        let grace = child(probe, "terminationGracePeriodSeconds").as_i64();
        if let Some(seconds) = grace.filter(|s| *s <= 0) {
            let at = path.child("terminationGracePeriodSeconds");
            errs.push(FieldError::invalid(at, seconds, "must be greater than 0"));
        }
        if key == "readinessProbe" {
            if let Some(seconds) = grace {
                let at = path.child("terminationGracePeriodSeconds");
                errs.push(FieldError::invalid(at, seconds, "must not be set for readinessProbes"));
            }
        } else if let Some(threshold) = int(probe, "successThreshold").filter(|t| *t != 1) {
            errs.push(FieldError::invalid(path.child("successThreshold"), threshold, "must be 1"));
        }
    }
}

fn handler(object: &Value, types: &[&str], grace_s: Option<i64>, path: &Path, errs: &mut Errors) {
    let mut given = types.iter().copied().filter(|t| set(object, t).is_some());
    let Some(first) = given.next() else {
        errs.push(FieldError::required(path, "must specify a handler type"));
        return;
    };
    let (action, at) = (child(object, first), path.child(first));
    match first {
        "exec" if items(action, "command").is_empty() => errs.push(FieldError::required(at.child("command"), "")),
        "httpGet" => {
            if text(action, "path").is_empty() {
                errs.push(FieldError::required(at.child("path"), ""));
            }
            port_or_name(child(action, "port"), &at.child("port"), errs);
            let scheme = text(action, "scheme");
            if !matches!(scheme, "HTTP" | "HTTPS") {
                errs.push(FieldError::not_supported(at.child("scheme"), scheme, &["HTTP", "HTTPS"]));
            }
            for header in items(action, "httpHeaders") {
                let name = text(header, "name");
                push_messages(errs, &at.child("httpHeaders"), name, content::http_header_name(name));
            }
        }
        "tcpSocket" => port_or_name(child(action, "port"), &at.child("port"), errs),
        "grpc" => port_number(int(action, "port").unwrap_or_default(), &at.child("port"), errs),
        "sleep" => {
            let seconds = int(action, "seconds").unwrap_or_default();
            if let Some(grace_s) = grace_s.filter(|g| !(0..=*g).contains(&seconds)) {
                let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace_s})");
                errs.push(FieldError::invalid(&at, seconds, detail));
            }
        }
        _ => {}
    }
    for extra in given {
        errs.push(FieldError::forbidden(path.child(extra), "may not specify more than 1 handler type"));
    }
}

/// `ValidateContainerResourceRequirements`, or the pod-level form of it.
pub(super) fn resources(own: &Value, path: &Path, pod_level: bool, errs: &mut Errors) {
    let limits = map(own, "limits");
    for (which, list) in [("limits", limits), ("requests", map(own, "requests"))] {
        for (name, value) in list.into_iter().flatten() {
            let at = path.child(which).key(name);
            resource_name(name, pod_level, &at, errs);
            let Some(quantity) = resource_quantity(name, value, &at, errs) else {
                continue;
            };
            if which == "limits" {
                continue;
            }
            let overcommit = !name.contains('/') && !name.starts_with("hugepages-");
            let limit = limits.and_then(|l| l.get(name)).and_then(|v| crate::quantity::Quantity::from_value(v).ok());
            let at = path.child("requests");
            match limit {
                Some(limit) if quantity != limit && !overcommit => errs.push(FieldError::invalid(
                    at,
                    quantity.to_string(),
                    format!("must be equal to {name} limit of {limit}"),
                )),
                Some(limit) if quantity > limit => errs.push(FieldError::invalid(
                    at,
                    quantity.to_string(),
                    format!("must be less than or equal to {name} limit of {limit}"),
                )),
                None if !overcommit => errs.push(FieldError::required(
                    path.child("limits"),
                    "Limit must be set for non overcommitable resources",
                )),
                _ => {}
            }
        }
    }
}

fn resource_name(name: &str, pod_level: bool, path: &Path, errs: &mut Errors) {
    let messages = content::label_key(name);
    if !messages.is_empty() {
        push_messages(errs, path, name, messages);
        return;
    }
    let standard = is_pod_level_resource(name) || (name == "ephemeral-storage" && !pod_level);
    if pod_level && !standard {
        errs.push(FieldError::not_supported(path, name, &["cpu", "hugepages-", "memory"]));
    } else if !name.contains('/') && !standard {
        errs.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    }
}

fn security_context(context: &Value, path: &Path, errs: &mut Errors) {
    for key in ["runAsUser", "runAsGroup"] {
        if let Some(id) = child(context, key).as_i64() {
            for message in content::in_range(id, 0, i64::from(i32::MAX)) {
                errs.push(FieldError::invalid(path.child(key), id, message));
            }
        }
    }
    if child(context, "allowPrivilegeEscalation") == &Value::Bool(false) && flag(context, "privileged") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errs.push(FieldError::invalid(path, context.clone(), detail));
    }
}
