//! What a Pod asks of a node: requests and limits over all its containers, and its QoS class.
//!
//! Sidecars (init containers with `restartPolicy: Always`) run beside everything that starts after
//! them, so each ordinary init container needs its own amount plus the sidecars before it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity::Quantity;

/// Amounts by resource name.
pub type ResourceList = BTreeMap<String, Quantity>;

fn list(container: &Value, which: &str) -> ResourceList {
    parse_list(container.get("resources").and_then(|r| r.get(which)))
}

/// Reads a `ResourceList`; entries that don't parse are left out.
#[must_use]
pub fn parse_list(list: Option<&Value>) -> ResourceList {
    let entries = list.and_then(Value::as_object);
    entries
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), Quantity::from_value(value).ok()?)))
        .collect()
}

fn add(total: &mut ResourceList, more: &ResourceList) {
    for (name, quantity) in more {
        *total.entry(name.clone()).or_default() += *quantity;
    }
}

fn raise(total: &mut ResourceList, other: &ResourceList) {
    for (name, quantity) in other {
        let entry = total.entry(name.clone()).or_insert(*quantity);
        if *quantity > *entry {
            *entry = *quantity;
        }
    }
}

fn items<'a>(spec: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    spec.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn is_sidecar(container: &Value) -> bool {
    container.get("restartPolicy").and_then(Value::as_str) == Some("Always")
}

fn aggregate(spec: &Value, which: &str) -> ResourceList {
    let mut total = ResourceList::new();
    for container in items(spec, "containers") {
        add(&mut total, &list(container, which));
    }
    let mut sidecars = ResourceList::new();
    let mut init = ResourceList::new();
    for container in items(spec, "initContainers") {
        let own = list(container, which);
        if is_sidecar(container) {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            raise(&mut init, &sidecars);
        } else {
            let mut beside = own;
            add(&mut beside, &sidecars);
            raise(&mut init, &beside);
        }
    }
    raise(&mut total, &init);
    total
}

/// Requests over all containers of a PodSpec, without pod-level resources and overhead.
#[must_use]
pub fn aggregate_container_requests(spec: &Value) -> ResourceList {
    aggregate(spec, "requests")
}

/// Limits over all containers of a PodSpec, without pod-level resources and overhead.
#[must_use]
pub fn aggregate_container_limits(spec: &Value) -> ResourceList {
    aggregate(spec, "limits")
}

/// Whether a resource may stand in `spec.resources` of a Pod.
#[must_use]
pub fn is_pod_level_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn with_pod_level(spec: &Value, mut total: ResourceList, which: &str) -> ResourceList {
    for (name, quantity) in list(spec, which) {
        if is_pod_level_resource(&name) {
            total.insert(name, quantity);
        }
    }
    let overhead = parse_list(spec.get("overhead"));
    if which == "requests" {
        add(&mut total, &overhead);
    } else {
        // Overhead adds only to limits that there are.
        for (name, quantity) in overhead {
            if let Some(entry) = total.get_mut(&name) {
                *entry += quantity;
            }
        }
    }
    total
}

/// What the scheduler reserves for a Pod (upstream `PodRequests`), from its `spec`.
#[must_use]
pub fn pod_requests(spec: &Value) -> ResourceList {
    with_pod_level(spec, aggregate_container_requests(spec), "requests")
}

/// What a Pod may use at most (upstream `PodLimits`), from its `spec`.
#[must_use]
pub fn pod_limits(spec: &Value) -> ResourceList {
    with_pod_level(spec, aggregate_container_limits(spec), "limits")
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from a Pod's `spec` (upstream `ComputePodQOS`).
#[must_use]
pub fn qos_class(spec: &Value) -> &'static str {
    let pod_level = ["requests", "limits"].iter().any(|w| !list(spec, w).is_empty());
    let holders: Vec<&Value> =
        if pod_level { vec![spec] } else { items(spec, "containers").chain(items(spec, "initContainers")).collect() };
    let mut requests = ResourceList::new();
    let mut limits = ResourceList::new();
    let mut guaranteed = true;
    for holder in holders {
        let positive = |which| {
            let mut l = list(holder, which);
            l.retain(|name, q| matches!(name.as_str(), "cpu" | "memory") && q.sign() > 0);
            l
        };
        add(&mut requests, &positive("requests"));
        let own_limits = positive("limits");
        guaranteed &= own_limits.len() == 2;
        add(&mut limits, &own_limits);
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(list: &ResourceList) -> Vec<String> {
        list.iter().map(|(k, v)| format!("{k}={v}")).collect()
    }

    #[test]
    fn init_containers_and_sidecars() {
        let cpu = |amount: &str, sidecar: bool| {
            let mut c = json!({"resources": {"requests": {"cpu": amount}}});
            if sidecar {
                c["restartPolicy"] = json!("Always");
            }
            c
        };
        for (containers, init, expect) in [
            (vec![cpu("1", false), cpu("500m", false)], vec![], "cpu=1500m"),
            (vec![cpu("1", false)], vec![cpu("3", false)], "cpu=3"),
            (vec![cpu("1", false)], vec![cpu("1", true)], "cpu=2"),
            // The init container after the sidecar runs beside it.
            (vec![cpu("1", false)], vec![cpu("1", true), cpu("2", false)], "cpu=3"),
            (vec![cpu("1", false)], vec![cpu("2", false), cpu("1", true)], "cpu=2"),
        ] {
            let spec = json!({"containers": containers, "initContainers": init});
            assert_eq!(texts(&pod_requests(&spec)), [expect], "{spec}");
        }
    }

    #[test]
    fn overhead_and_pod_level() {
        let spec = json!({
            "containers": [{"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}}],
            "overhead": {"cpu": "250m", "memory": "100Mi"},
            "resources": {"requests": {"cpu": "3"}},
        });
        assert_eq!(texts(&pod_requests(&spec)), ["cpu=3250m", "memory=1124Mi"]);
        assert_eq!(texts(&pod_limits(&spec)), ["memory=2148Mi"]);
    }

    #[test]
    fn qos() {
        let check = |resources: Value, expect: &str| {
            assert_eq!(qos_class(&json!({"containers": [{"resources": resources}]})), expect);
        };
        check(json!({}), "BestEffort");
        check(json!({"requests": {"cpu": "1"}}), "Burstable");
        check(json!({"requests": {"cpu": "0"}}), "BestEffort");
        let both = json!({"cpu": "1", "memory": "1Gi"});
        check(json!({"requests": both, "limits": both}), "Guaranteed");
        check(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}), "Burstable");
        check(json!({"requests": {"example.com/gpu": "1"}}), "BestEffort");
    }
}
