//! Lists: selectors, pages, versions, tables.

use serde_json::json;

use crate::raw::{call, get, post};
use crate::support::TestServer;
use crate::writes::config_map;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

async fn with_maps(n: usize) -> (TestServer, kube::Client) {
    let server = TestServer::start().await;
    let client = server.client();
    for i in 0..n {
        let mut object = config_map(&format!("m{i}"));
        object["metadata"]["labels"] = json!({"parity": if i % 2 == 0 { "even" } else { "odd" }, "test": "yes"});
        post(&client, CONFIG_MAPS, &object).await.expect(201);
    }
    (server, client)
}

#[tokio::test]
async fn selectors() {
    let (server, client) = with_maps(6).await;
    for (query, count) in [
        ("labelSelector=test%3Dyes", 6),
        ("labelSelector=parity%3Deven", 3),
        ("labelSelector=parity+in+(odd)%2Ctest", 3),
        ("labelSelector=test&fieldSelector=metadata.name%3Dm3", 1),
        ("labelSelector=!test", 0),
    ] {
        let list = get(&client, &format!("{CONFIG_MAPS}?{query}")).await.expect(200).json();
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{query}");
        assert_eq!(list["kind"], "ConfigMapList");
    }
    get(&client, &format!("{CONFIG_MAPS}?labelSelector=%3D%3D")).await.expect(400);
    get(&client, &format!("{CONFIG_MAPS}?fieldSelector=spec.none%3D1")).await.expect(400);
    server.stop().await;
}

#[tokio::test]
async fn pages_are_of_one_revision() {
    let (server, client) = with_maps(7).await;
    let base = format!("{CONFIG_MAPS}?labelSelector=test&limit=3");
    let first = get(&client, &base).await.expect(200).json();
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    // What comes later is not in it.
    let mut late = config_map("m1a");
    late["metadata"]["labels"] = json!({"test": "yes"});
    late["metadata"]["name"] = json!("m99");
    post(&client, CONFIG_MAPS, &late).await.expect(201);
    let mut names = Vec::new();
    let mut page = first.clone();
    loop {
        names.extend(
            page["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()),
        );
        assert_eq!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        page = get(&client, &format!("{base}&continue={token}")).await.expect(200).json();
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    let whole = get(&client, &format!("{CONFIG_MAPS}?limit=2")).await.json();
    assert!(whole["metadata"]["remainingItemCount"].as_i64().unwrap() >= 6);
    get(&client, &format!("{base}&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIiwibWFjIjoieCJ9"))
        .await
        .expect(410);
    // A page of compacted history is gone.
    let token = first["metadata"]["continue"].as_str().unwrap();
    let now: i64 =
        get(&client, CONFIG_MAPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    server.store.compact(now).await.unwrap();
    let gone = get(&client, &format!("{base}&continue={token}")).await.expect(410).json();
    assert_eq!(gone["reason"], "Expired");
    server.stop().await;
}

#[tokio::test]
async fn versions() {
    let (server, client) = with_maps(3).await;
    let now = get(&client, CONFIG_MAPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    post(&client, CONFIG_MAPS, &config_map("later")).await.expect(201);
    let count = async |query: &str| {
        let list = get(&client, &format!("{CONFIG_MAPS}?{query}")).await.expect(200).json();
        list["items"].as_array().unwrap().iter().filter(|o| o["data"]["a"] == "1").count()
    };
    assert_eq!(count("").await, 4);
    assert_eq!(count(&format!("resourceVersion={now}&resourceVersionMatch=Exact")).await, 3);
    assert_eq!(count(&format!("resourceVersion={now}&resourceVersionMatch=NotOlderThan")).await, 4);
    assert!(count("resourceVersion=0").await >= 3);
    get(&client, &format!("{CONFIG_MAPS}?resourceVersionMatch=Exact")).await.expect(422);
    server.stop().await;
}

#[tokio::test]
async fn tables_and_metadata() {
    let (server, client) = with_maps(2).await;
    let path = format!("{CONFIG_MAPS}?labelSelector=test");
    let table = call(&client, "GET", &path).header("accept", TABLE).send().await.expect(200).json();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "m0");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = call(&client, "GET", &path).header("accept", accept).send().await.expect(200).json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0].get("data").is_none());
    call(&client, "GET", &path).header("accept", "application/vnd.kubernetes.protobuf").send().await.expect(406);
    let yaml = call(&client, "GET", &path).header("accept", "application/yaml").send().await.expect(200);
    assert!(yaml.text.starts_with("kind: ConfigMapList"), "{}", yaml.text);
    server.stop().await;
}
