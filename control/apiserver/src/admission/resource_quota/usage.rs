//! What one object takes of a quota, by the quota's resource names.

use std::collections::BTreeMap;

use orlop_api::quantity::{Format, Quantity};
use serde_json::Value;

use crate::admission::fields::{list_at, str_at};

/// Amounts by resource name (`pods`, `requests.cpu`, `count/deployments.apps`).
pub(super) type Usage = BTreeMap<String, Quantity>;

/// Compute resources that a quota names without the prefix `requests.` too.
const BARE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Kinds that are counted under their bare name.
const COUNTED: [&str; 6] =
    ["configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"];

fn count_key(group: &str, resource: &str) -> String {
    if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") }
}

/// Whether a quota with these resource names says anything about a resource.
pub(super) fn covers(hard: &BTreeMap<String, Quantity>, group: &str, resource: &str) -> bool {
    let count = count_key(group, resource);
    hard.keys().any(|key| {
        *key == count
            || match (group, resource) {
                ("", "pods") => {
                    key == "pods"
                        || BARE.contains(&key.as_str())
                        || key.starts_with("limits.")
                        || (key.starts_with("requests.") && key != "requests.storage")
                        || key.starts_with("hugepages-")
                }
                ("", "services") => key == "services" || key.starts_with("services."),
                ("", "persistentvolumeclaims") => {
                    key == resource || key == "requests.storage" || key.contains(".storageclass.storage.k8s.io/")
                }
                ("", other) => COUNTED.contains(&other) && key == other,
                _ => false,
            }
    })
}

fn one() -> Quantity {
    Quantity::from_units(1, Format::DecimalSi)
}

/// What `object` takes.
pub(super) fn of(group: &str, resource: &str, object: &Value) -> Usage {
    let mut usage = Usage::new();
    usage.insert(count_key(group, resource), one());
    match (group, resource) {
        ("", "pods") => pod(object, &mut usage),
        ("", "services") => service(object, &mut usage),
        ("", "persistentvolumeclaims") => claim(object, &mut usage),
        ("", other) if COUNTED.contains(&other) => {
            usage.insert(other.to_owned(), one());
        }
        _ => {}
    }
    usage
}

fn service(object: &Value, usage: &mut Usage) {
    usage.insert("services".to_owned(), one());
    let kind = str_at(object, "/spec/type");
    if kind == "LoadBalancer" {
        usage.insert("services.loadbalancers".to_owned(), one());
    }
    let allocates = object.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
    if kind == "NodePort" || (kind == "LoadBalancer" && allocates) {
        let ports = i64::try_from(list_at(object, "/spec/ports").len()).unwrap_or(i64::MAX);
        usage.insert("services.nodeports".to_owned(), Quantity::from_units(ports, Format::DecimalSi));
    }
}

fn claim(object: &Value, usage: &mut Usage) {
    usage.insert("persistentvolumeclaims".to_owned(), one());
    let storage = amounts(object.pointer("/spec/resources/requests")).remove("storage");
    let class = str_at(object, "/spec/storageClassName");
    if !class.is_empty() {
        usage.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one());
    }
    if let Some(storage) = storage {
        usage.insert("requests.storage".to_owned(), storage);
        if !class.is_empty() {
            usage.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage);
        }
    }
}

fn amounts(list: Option<&Value>) -> Usage {
    let map = list.and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), Quantity::from_value(v).ok()?))).collect()
}

/// A finished Pod takes nothing but its object.
fn pod(object: &Value, usage: &mut Usage) {
    if matches!(str_at(object, "/status/phase"), "Succeeded" | "Failed") {
        return;
    }
    usage.insert("pods".to_owned(), one());
    for (resource, q) in pod_total(object, "requests") {
        if BARE.contains(&resource.as_str()) || resource.starts_with("hugepages-") {
            usage.insert(resource.clone(), q);
        }
        usage.insert(format!("requests.{resource}"), q);
    }
    for (resource, q) in pod_total(object, "limits") {
        usage.insert(format!("limits.{resource}"), q);
    }
}

