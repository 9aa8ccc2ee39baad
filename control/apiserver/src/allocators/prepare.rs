//! What an update may leave out and keeps, and what a change of type drops
//! (upstream `normalizeClusterIPs`, `patchAllocatedValues`, `dropTypeDependentFields`).

use serde_json::{Value, json};

use super::ports::{needs_health_check, needs_node_ports, node_ports};
use super::{service_type, wants_cluster_ip};
use crate::admission::fields::{list_at, str_at, strings_at};

/// Run before anything is allocated.
pub(super) fn carry_over(service: &mut Value, old: Option<&Value>) {
    if !service.get("spec").is_some_and(Value::is_object) {
        service["spec"] = json!({});
    }
    match old {
        Some(old) => {
            keep_allocated(service, old);
            follow_cluster_ip(service, old);
            drop_by_type(service, old);
        }
        None => follow_cluster_ip(service, &Value::Null),
    }
}

fn remove(service: &mut Value, key: &str) {
    if let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) {
        spec.shift_remove(key);
    }
}

/// A client that read a Service without its allocated values and writes it back changes nothing.
fn keep_allocated(service: &mut Value, old: &Value) {
    if takes_ip(service) && takes_ip(old) {
        let old_ip = str_at(old, "/spec/clusterIP").to_owned();
        if str_at(service, "/spec/clusterIP").is_empty() && list_at(service, "/spec/clusterIPs").is_empty() {
            service["spec"]["clusterIP"] = old_ip.clone().into();
        }
        let same = str_at(service, "/spec/clusterIP") == old_ip;
        if same && list_at(service, "/spec/clusterIPs").is_empty() {
            service["spec"]["clusterIPs"] = json!(strings_at(old, "/spec/clusterIPs"));
        }
    }
    if needs_node_ports(service) && needs_node_ports(old) {
        keep_node_ports(service, old);
    }
    if needs_health_check(service)
        && needs_health_check(old)
        && empty_port(service.pointer("/spec/healthCheckNodePort"))
    {
        service["spec"]["healthCheckNodePort"] = old["spec"]["healthCheckNodePort"].clone();
    }
}

fn takes_ip(service: &Value) -> bool {
    service_type(service) != "ExternalName"
}

fn empty_port(value: Option<&Value>) -> bool {
    value.and_then(Value::as_u64).unwrap_or_default() == 0
}

fn keep_node_ports(service: &mut Value, old: &Value) {
    let key = |p: &Value| (str_at(p, "/protocol").to_owned(), p.get("port").cloned());
    let used = node_ports(service);
    let Some(ports) = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut) else { return };
    for port in ports.iter_mut().filter(|p| empty_port(p.get("nodePort"))) {
        let before = list_at(old, "/spec/ports").iter().find(|o| key(o) == key(port));
        let kept = before.and_then(|o| o.get("nodePort")).and_then(Value::as_u64).unwrap_or_default();
        if kept != 0 && !used.iter().any(|u| u64::from(*u) == kept) {
            port["nodePort"] = kept.into();
        }
    }
}

/// `clusterIP` and `clusterIPs[0]` are one field under two names; whichever the client wrote wins.
fn follow_cluster_ip(service: &mut Value, old: &Value) {
    let ip = str_at(service, "/spec/clusterIP").to_owned();
    let ips = strings_at(service, "/spec/clusterIPs");
    let old_ip = str_at(old, "/spec/clusterIP");
    let old_ips = strings_at(old, "/spec/clusterIPs");
    if old.is_null() {
        if !ip.is_empty() && ips.is_empty() {
            service["spec"]["clusterIPs"] = json!([ip]);
        } else if ip.is_empty() && !ips.is_empty() {
            service["spec"]["clusterIP"] = ips[0].clone().into();
        }
        return;
    }
    let (ip_changed, ips_changed) = (ip != old_ip, ips != old_ips);
    if ip_changed && !ips_changed {
        if ip.is_empty() {
            remove(service, "clusterIPs");
        } else {
            let mut next = ips;
            if next.is_empty() {
                next.push(ip);
            } else {
                next[0] = ip;
            }
            service["spec"]["clusterIPs"] = json!(next);
        }
    } else if ips_changed && !ip_changed {
        match ips.first() {
            Some(first) if *first != ip => service["spec"]["clusterIP"] = first.clone().into(),
            Some(_) => {}
            None if ip.is_empty() => {}
            None => service["spec"]["clusterIPs"] = json!([ip]),
        }
    }
}

/// What the old type had and the new one can't have goes, unless the client changed it itself.
fn drop_by_type(service: &mut Value, old: &Value) {
    if takes_ip(old) && !takes_ip(service) {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let pointer = format!("/spec/{key}");
            if service.pointer(&pointer) == old.pointer(&pointer) {
                remove(service, key);
            }
        }
    }
    if needs_node_ports(old) && !needs_node_ports(service) && node_ports(service) == node_ports(old) {
        for port in service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(port) = port.as_object_mut() {
                port.shift_remove("nodePort");
            }
        }
    }
    if needs_health_check(old)
        && !needs_health_check(service)
        && service.pointer("/spec/healthCheckNodePort") == old.pointer("/spec/healthCheckNodePort")
    {
        remove(service, "healthCheckNodePort");
    }
    if service_type(old) == "LoadBalancer" && service_type(service) != "LoadBalancer" {
        for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            let pointer = format!("/spec/{key}");
            if service.pointer(&pointer) == old.pointer(&pointer) {
                remove(service, key);
            }
        }
    }
    let external = |s: &Value| wants_cluster_ip(s) && needs_node_ports(s);
    if external(old) && !external(service) && list_at(service, "/spec/externalIPs").is_empty() {
        let pointer = "/spec/externalTrafficPolicy";
        if service.pointer(pointer) == old.pointer(pointer) {
            remove(service, "externalTrafficPolicy");
        }
    }
}
