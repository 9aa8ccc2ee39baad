//! The scheduler as the control plane runs it: the real API server, store and admission.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, Pod, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use orlop_plane::{PlaneConfig, UserInfo};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// Asks until there is an answer; the last refusal says what was seen instead.
async fn eventually<T, E: Debug, F: Future<Output = Result<T, E>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let mut last = None;
    for _ in 0..400 {
        match probe().await {
            Ok(found) => return found,
            Err(seen) => last = Some(seen),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never saw {what}; last: {last:?}");
}

async fn add_node(client: &Client, taints: Value) {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({"metadata": {"name": "n1"}, "spec": {"taints": taints}});
    nodes.create(&PostParams::default(), &object(node)).await.unwrap();
    let now = jiff::Timestamp::now().to_string();
    let status = json!({"status": {
        "capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now}],
    }});
    nodes.patch_status("n1", &PatchParams::default(), &Patch::Strategic(&status)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_shows_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let loopback: IpAddr = "127.0.0.1".parse().unwrap();
    let mut config =
        PlaneConfig::new(dir.path().to_owned(), "n1".to_owned(), vec![loopback], Arc::new(jiff::Timestamp::now));
    config.bind_address = loopback;
    config.secure_port = 0;
    let shutdown = CancellationToken::new();
    let plane = orlop_plane::start(config, shutdown.clone()).await.expect("the control plane starts");
    let client = plane.client(UserInfo::new("admin", &["system:masters"]));
    add_node(&client, json!([{"key": "example.com/mine", "value": "x", "effect": "NoSchedule"}])).await;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    eventually("the default service account", || async { accounts.get_opt("default").await.unwrap().ok_or("none") })
        .await;

    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    pods.create(&PostParams::default(), &object(pod)).await.unwrap();
    let condition = eventually("the condition", || async {
        let status = pods.get("p").await.unwrap().status.unwrap_or_default();
        let condition = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled").cloned();
        condition.ok_or(status)
    })
    .await;
    assert_eq!((condition.status.as_str(), condition.reason.as_deref()), ("False", Some("Unschedulable")));
    let message = condition.message.unwrap_or_default();
    assert!(message.contains("node(s) had untolerated taint(s)"), "{message}");
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let says = |reason: &'static str, text: String| {
        let events = events.clone();
        async move {
            eventually(reason, || async {
                let all = events.list(&ListParams::default()).await.unwrap().items;
                let told: Vec<_> = all.into_iter().map(|e| (e.reason, e.message)).collect();
                if told.contains(&(Some(reason.to_owned()), Some(text.clone()))) { Ok(()) } else { Err(told) }
            })
            .await;
        }
    };
    says("FailedScheduling", message).await;

    let nodes: Api<Node> = Api::all(client.clone());
    let untainted = Patch::Merge(json!({"spec": {"taints": null}}));
    eventually("the taint is gone", || async {
        // The node controller may add a taint of its own meanwhile.
        nodes.patch("n1", &PatchParams::default(), &untainted).await.map(|_| ())
    })
    .await;
    eventually("the pod is bound", || async {
        let pod = pods.get("p").await.unwrap();
        let node = pod.spec.as_ref().and_then(|s| s.node_name.clone());
        node.filter(|n| n == "n1").ok_or(pod.status)
    })
    .await;
    let conditions = pods.get("p").await.unwrap().status.unwrap_or_default().conditions.unwrap_or_default();
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled").expect("the condition stays");
    assert_eq!(scheduled.status, "True");
    says("Scheduled", "Successfully assigned default/p to n1".to_owned()).await;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(20), plane.stopped()).await.expect("it stops");
}