/// Containers run together, init containers before them one by one, restartable ones along with all after.
fn pod_total(object: &Value, key: &str) -> Usage {
    let of = |c: &Value| amounts(c.get("resources").and_then(|r| r.get(key)));
    let plus = |into: &mut Usage, other: &Usage| {
        for (k, q) in other {
            *into.entry(k.clone()).or_default() += *q;
        }
    };
    let max = |into: &mut Usage, other: &Usage| {
        for (k, q) in other {
            let slot = into.entry(k.clone()).or_default();
            *slot = (*slot).max(*q);
        }
    };
    let mut total = Usage::new();
    list_at(object, "/spec/containers").iter().for_each(|c| plus(&mut total, &of(c)));
    let (mut sidecars, mut peak) = (Usage::new(), Usage::new());
    for init in list_at(object, "/spec/initContainers") {
        if str_at(init, "/restartPolicy") == "Always" {
            plus(&mut sidecars, &of(init));
            max(&mut peak, &sidecars);
        } else {
            let mut at_once = of(init);
            plus(&mut at_once, &sidecars);
            max(&mut peak, &at_once);
        }
    }
    plus(&mut total, &sidecars);
    max(&mut total, &peak);
    // Resources of the Pod as a whole stand above those of its containers.
    total.extend(amounts(object.pointer(&format!("/spec/resources/{key}"))));
    let overhead = amounts(object.pointer("/spec/overhead"));
    if key == "requests" {
        plus(&mut total, &overhead);
    } else {
        for (k, q) in overhead {
            if let Some(slot) = total.get_mut(&k) {
                *slot += q;
            }
        }
    }
    total
}

/// `limits.cpu for: c1,c2`: what a Pod must say because a quota counts it.
pub(super) fn missing_constraints<'a>(object: &Value, hard: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut parts = Vec::new();
    for key in hard {
        let (list, resource) = match key.split_once('.') {
            Some((list @ ("requests" | "limits"), resource)) => (list, resource),
            _ => ("requests", key.as_str()),
        };
        if !BARE.contains(&resource) || resource == "ephemeral-storage" {
            continue;
        }
        let says = |v: &Value, at: &str| {
            v.pointer(at).and_then(|r| r.get(list)).and_then(|l| l.get(resource)).is_some_and(|q| !q.is_null())
        };
        if says(object, "/spec/resources") {
            continue;
        }
        let silent: Vec<&str> = ["/spec/initContainers", "/spec/containers"]
            .iter()
            .flat_map(|p| list_at(object, p))
            .filter(|c| !says(c, "/resources"))
            .map(|c| str_at(c, "/name"))
            .collect();
        if !silent.is_empty() {
            parts.push(format!("{key} for: {}", silent.join(",")));
        }
    }
    parts.sort();
    if let Some(first) = parts.first_mut() {
        *first = format!("must specify {first}");
    }
    parts
}

/// Whether an object falls under a quota's scopes; only Pods have scopes.
pub(super) fn scopes_match(quota: &Value, resource: &str, object: &Value) -> bool {
    let plain = list_at(quota, "/spec/scopes").iter().filter_map(Value::as_str).map(|s| (s, "Exists", Vec::new()));
    let selected = list_at(quota, "/spec/scopeSelector/matchExpressions").iter().map(|e| {
        let values: Vec<&str> = list_at(e, "/values").iter().filter_map(Value::as_str).collect();
        (str_at(e, "/scopeName"), str_at(e, "/operator"), values)
    });
    let scopes: Vec<(&str, &str, Vec<&str>)> = plain.chain(selected).collect();
    if scopes.is_empty() {
        return true;
    }
    resource == "pods" && scopes.iter().all(|(scope, operator, values)| in_scope(scope, operator, values, object))
}

fn in_scope(scope: &str, operator: &str, values: &[&str], pod: &Value) -> bool {
    let deadline = pod.pointer("/spec/activeDeadlineSeconds").is_some_and(|d| !d.is_null());
    let best_effort = || {
        let none = |key: &str| {
            let pointer = ["/spec/initContainers", "/spec/containers"];
            let list = |c: &Value| amounts(c.get("resources").and_then(|r| r.get(key))).values().all(Quantity::is_zero);
            pointer.iter().flat_map(|p| list_at(pod, p)).all(list)
        };
        none("requests") && none("limits")
    };
    match scope {
        "Terminating" => deadline,
        "NotTerminating" => !deadline,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = str_at(pod, "/spec/priorityClassName");
            match operator {
                "In" => values.contains(&class),
                "NotIn" => !class.is_empty() && !values.contains(&class),
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn crosses_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let base = format!("/spec/affinity/{kind}");
        let hard = list_at(pod, &format!("{base}/requiredDuringSchedulingIgnoredDuringExecution")).iter();
        let soft = list_at(pod, &format!("{base}/preferredDuringSchedulingIgnoredDuringExecution"));
        let soft = soft.iter().filter_map(|w| w.get("podAffinityTerm"));
        hard.chain(soft)
            .any(|t| !list_at(t, "/namespaces").is_empty() || t.get("namespaceSelector").is_some_and(Value::is_object))
    })
}
