//! Services.

use serde_json::Value;

use super::container::port_or_name;
use super::discovery::{PROTOCOLS, endpoint_ip};
use super::read::{Errors, child, int, items, one_of, set, text};
use super::{content, label_map, push_messages};
use crate::field::{FieldError, Path};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

fn is_headless(spec: &Value) -> bool {
    items(spec, "clusterIPs").first().is_some_and(|ip| ip == "None")
}

fn is_external(spec: &Value) -> bool {
    match text(spec, "type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !items(spec, "externalIPs").is_empty(),
        _ => false,
    }
}

fn needs_health_check(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

/// `validateService`. Cluster IPs, node ports and IP families are allocated before this runs.
pub(super) fn create(service: &Value, errs: &mut Errors) {
    let spec = child(service, "spec");
    let path = Path::new("spec");
    let kind = text(spec, "type");
    let ports = items(spec, "ports");
    if ports.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errs.push(FieldError::required(path.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errs.push(FieldError::invalid(path.child("clusterIPs").index(0), "None", detail));
        }
        "ExternalName" => external_name(spec, &path, errs),
        _ => {}
    }
    self::ports(spec, &path.child("ports"), errs);
    label_map(spec, "selector", &path.child("selector"), errs);
    session_affinity(spec, &path, errs);
    if kind != "ExternalName" {
        cluster_ips(spec, &path, errs);
    }
    for (i, ip) in items(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate() {
        let at = path.child("externalIPs").index(i);
        push_messages(errs, &at, ip, content::ip_address(ip));
        if let Ok(ip) = ip.parse() {
            endpoint_ip(ip, &at, errs);
        }
    }
    one_of(spec, "type", TYPES, &path, errs);
    load_balancer(spec, &path, errs);
    traffic(spec, &path, errs);
}

fn external_name(spec: &Value, path: &Path, errs: &mut Errors) {
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if set(spec, key).is_some_and(|v| v.as_array().is_none_or(|a| !a.is_empty())) {
            errs.push(FieldError::forbidden(path.child(key), "may not be set for ExternalName services"));
        }
    }
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errs.push(FieldError::required(path.child("externalName"), "")),
        name => push_messages(errs, &path.child("externalName"), name, content::dns1123_subdomain(name)),
    }
}

fn ports(spec: &Value, path: &Path, errs: &mut Errors) {
    let ports = items(spec, "ports");
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let before = &ports[..i];
        let name = text(port, "name");
        if name.is_empty() && ports.len() > 1 {
            errs.push(FieldError::required(at.child("name"), ""));
        } else if !name.is_empty() {
            push_messages(errs, &at.child("name"), name, content::dns1123_label(name));
            if before.iter().any(|p| text(p, "name") == name) {
                errs.push(FieldError::duplicate(at.child("name"), name));
            }
        }
        let number = int(port, "port").unwrap_or_default();
        for message in content::port_number(number) {
            errs.push(FieldError::invalid(at.child("port"), number, message));
        }
        one_of(port, "protocol", PROTOCOLS, &at, errs);
        port_or_name(child(port, "targetPort"), &at.child("targetPort"), errs);
        if let Some(app) = set(port, "appProtocol").and_then(Value::as_str) {
            push_messages(errs, &at.child("appProtocol"), app, content::label_key(app));
        }
        let node_port = int(port, "nodePort").unwrap_or_default();
        let same = |key: &str, value: i64| {
            before.iter().any(|p| text(p, "protocol") == text(port, "protocol") && int(p, key) == Some(value))
        };
        if node_port != 0 {
            if text(spec, "type") == "ClusterIP" {
                let detail = "may not be used when `type` is 'ClusterIP'";
                errs.push(FieldError::forbidden(at.child("nodePort"), detail));
            }
            if same("nodePort", node_port) {
                errs.push(FieldError::duplicate(at.child("nodePort"), node_port));
            }
        }
        if same("port", number) {
            let key = serde_json::json!({ "protocol": text(port, "protocol"), "port": number });
            errs.push(FieldError::duplicate(&at, key));
        }
    }
}

