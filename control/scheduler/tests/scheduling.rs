//! The whole scheduler against a fake API server, on paused time.

#![allow(clippy::needless_pass_by_value, reason = "tables read better with json! values passed as they are")]

mod fake;

use fake::FakeApi;
use orlop_scheduler::{SchedulerConfig, run};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn start(api: &FakeApi) -> Running {
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run(api.client(), SchedulerConfig::default(), shutdown.clone()));
    Running { shutdown, task }
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c", "image": "i",
            "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}}]},
        "status": {"phase": "Pending"}})
}

fn node(name: &str, cpu: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}})
}

#[tokio::test(start_paused = true)]
async fn a_burst_fills_the_nodes_and_no_more() {
    let api = FakeApi::new();
    for name in ["a", "b"] {
        api.put("nodes", node(name, "4", json!({})));
    }
    for i in 0..9 {
        api.put("pods", pod(&format!("p{i}"), "1"));
    }
    let running = start(&api);
    api.eventually("8 pods bound", |a| a.bindings().len() == 8).await;
    let message = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    let failed = format!("FailedScheduling: {message}");
    api.eventually("the ninth is refused", |a| a.events().contains(&failed)).await;
    for name in ["a", "b"] {
        assert_eq!(api.bindings().iter().filter(|(_, n)| n == name).count(), 4);
    }
    api.eventually("every binding has its event", |a| {
        a.bindings()
            .iter()
            .all(|(pod, node)| a.events().contains(&format!("Scheduled: Successfully assigned {pod} to {node}")))
    })
    .await;
    let (bound, _) = api.bindings().into_iter().next().unwrap();
    api.delete("pods", &bound);
    api.eventually("room was taken by the ninth", |a| a.bindings().len() == 9).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_pod_says_so_and_goes_when_the_taint_does() {
    let api = FakeApi::new();
    let taint = json!({"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]});
    api.put("nodes", node("a", "4", taint));
    api.put("pods", pod("p", "1"));
    let running = start(&api);
    api.eventually("the condition is there", |a| !a.get("pods", "default/p")["status"]["conditions"].is_null()).await;
    let condition = api.get("pods", "default/p")["status"]["conditions"][0].clone();
    assert_eq!(condition["type"], "PodScheduled");
    assert_eq!(condition["status"], "False");
    assert_eq!(condition["reason"], "Unschedulable");
    assert_eq!(
        condition["message"],
        "0/1 nodes are available: 1 node(s) had untolerated taint(s). preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    api.put("nodes", node("a", "4", json!({})));
    api.eventually("bound", |a| a.bindings() == [("default/p".to_owned(), "a".to_owned())]).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_wait_for_the_first_node() {
    let api = FakeApi::new();
    let running = start(&api);
    api.put("pods", pod("p", "1"));
    api.eventually("refused", |a| {
        a.events().contains(&"FailedScheduling: no nodes available to schedule pods".to_owned())
    })
    .await;
    api.put("nodes", node("a", "4", json!({})));
    api.eventually("bound", |a| a.bindings().len() == 1).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_binding_is_tried_again() {
    let api = FakeApi::new();
    api.put("nodes", node("a", "1", json!({})));
    api.put("pods", pod("p", "1"));
    api.refuse_bindings(2);
    let running = start(&api);
    api.eventually("bound", |a| a.bindings().len() == 1).await;
    assert!(api.events().iter().any(|e| e.starts_with("FailedScheduling: binding rejected: ")), "{:?}", api.events());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn other_schedulers_pods_and_gated_ones_are_left_alone() {
    let api = FakeApi::new();
    api.put("nodes", node("a", "4", json!({})));
    let mut other = pod("other", "1");
    other["spec"]["schedulerName"] = json!("mine");
    api.put("pods", other);
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{"name": "x/y"}]);
    api.put("pods", gated);
    let running = start(&api);
    api.put("pods", pod("p", "1"));
    api.eventually("the plain one is bound", |a| a.bindings().len() == 1).await;
    api.put("pods", pod("gated", "1"));
    api.eventually("the gate is gone", |a| a.bindings().len() == 2).await;
    assert!(!api.bindings().iter().any(|(pod, _)| pod == "default/other"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_important_pod_takes_the_place_of_another() {
    let api = FakeApi::new();
    api.put("nodes", node("a", "1", json!({})));
    api.put("pods", pod("low", "1"));
    let running = start(&api);
    api.eventually("low is bound", |a| a.bindings().len() == 1).await;
    let mut high = pod("high", "1");
    high["spec"]["priority"] = json!(1000);
    api.put("pods", high);
    api.eventually("high is bound", |a| a.bindings().iter().any(|(pod, _)| pod == "default/high")).await;
    assert!(api.get("pods", "default/low").is_null());
    assert_eq!(api.get("pods", "default/high")["status"]["nominatedNodeName"], "a");
    running.stop().await;
}
