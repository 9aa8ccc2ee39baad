#![allow(clippy::needless_pass_by_value, reason = "tables read better with json! values passed as they are")]

use super::*;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A Pod named `name` with UID `uid-NAME`; `spec` is laid over one container without requests.
pub(crate) fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
    pod_with(name, json!({}), spec)
}

pub(crate) fn pod_with(name: &str, meta: Value, spec: Value) -> Arc<PodInfo> {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    for (part, fields) in [("metadata", meta), ("spec", spec)] {
        for (key, value) in fields.as_object().unwrap() {
            object[part][key] = value.clone();
        }
    }
    let pod: Pod = serde_json::from_value(object).unwrap();
    Arc::new(PodInfo::new(pod))
}

/// Containers that ask for these amounts.
pub(crate) fn asks(cpu: &str, memory: &str) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
}

/// A node with 4 CPUs, 8 GiB and 10 Pods; `fields` go into its spec.
pub(crate) fn node(name: &str, labels: Value, spec: Value) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": labels},
        "spec": spec,
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10", "example.com/gpu": "1"}},
    }))
    .unwrap()
}

#[test]
fn assumed_pods_count_until_forgotten_or_confirmed() {
    let mut cache = Cache::default();
    assert_eq!(cache.set_node(&node("n", json!({}), json!({}))), [ClusterEvent::NodeAdd]);
    let p = pod("a", asks("1", "1Gi"));
    cache.assume(&p, "n");
    assert_eq!(cache.snapshot().node("n").unwrap().requested().milli_cpu, 1000);
    cache.forget("uid-a");
    assert_eq!(cache.snapshot().node("n").unwrap().requested().milli_cpu, 0);
    cache.assume(&p, "n");
    let bound = pod("a", {
        let mut spec = asks("1", "1Gi");
        spec["nodeName"] = json!("n");
        spec
    });
    assert!(!cache.set_pod(&bound), "it was there already");
    cache.forget("uid-a");
    assert_eq!(cache.snapshot().node("n").unwrap().requested().milli_cpu, 1000, "confirmed pods stay");
    assert!(cache.remove_pod("uid-a"));
    assert!(cache.snapshot().node("n").unwrap().pods().is_empty());
}

#[test]
fn node_changes_are_told_apart() {
    let mut cache = Cache::default();
    let plain = || node("n", json!({}), json!({}));
    cache.set_node(&plain());
    assert_eq!(cache.set_node(&plain()), []);
    assert_eq!(cache.set_node(&node("n", json!({"a": "b"}), json!({}))), [ClusterEvent::NodeLabels]);
    let cordoned = node("n", json!({"a": "b"}), json!({"unschedulable": true}));
    assert_eq!(cache.set_node(&cordoned), [ClusterEvent::NodeTaints]);
    let mut images = cordoned;
    images.status.as_mut().unwrap().images =
        serde_json::from_value(json!([{"names": ["i:1"], "sizeBytes": 5}])).unwrap();
    assert_eq!(cache.set_node(&images), [ClusterEvent::NodeOther]);
    assert_eq!(cache.snapshot().image_spread("i:1"), 1);
    cache.remove_node("n");
    assert_eq!(cache.snapshot().num_nodes(), 0);
    assert_eq!(cache.snapshot().image_spread("i:1"), 0);
}

#[test]
fn pods_may_come_before_their_node() {
    let mut cache = Cache::default();
    let mut spec = asks("1", "1Gi");
    spec["nodeName"] = json!("n");
    cache.set_pod(&pod("a", spec));
    assert_eq!(cache.snapshot().num_nodes(), 0);
    cache.set_node(&node("n", json!({}), json!({})));
    assert_eq!(cache.snapshot().node("n").unwrap().requested().milli_cpu, 1000);
}
