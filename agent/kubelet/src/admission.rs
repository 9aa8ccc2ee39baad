//! The node's own say before a pod starts: ports, selector, resources, number of pods. Pure; the
//! scheduler may have been wrong, or not been asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::container_manager;
use crate::pod::PodExt;

/// Why a pod is refused: `status.reason` and `status.message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    pub message: String,
}

/// What the node has.
#[derive(Clone, Debug, Default)]
pub struct NodeCapacity {
    /// Base units (CPU in milli); resources that are not named are not checked.
    pub allocatable: BTreeMap<String, i64>,
    pub max_pods: i64,
    pub labels: BTreeMap<String, String>,
}

/// Whether `pod` may run beside `others`.
pub fn check(pod: &Pod, others: &[Arc<Pod>], node: &NodeCapacity) -> Result<(), Rejection> {
    let rejection = |reason: String, text: String| Rejection { reason, message: format!("Pod was rejected: {text}") };
    let predicate = |name: &str, text: &str| rejection(name.to_owned(), format!("Predicate {name} failed: {text}"));
    let spec = pod.spec.as_ref();
    if !pod.is_static() {
        let selector = spec.and_then(|s| s.node_selector.as_ref());
        if selector.into_iter().flatten().any(|(key, value)| node.labels.get(key) != Some(value)) {
            return Err(predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
        }
    }
    if let Some(os) = spec.and_then(|s| s.os.as_ref()).map(|os| os.name.as_str())
        && os != "linux"
    {
        return Err(rejection(
            "PodOSNotSupported".to_owned(),
            format!("Failed to admit pod as the OS field doesn't match node OS: {os}"),
        ));
    }
    let mine = host_ports(pod);
    let taken = others.iter().any(|other| {
        host_ports(other).iter().any(|(ip, protocol, port)| {
            mine.iter().any(|(my_ip, my_protocol, my_port)| {
                port == my_port && protocol == my_protocol && (ip == my_ip || any_ip(ip) || any_ip(my_ip))
            })
        })
    });
    if taken {
        return Err(predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    if pod.is_static() {
        // Part of the node itself: room is made for it, not asked for.
        return Ok(());
    }
    let used = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if node.max_pods > 0 && used + 1 > node.max_pods {
        return Err(insufficient("pods", 1, used, node.max_pods));
    }
    let requested = container_manager::pod_requests(pod);
    for (name, capacity) in &node.allocatable {
        let amount = amount_of(&requested, name);
        if amount == 0 {
            continue;
        }
        let used: i64 = others.iter().map(|p| amount_of(&container_manager::pod_requests(p), name)).sum();
        if amount + used > *capacity {
            return Err(insufficient(name, amount, used, *capacity));
        }
    }
    Ok(())
}

fn amount_of(resources: &container_manager::PodResources, name: &str) -> i64 {
    resources.get(name).copied().unwrap_or(0)
}

fn insufficient(name: &str, requested: i64, used: i64, capacity: i64) -> Rejection {
    Rejection {
        reason: format!("OutOf{name}"),
        message: format!(
            "Pod was rejected: Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

fn any_ip(ip: &str) -> bool {
    ip.is_empty() || ip == "0.0.0.0"
}

fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    pod.containers()
        .iter()
        .flat_map(|c| c.ports.as_deref().unwrap_or_default())
        .filter_map(|port| {
            let number = port.host_port.filter(|n| *n > 0)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((port.host_ip.clone().unwrap_or_default(), protocol, number))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, cpu: &str, port: i32) -> Arc<Pod> {
        let json = serde_json::json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"nodeSelector": {"a": "b"}, "containers": [{
                "name": "c", "resources": {"requests": {"cpu": cpu}}, "ports": [{"containerPort": 1, "hostPort": port}],
            }]},
        });
        Arc::new(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn reasons() {
        let node = NodeCapacity {
            allocatable: BTreeMap::from([("cpu".to_owned(), 1000)]),
            max_pods: 2,
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        };
        let running = [pod("r", "600m", 80)];
        let reason = |pod: &Pod, others: &[Arc<Pod>], node: &NodeCapacity| {
            check(pod, others, node).err().map(|rejection| rejection.reason)
        };
        assert_eq!(reason(&pod("x", "400m", 81), &running, &node), None);
        assert_eq!(reason(&pod("x", "500m", 81), &running, &node).as_deref(), Some("OutOfcpu"));
        assert_eq!(reason(&pod("x", "1m", 80), &running, &node).as_deref(), Some("NodePorts"));
        let two = [pod("r", "1m", 80), pod("s", "1m", 82)];
        assert_eq!(reason(&pod("x", "1m", 81), &two, &node).as_deref(), Some("OutOfpods"));
        let other = NodeCapacity { labels: BTreeMap::new(), ..node };
        assert_eq!(reason(&pod("x", "1m", 81), &[], &other).as_deref(), Some("NodeAffinity"));
    }
}