fn session_affinity(spec: &Value, path: &Path, errs: &mut Errors) {
    const MAX_TIMEOUT_S: i64 = 86_400;
    one_of(spec, "sessionAffinity", &["ClientIP", "None"], path, errs);
    let at = path.child("sessionAffinityConfig");
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let timeout =
                child(spec, "sessionAffinityConfig").pointer("/clientIP/timeoutSeconds").and_then(Value::as_i64);
            let at_timeout = at.child("clientIP").child("timeoutSeconds");
            match timeout {
                None => errs.push(FieldError::required(at, "when session affinity type is ClientIP")),
                Some(seconds) if !(1..=MAX_TIMEOUT_S).contains(&seconds) => {
                    let detail = format!("must be greater than 0 and less than {MAX_TIMEOUT_S}");
                    errs.push(FieldError::invalid(at_timeout, seconds, detail));
                }
                Some(_) => {}
            }
        }
        "None" if set(spec, "sessionAffinityConfig").is_some() => {
            errs.push(FieldError::forbidden(at, "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn cluster_ips(spec: &Value, path: &Path, errs: &mut Errors) {
    let at = path.child("clusterIPs");
    let whole = || child(spec, "clusterIPs").clone();
    let ips: Vec<&str> = items(spec, "clusterIPs").iter().filter_map(Value::as_str).collect();
    match (text(spec, "clusterIP"), ips.first()) {
        ("", Some(_)) => {
            errs.push(FieldError::invalid(&at, whole(), "must be empty when `clusterIP` is not specified"));
        }
        ("", None) => {}
        (_, None) => errs.push(FieldError::required(&at, "")),
        (ip, Some(first)) if ip != *first => {
            errs.push(FieldError::invalid(&at, whole(), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    let families: Vec<&str> = items(spec, "ipFamilies").iter().filter_map(Value::as_str).collect();
    for (i, family) in families.iter().enumerate() {
        let at = path.child("ipFamilies").index(i);
        if !matches!(*family, "IPv4" | "IPv6") {
            errs.push(FieldError::not_supported(&at, *family, &["IPv4", "IPv6"]));
        }
        if families[..i].contains(family) {
            errs.push(FieldError::duplicate(&at, *family));
        }
    }
    if set(spec, "ipFamilyPolicy").is_some() {
        one_of(spec, "ipFamilyPolicy", &["PreferDualStack", "RequireDualStack", "SingleStack"], path, errs);
    }
    for (i, ip) in ips.iter().enumerate() {
        if *ip == "None" && i == 0 {
            if ips.len() > 1 {
                errs.push(FieldError::invalid(&at, whole(), "'None' must be the first and only value"));
            }
            continue;
        }
        let messages = content::ip_address(ip);
        let valid = messages.is_empty();
        push_messages(errs, &at.index(i), ip, messages);
        let is_v6 = ip.contains(':');
        match families.get(i) {
            Some(&"IPv4") if valid && is_v6 => {
                let detail = format!("expected an IPv4 value as indicated by `ipFamilies[{i}]`");
                errs.push(FieldError::invalid(at.index(i), *ip, detail));
            }
            Some(&"IPv6") if valid && !is_v6 => {
                let detail = format!("expected an IPv6 value as indicated by `ipFamilies[{i}]`");
                errs.push(FieldError::invalid(at.index(i), *ip, detail));
            }
            _ => {}
        }
    }
    if ips.len() > 2 {
        errs.push(FieldError::invalid(&at, whole(), "may only hold up to 2 values"));
    } else if ips.len() == 2 && ips[0].contains(':') == ips[1].contains(':') {
        errs.push(FieldError::invalid(&at, whole(), "may specify no more than one IP for each IP family"));
    }
}

fn load_balancer(spec: &Value, path: &Path, errs: &mut Errors) {
    const DETAIL: &str = "may only be used when `type` is 'LoadBalancer'";
    let balanced = text(spec, "type") == "LoadBalancer";
    let ranges = items(spec, "loadBalancerSourceRanges");
    // Upstream spells this path with a capital.
    let at = path.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() && !balanced {
        errs.push(FieldError::forbidden(&at, DETAIL));
    }
    for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        push_messages(errs, &at.index(i), range, content::cidr(range.trim()));
    }
    for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if set(spec, key).is_some() && !balanced {
            errs.push(FieldError::forbidden(path.child(key), DETAIL));
        }
    }
}

fn traffic(spec: &Value, path: &Path, errs: &mut Errors) {
    let external = text(spec, "externalTrafficPolicy");
    if is_external(spec) {
        one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"], path, errs);
    } else if !external.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errs.push(FieldError::invalid(path.child("externalTrafficPolicy"), external, detail));
    }
    let health = int(spec, "healthCheckNodePort").unwrap_or_default();
    let at = path.child("healthCheckNodePort");
    if needs_health_check(spec) {
        if health == 0 {
            errs.push(FieldError::required(&at, ""));
        }
    } else if health != 0 {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errs.push(FieldError::invalid(&at, health, detail));
    }
    let internal = set(spec, "internalTrafficPolicy").is_some();
    if internal || matches!(text(spec, "type"), "NodePort" | "LoadBalancer" | "ClusterIP") {
        one_of(spec, "internalTrafficPolicy", &["Cluster", "Local"], path, errs);
    }
    if set(spec, "trafficDistribution").is_some() {
        let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        one_of(spec, "trafficDistribution", &known, path, errs);
    }
}

/// What an update adds: a cluster IP stays while the Service has one.
pub(super) fn update(new: &Value, old: &Value, errs: &mut Errors) {
    let (new, old) = (child(new, "spec"), child(old, "spec"));
    let path = Path::new("spec");
    let first = |spec: &Value| {
        let ips = items(spec, "clusterIPs");
        ips.first().and_then(Value::as_str).map(str::to_owned)
    };
    let had_ip = text(old, "type") != "ExternalName" && text(new, "type") != "ExternalName";
    if had_ip
        && let (Some(before), Some(now)) = (first(old), first(new))
        && before != now
    {
        errs.push(FieldError::invalid(
            path.child("clusterIPs").index(0),
            child(new, "clusterIPs").clone(),
            "may not change once set",
        ));
    }
    if needs_health_check(old)
        && needs_health_check(new)
        && int(old, "healthCheckNodePort") != int(new, "healthCheckNodePort")
    {
        errs.push(FieldError::forbidden(path.child("healthCheckNodePort"), super::IMMUTABLE));
    }
}
