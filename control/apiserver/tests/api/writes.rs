//! create, update, patch, dry run, strict decoding, conflicts, subresources.

use serde_json::{Value, json};

use crate::raw::{call, get, post, put};
use crate::support::TestServer;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

pub(crate) fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

pub(crate) fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn objects_are_created_read_updated_and_named() {
    let server = TestServer::start().await;
    let client = server.client();
    let made = post(&client, CONFIG_MAPS, &config_map("a")).await.expect(201).json();
    assert!(!made["metadata"]["uid"].as_str().unwrap().is_empty());
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Update");
    let again = post(&client, CONFIG_MAPS, &config_map("a")).await.expect(409).json();
    assert_eq!(again["reason"], "AlreadyExists");
    assert_eq!(again["message"], r#"configmaps "a" already exists"#);

    let path = format!("{CONFIG_MAPS}/a");
    assert_eq!(get(&client, &path).await.expect(200).json(), made);
    let mut changed = made.clone();
    changed["data"]["a"] = json!("2");
    let second = put(&client, &path, &changed).await.expect(200).json();
    assert_ne!(second["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let stale = put(&client, &path, &changed).await.expect(409).json();
    assert_eq!(stale["reason"], "Conflict");
    // Writing what is there already is no new revision.
    let same = put(&client, &path, &second).await.expect(200).json();
    assert_eq!(same["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);

    let mut generated = config_map("");
    generated["metadata"] = json!({"generateName": "gen-"});
    let name = post(&client, CONFIG_MAPS, &generated).await.expect(201).json()["metadata"]["name"].clone();
    assert!(name.as_str().unwrap().starts_with("gen-") && name.as_str().unwrap().len() == 9, "{name}");
    assert_eq!(get(&client, &format!("{CONFIG_MAPS}/none")).await.expect(404).json()["reason"], "NotFound");
    server.stop().await;
}

#[tokio::test]
async fn patches() {
    let server = TestServer::start().await;
    let client = server.client();
    post(&client, DEPLOYMENTS, &deployment("d")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/d");
    let patch = async |content_type: &str, body: Value| {
        call(&client, "PATCH", &path).body(content_type, body.to_string()).send().await
    };
    let merged = patch("application/merge-patch+json", json!({"spec": {"replicas": 2}})).await.expect(200).json();
    assert_eq!((&merged["spec"]["replicas"], &merged["metadata"]["generation"]), (&json!(2), &json!(2)));
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "j"}]}}}});
    let merged = patch("application/strategic-merge-patch+json", strategic).await.expect(200).json();
    assert_eq!(merged.pointer("/spec/template/spec/containers").unwrap().as_array().unwrap().len(), 2);
    let operations = json!([{"op": "replace", "path": "/spec/replicas", "value": 3}]);
    let replaced = patch("application/json-patch+json", operations).await.expect(200).json();
    assert_eq!(replaced["spec"]["replicas"], 3);
    patch("application/json-patch+json", json!([{"op": "test", "path": "/spec/replicas", "value": 9}]))
        .await
        .expect(422);
    patch("text/plain", json!({})).await.expect(415);
    patch("application/merge-patch+json", json!({"metadata": {"resourceVersion": "1"}})).await.expect(409);
    server.stop().await;
}

#[tokio::test]
async fn server_side_apply_creates_owns_and_refuses() {
    let server = TestServer::start().await;
    let client = server.client();
    let apply = async |manager: &str, value: &str, force: bool| {
        let mut object = config_map("ssa");
        object["data"]["a"] = json!(value);
        let path = format!("{CONFIG_MAPS}/ssa?fieldManager={manager}&force={force}");
        call(&client, "PATCH", &path).body("application/apply-patch+yaml", object.to_string()).send().await
    };
    apply("one", "1", false).await.expect(201);
    assert_eq!(apply("two", "2", false).await.expect(409).json()["reason"], "Conflict");
    let forced = apply("two", "2", true).await.expect(200).json();
    assert_eq!(forced["data"]["a"], "2");
    let version = forced["metadata"]["resourceVersion"].clone();
    assert_eq!(apply("two", "2", true).await.expect(200).json()["metadata"]["resourceVersion"], version);
    server.stop().await;
}

