//! What goes with its owner, and namespaces that go with everything in them.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cluster::Cluster;
use crate::rollout::deployment;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependents_follow_their_owner() {
    let cluster = Cluster::start().await;
    let deployments = cluster.in_t::<Deployment>();
    for params in [DeleteParams::background(), DeleteParams::foreground()] {
        cluster.create::<Deployment>(deployment("web", 2)).await;
        cluster.count::<Pod>(2).await;
        deployments.delete("web", &params).await.unwrap();
        cluster.count::<Pod>(0).await;
        cluster.count::<ReplicaSet>(0).await;
        cluster.count::<Deployment>(0).await;
    }
    // Orphans stay, and are adopted by the next of the kind.
    cluster.create::<Deployment>(deployment("web", 2)).await;
    cluster.count::<Pod>(2).await;
    deployments.delete("web", &DeleteParams::orphan()).await.unwrap();
    cluster.count::<Deployment>(0).await;
    let sets = cluster.count::<ReplicaSet>(1).await;
    assert!(sets[0].owner_references().is_empty(), "{:?}", sets[0].metadata);
    cluster.create::<Deployment>(deployment("web", 2)).await;
    cluster
        .eventually("an adopted set", || async {
            let sets = cluster.in_t::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
            if sets.len() == 1 && !sets[0].owner_references().is_empty() { Ok(()) } else { Err(sets.len()) }
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_never_was() {
    let cluster = Cluster::start().await;
    let owner = |name: &str, uid: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid});
    let real = cluster.create::<ConfigMap>(json!({"metadata": {"name": "real"}})).await;
    cluster
        .create::<ConfigMap>(json!({"metadata": {"name": "lost", "ownerReferences": [owner("none", "no-such-uid")]}}))
        .await;
    let uid = real.uid().unwrap();
    cluster.create::<ConfigMap>(json!({"metadata": {"name": "held", "ownerReferences": [owner("none", "no-such-uid"), owner("real", &uid)]}})).await;
    let maps = cluster.in_t::<ConfigMap>();
    cluster
        .eventually("lost gone, held with one owner", || async {
            let lost = maps.get_opt("lost").await.unwrap();
            let held = maps.get("held").await.unwrap();
            if lost.is_none() && held.owner_references().len() == 1 { Ok(()) } else { Err((lost, held)) }
        })
        .await;
    maps.delete("real", &DeleteParams::default()).await.unwrap();
    cluster.eventually("held gone", || async { maps.get_opt("held").await.unwrap().map_or(Ok(()), Err) }).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_with_its_content() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment("web", 2)).await;
    cluster
        .create::<Service>(
            json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
        )
        .await;
    cluster.create::<ConfigMap>(json!({"metadata": {"name": "kept", "finalizers": ["example.com/hold"]}})).await;
    cluster.count::<Pod>(2).await;
    cluster.count::<EndpointSlice>(1).await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    namespaces.delete("t", &DeleteParams::default()).await.unwrap();
    cluster
        .eventually("a namespace that waits for a finalizer", || async {
            let status = namespaces.get("t").await.unwrap().status.unwrap_or_default();
            let waits = status.conditions.iter().flatten().any(|c| {
                c.type_ == "NamespaceFinalizersRemaining"
                    && c.status == "True"
                    && c.message.as_deref().is_some_and(|m| m.contains("example.com/hold"))
            });
            if waits { Ok(()) } else { Err(status) }
        })
        .await;
    cluster.count::<Pod>(0).await;
    let free = json!({"metadata": {"finalizers": null}});
    cluster.in_t::<ConfigMap>().patch("kept", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    cluster
        .eventually("no namespace", || async {
            namespaces.get_opt("t").await.unwrap().map_or(Ok(()), |n| Err(n.status))
        })
        .await;
    cluster.stop().await;
}
