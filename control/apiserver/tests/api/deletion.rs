//! delete: grace, finalizers, preconditions, collections, namespaces, evictions.

use serde_json::{Value, json};

use crate::raw::{call, delete, get, post, put};
use crate::support::TestServer;
use crate::writes::config_map;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]}})
}

async fn with_account() -> (TestServer, kube::Client) {
    let server = TestServer::start().await;
    let client = server.client();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    post(&client, "/api/v1/namespaces/default/serviceaccounts", &account).await.expect(201);
    (server, client)
}

async fn bind(client: &kube::Client, name: &str) {
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": "n"}});
    post(client, &format!("{PODS}/{name}/binding"), &binding).await.expect(201);
}

#[tokio::test]
async fn pods_go_when_their_kubelet_says_so() {
    let (server, client) = with_account().await;
    let made = post(&client, PODS, &pod("p")).await.expect(201).json();
    assert_eq!((&made["status"]["phase"], &made["status"]["qosClass"]), (&json!("Pending"), &json!("BestEffort")));
    let path = format!("{PODS}/p");
    bind(&client, "p").await;
    let again = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "m"}});
    post(&client, &format!("{path}/binding"), &again).await.expect(409);
    let bound = get(&client, &path).await.json();
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");

    let marked = delete(&client, &path, &json!({"gracePeriodSeconds": 20})).await.expect(200).json();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 20);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    get(&client, &path).await.expect(200);
    delete(&client, &path, &json!({"gracePeriodSeconds": 0})).await.expect(200);
    get(&client, &path).await.expect(404);

    post(&client, PODS, &pod("unscheduled")).await.expect(201);
    delete(&client, &format!("{PODS}/unscheduled"), &json!({})).await.expect(200);
    get(&client, &format!("{PODS}/unscheduled")).await.expect(404);
    server.stop().await;
}

#[tokio::test]
async fn finalizers_and_preconditions_hold() {
    let server = TestServer::start().await;
    let client = server.client();
    let mut object = config_map("f");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    post(&client, CONFIG_MAPS, &object).await.expect(201);
    let path = format!("{CONFIG_MAPS}/f");
    delete(&client, &path, &json!({"preconditions": {"uid": "other"}})).await.expect(409);
    delete(&client, &path, &json!({"preconditions": {"resourceVersion": "1"}})).await.expect(409);
    delete(&client, &format!("{path}?dryRun=All"), &json!({})).await.expect(200);
    assert!(get(&client, &path).await.json()["metadata"].get("deletionTimestamp").is_none());
    delete(&client, &path, &json!({})).await.expect(200);
    let mut held = get(&client, &path).await.expect(200).json();
    held["metadata"]["finalizers"] = json!(["example.com/hold", "example.com/more"]);
    put(&client, &path, &held).await.expect(422);
    held["metadata"].as_object_mut().unwrap().remove("finalizers");
    put(&client, &path, &held).await.expect(200);
    get(&client, &path).await.expect(404);

    post(&client, CONFIG_MAPS, &config_map("g")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/g");
    delete(&client, &path, &json!({"propagationPolicy": "Foreground"})).await.expect(200);
    assert_eq!(get(&client, &path).await.json()["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    delete(&client, &path, &json!({"propagationPolicy": "Sideways"})).await.expect(422);
    server.stop().await;
}

#[tokio::test]
async fn collections() {
    let server = TestServer::start().await;
    let client = server.client();
    for i in 0..10 {
        let mut object = config_map(&format!("m{i}"));
        object["metadata"]["labels"] = json!({"doomed": if i < 7 { "yes" } else { "no" }});
        post(&client, CONFIG_MAPS, &object).await.expect(201);
    }
    let gone = call(&client, "DELETE", &format!("{CONFIG_MAPS}?labelSelector=doomed%3Dyes")).send().await.expect(200);
    assert_eq!(gone.json()["items"].as_array().unwrap().len(), 7);
    let left = get(&client, &format!("{CONFIG_MAPS}?labelSelector=doomed")).await.json();
    assert_eq!(left["items"].as_array().unwrap().len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn namespaces_are_finalized() {
    let server = TestServer::start().await;
    let client = server.client();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    let made = post(&client, "/api/v1/namespaces", &namespace).await.expect(201).json();
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    let path = "/api/v1/namespaces/n";
    let mut marked = delete(&client, path, &json!({})).await.expect(200).json();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = post(&client, "/api/v1/namespaces/n/configmaps", &config_map("late")).await.expect(403).json();
    assert!(refused["message"].as_str().unwrap().contains("being terminated"), "{refused}");
    marked["spec"]["finalizers"] = json!([]);
    put(&client, &format!("{path}/finalize"), &marked).await.expect(200);
    get(&client, path).await.expect(404);
    server.stop().await;
}

#[tokio::test]
async fn evictions_ask_the_budget() {
    let (server, client) = with_account().await;
    post(&client, PODS, &pod("p")).await.expect(201);
    bind(&client, "p").await;
    let mut running = get(&client, &format!("{PODS}/p")).await.json();
    running["status"]["phase"] = json!("Running");
    running["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    put(&client, &format!("{PODS}/p/status"), &running).await.expect(200);
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    post(&client, budgets, &budget).await.expect(201);
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1,
        "desiredHealthy": 1, "expectedPods": 1}});
    let set = |status: Value| {
        call(&client, "PATCH", "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b/status")
            .body("application/merge-patch+json", status.to_string())
            .send()
    };
    set(status).await.expect(200);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let refused = post(&client, &format!("{PODS}/p/eviction"), &eviction).await.expect(429).json();
    assert_eq!(refused["details"]["causes"][0]["reason"], "DisruptionBudget");
    set(json!({"status": {"disruptionsAllowed": 1}})).await.expect(200);
    post(&client, &format!("{PODS}/p/eviction"), &eviction).await.expect(201);
    assert!(get(&client, &format!("{PODS}/p")).await.json()["metadata"]["deletionTimestamp"].is_string());
    let left = get(&client, &format!("{budgets}/b")).await.json();
    assert_eq!(left["status"]["disruptionsAllowed"], 0);
    server.stop().await;
}