#[tokio::test]
async fn unknown_fields_and_dry_runs() {
    let server = TestServer::start().await;
    let client = server.client();
    let mut object = config_map("x");
    object["dat"] = json!({});
    let strict = post(&client, &format!("{CONFIG_MAPS}?fieldValidation=Strict"), &object).await.expect(400).json();
    assert!(strict["message"].as_str().unwrap().contains(r#"unknown field "dat""#), "{strict}");
    let dry = post(&client, &format!("{CONFIG_MAPS}?dryRun=All"), &object).await.expect(201);
    assert_eq!(dry.headers["warning"], r#"299 - "unknown field \"dat\"""#);
    assert!(dry.json().get("dat").is_none());
    get(&client, &format!("{CONFIG_MAPS}/x")).await.expect(404);
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-yaml}\ndata: {a: b}\n";
    call(&client, "POST", CONFIG_MAPS).body("application/yaml", yaml).send().await.expect(201);
    call(&client, "POST", CONFIG_MAPS).body("application/cbor", "x").send().await.expect(415);
    post(&client, CONFIG_MAPS, &json!({"kind": "Secret", "apiVersion": "v1"})).await.expect(400);
    let invalid = post(&client, CONFIG_MAPS, &config_map("Not A Name")).await.expect(422).json();
    assert_eq!(invalid["details"]["causes"][0]["field"], "metadata.name");
    server.stop().await;
}

#[tokio::test]
async fn status_and_scale_are_kept_apart() {
    let server = TestServer::start().await;
    let client = server.client();
    post(&client, DEPLOYMENTS, &deployment("d")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/d");
    let mut object = get(&client, &path).await.json();
    object["spec"]["replicas"] = json!(7);
    object["status"] = json!({"replicas": 4, "observedGeneration": 1});
    let after = put(&client, &format!("{path}/status"), &object).await.expect(200).json();
    assert_eq!((&after["spec"]["replicas"], &after["status"]["replicas"]), (&json!(1), &json!(4)));
    let scale = get(&client, &format!("{path}/scale")).await.expect(200).json();
    assert_eq!((&scale["status"]["selector"], &scale["status"]["replicas"]), (&json!("app=d"), &json!(4)));
    let scaled = call(&client, "PATCH", &format!("{path}/scale"))
        .body("application/merge-patch+json", r#"{"spec":{"replicas":5}}"#)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(scaled["spec"]["replicas"], 5);
    assert_eq!(get(&client, &path).await.json()["metadata"]["generation"], 2);
    server.stop().await;
}

#[tokio::test]
async fn two_writers_lose_nothing() {
    let server = TestServer::start().await;
    let client = server.client();
    post(&client, CONFIG_MAPS, &config_map("race")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/race");
    let writers = (0..16).map(|i| {
        let (client, path) = (client.clone(), path.clone());
        async move {
            let patch = json!({"data": {format!("k{i}"): "v"}}).to_string();
            call(&client, "PATCH", &path).body("application/merge-patch+json", patch).send().await.expect(200);
        }
    });
    futures::future::join_all(writers).await;
    assert_eq!(get(&client, &path).await.json()["data"].as_object().unwrap().len(), 17);
    server.stop().await;
}

#[tokio::test]
async fn services_get_addresses() {
    let server = TestServer::start().await;
    let client = server.client();
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, ip: Option<&str>| {
        let mut s = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "NodePort", "ports": [{"port": 80}], "selector": {"a": "b"}}});
        if let Some(ip) = ip {
            s["spec"]["clusterIP"] = json!(ip);
        }
        s
    };
    let made = post(&client, services, &service("a", None)).await.expect(201).json();
    let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert!((30000..=32767).contains(&made["spec"]["ports"][0]["nodePort"].as_i64().unwrap()));
    post(&client, services, &service("b", Some(&ip))).await.expect(422);
    call(&client, "DELETE", &format!("{services}/a")).send().await.expect(200);
    post(&client, services, &service("b", Some(&ip))).await.expect(201);
    server.stop().await;
}

#[tokio::test]
async fn events_are_one_thing_in_two_groups() {
    let server = TestServer::start().await;
    let client = server.client();
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R", "message": "hello",
        "type": "Normal"});
    post(&client, "/api/v1/namespaces/default/events", &event).await.expect(201);
    let list = get(&client, "/apis/events.k8s.io/v1/namespaces/default/events").await.expect(200).json();
    assert_eq!(list["items"][0]["note"], "hello");
    assert_eq!(list["items"][0]["apiVersion"], "events.k8s.io/v1");
    let selected = "/api/v1/events?fieldSelector=involvedObject.name%3Dp,reason%3DR";
    assert_eq!(get(&client, selected).await.expect(200).json()["items"].as_array().unwrap().len(), 1);
    server.stop().await;
}
