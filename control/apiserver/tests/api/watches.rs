//! Watches: resuming, initial events, bookmarks, selectors, what is too old.

use std::time::Duration;

use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use crate::raw::{call, delete, get, post};
use crate::support::TestServer;
use crate::writes::config_map;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

type Lines = std::pin::Pin<Box<dyn futures::Stream<Item = std::io::Result<String>> + Send>>;

async fn watch(client: &kube::Client, query: &str) -> Lines {
    let path = format!("{CONFIG_MAPS}?watch=true&labelSelector=test&{query}");
    let request = http::Request::get(path).body(Body::empty()).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let stream = response.into_body().into_data_stream().map_err(std::io::Error::other);
    Box::pin(stream.into_async_read().lines())
}

async fn next(lines: &mut Lines) -> Option<Value> {
    let line =
        tokio::time::timeout(Duration::from_secs(10), lines.try_next()).await.expect("an event in time").unwrap();
    line.map(|line| serde_json::from_str(&line).unwrap())
}

async fn titles(lines: &mut Lines, n: usize) -> Vec<String> {
    let mut out = Vec::new();
    for _ in 0..n {
        let event = next(lines).await.expect("one more event");
        out.push(format!(
            "{} {}",
            event["type"].as_str().unwrap(),
            event["object"]["metadata"]["name"].as_str().unwrap_or("-")
        ));
    }
    out
}

fn labelled(name: &str) -> Value {
    let mut object = config_map(name);
    object["metadata"]["labels"] = json!({"test": "yes"});
    object
}

async fn label(client: &kube::Client, name: &str, value: Value) {
    let patch = json!({"metadata": {"labels": {"test": value}}}).to_string();
    call(client, "PATCH", &format!("{CONFIG_MAPS}/{name}"))
        .body("application/merge-patch+json", patch)
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn a_watch_goes_on_where_a_list_ended() {
    let server = TestServer::start().await;
    let client = server.client();
    post(&client, CONFIG_MAPS, &labelled("before")).await.expect(201);
    let version = get(&client, CONFIG_MAPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    post(&client, CONFIG_MAPS, &labelled("a")).await.expect(201);
    let mut events = watch(&client, &format!("resourceVersion={version}")).await;
    assert_eq!(titles(&mut events, 1).await, ["ADDED a"]);
    // Into the selection, out of it, and gone.
    post(&client, CONFIG_MAPS, &config_map("b")).await.expect(201);
    label(&client, "b", json!("yes")).await;
    label(&client, "b", json!("still")).await;
    label(&client, "b", Value::Null).await;
    delete(&client, &format!("{CONFIG_MAPS}/a"), &json!({})).await.expect(200);
    assert_eq!(titles(&mut events, 2).await, ["ADDED b", "MODIFIED b"]);
    let left = next(&mut events).await.unwrap();
    assert_eq!((&left["type"], &left["object"]["metadata"]["labels"]["test"]), (&json!("DELETED"), &json!("still")));
    assert_eq!(titles(&mut events, 1).await, ["DELETED a"]);
    server.stop().await;
    assert!(next(&mut events).await.is_none(), "a watch ends with the server");
}

#[tokio::test]
async fn watch_lists() {
    let server = TestServer::start().await;
    let client = server.client();
    post(&client, CONFIG_MAPS, &labelled("a")).await.expect(201);
    post(&client, CONFIG_MAPS, &labelled("b")).await.expect(201);
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = watch(&client, query).await;
    assert_eq!(titles(&mut events, 2).await, ["ADDED a", "ADDED b"]);
    let bookmark = next(&mut events).await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    post(&client, CONFIG_MAPS, &labelled("c")).await.expect(201);
    assert_eq!(titles(&mut events, 1).await, ["ADDED c"]);
    let plain = titles(&mut watch(&client, "resourceVersion=0").await, 3).await;
    assert_eq!(plain, ["ADDED a", "ADDED b", "ADDED c"]);
    server.stop().await;
}

#[tokio::test]
async fn too_old_is_told_in_the_stream() {
    let server = TestServer::start_with(|config| config.limits.watch_ring_events = 4).await;
    let client = server.client();
    let version = get(&client, CONFIG_MAPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    for i in 0..10 {
        post(&client, CONFIG_MAPS, &labelled(&format!("m{i}"))).await.expect(201);
    }
    let mut events = watch(&client, &format!("resourceVersion={version}")).await;
    let error = next(&mut events).await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert!(next(&mut events).await.is_none());
    server.stop().await;
}

#[tokio::test]
async fn a_watch_ends_after_its_time() {
    let server = TestServer::start().await;
    let mut events = watch(&server.client(), "timeoutSeconds=1&resourceVersion=0").await;
    assert!(next(&mut events).await.is_none());
    server.stop().await;
}

#[tokio::test]
async fn kube_rs_reflectors_follow() {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::runtime::{WatchStreamExt as _, watcher};

    let server = TestServer::start().await;
    let client = server.client();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    for config in
        [watcher::Config::default().labels("test"), watcher::Config::default().labels("test").streaming_lists()]
    {
        let name = format!("kube-{}", config.initial_list_strategy == watcher::InitialListStrategy::StreamingList);
        let mut stream = Box::pin(watcher(api.clone(), config).default_backoff().applied_objects());
        post(&client, CONFIG_MAPS, &labelled(&name.to_lowercase())).await.expect(201);
        loop {
            let seen =
                tokio::time::timeout(Duration::from_secs(10), stream.try_next()).await.unwrap().unwrap().unwrap();
            if seen.metadata.name.as_deref() == Some(name.as_str()) {
                break;
            }
        }
    }
    server.stop().await;
}
