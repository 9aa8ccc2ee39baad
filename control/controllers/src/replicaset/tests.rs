//! Numbers, order of deletion, status.
#![allow(clippy::needless_pass_by_value, reason = "json! literals read best where they stand")]

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::plan::{Plan, plan, status};
use crate::ownership::{Claim, claim, selector};

const NOW: &str = "2026-01-01T12:00:00Z";

fn now() -> jiff::Timestamp {
    NOW.parse().unwrap()
}

/// A ready Pod on node n1, an hour old.
fn pod(name: &str) -> serde_json::Value {
    json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"},
            "creationTimestamp": "2026-01-01T11:00:00Z"},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T11:00:00Z"}]},
    })
}

fn changed(name: &str, pointer: &str, value: serde_json::Value) -> Arc<Pod> {
    let mut pod = pod(name);
    if let Some(place) = pod.pointer_mut(pointer) {
        *place = value;
    } else {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn first_to_go(pods: &[Arc<Pod>], related: &[Arc<Pod>]) -> String {
    let want = i32::try_from(pods.len()).unwrap() - 1;
    match plan(want, pods, related, now()) {
        Plan::Delete(doomed) => doomed[0].metadata.name.clone().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers() {
    let pods: Vec<_> = (0..3).map(|n| changed(&format!("p{n}"), "/spec/nodeName", json!("n1"))).collect();
    assert_eq!(plan(3, &pods, &[], now()), Plan::Nothing);
    assert_eq!(plan(5, &pods, &[], now()), Plan::Create(2));
    assert_eq!(plan(9999, &pods, &[], now()), Plan::Create(500));
    assert_eq!(plan(0, &pods, &[], now()), Plan::Delete(pods.clone()));
}

#[test]
fn who_goes_first() {
    for (what, pointer, value) in [
        ("not on a node", "/spec/nodeName", json!("")),
        ("pending", "/status/phase", json!("Pending")),
        ("unknown", "/status/phase", json!("Unknown")),
        ("not ready", "/status/conditions/0/status", json!("False")),
        ("cheap", "/metadata/annotations", json!({"controller.kubernetes.io/pod-deletion-cost": "-1"})),
        ("ready for less long", "/status/conditions/0/lastTransitionTime", json!("2026-01-01T11:59:00Z")),
        (
            "restarted",
            "/status/containerStatuses",
            json!([{"name": "c", "restartCount": 3, "image": "", "imageID": "", "ready": true}]),
        ),
        ("younger", "/metadata/creationTimestamp", json!("2026-01-01T11:59:00Z")),
    ] {
        let odd = changed("zz", pointer, value);
        let other = changed("aa", "/spec/nodeName", json!("n1"));
        let pods = [other, odd];
        assert_eq!(first_to_go(&pods, &pods), "zz", "{what}");
    }
}

#[test]
fn the_crowded_node_gives_first() {
    let crowded = changed("zz", "/spec/nodeName", json!("n2"));
    let lonely = changed("aa", "/spec/nodeName", json!("n1"));
    let related = [crowded.clone(), lonely.clone(), changed("other", "/spec/nodeName", json!("n2"))];
    assert_eq!(first_to_go(&[lonely, crowded], &related), "zz");
}

fn set() -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "set", "generation": 4},
        "spec": {"replicas": 3, "minReadySeconds": 120, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web", "tier": "front"}}}},
    }))
    .unwrap()
}

#[test]
fn status_counts() {
    let pods = [
        changed("long ready", "/metadata/labels", json!({"app": "web", "tier": "front"})),
        changed("just ready", "/status/conditions/0/lastTransitionTime", json!("2026-01-01T11:59:00Z")),
        changed("not ready", "/status/conditions/0/status", json!("False")),
    ];
    let status = status(&set(), &pods, 2, None, now());
    assert_eq!(
        serde_json::to_value(status).unwrap(),
        json!({"replicas": 3, "fullyLabeledReplicas": 1, "readyReplicas": 2, "availableReplicas": 1,
            "terminatingReplicas": 2, "observedGeneration": 4})
    );
}

#[test]
fn a_failure_keeps_its_first_time() {
    let mut set = set();
    let first = status(&set, &[], 0, Some(("FailedCreate", "quota".to_owned())), now());
    set.status = Some(first.clone());
    let later = "2026-01-01T13:00:00Z".parse().unwrap();
    let second = status(&set, &[], 0, Some(("FailedCreate", "quota again".to_owned())), later);
    assert_eq!(second.conditions, first.conditions);
    assert_eq!(status(&set, &[], 0, None, later).conditions, None);
}

#[test]
fn claims() {
    let selector = selector(&"web", &set().spec.unwrap().selector).unwrap();
    let owned = |uid: &str| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid, "controller": true}]);
    let check = |pod: &Pod, deleting: bool, expect: Claim| {
        assert_eq!(claim(pod, "set", deleting, &selector), expect, "{pod:?}");
    };
    let mut mine = (*changed("p", "/metadata/ownerReferences", owned("set"))).clone();
    check(&mine, false, Claim::Keep);
    mine.metadata.labels = None;
    check(&mine, false, Claim::Release);
    check(&mine, true, Claim::Ignore);
    check(&changed("p", "/metadata/ownerReferences", owned("other")), false, Claim::Ignore);
    check(&changed("p", "/spec/nodeName", json!("n1")), false, Claim::Adopt);
    check(&changed("p", "/spec/nodeName", json!("n1")), true, Claim::Ignore);
    check(&changed("p", "/metadata/labels", json!({"app": "db"})), false, Claim::Ignore);
    check(&changed("p", "/metadata/deletionTimestamp", json!(NOW)), false, Claim::Ignore);
}
