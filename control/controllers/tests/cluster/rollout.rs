//! Deployment, ReplicaSet, EndpointSlice together.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Event, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::Cluster;

pub(crate) fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "metadata": {"name": name, "annotations": {"team": "a"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "c", "image": "one", "ports": [{"name": "http", "containerPort": 8080}]}]},
            },
        },
    })
}

async fn complete(cluster: &Cluster, replicas: i32, image: &str) -> Deployment {
    cluster
        .eventually("a complete roll-out", || async {
            let d = cluster.in_t::<Deployment>().get("web").await.unwrap();
            let s = d.status.clone().unwrap_or_default();
            let has = |n: Option<i32>| n.unwrap_or(0) == replicas;
            let pods = cluster.in_t::<Pod>().list(&ListParams::default()).await.unwrap().items;
            let images = pods.iter().all(|p| p.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(image));
            let done = s.observed_generation == d.metadata.generation
                && has(s.replicas)
                && has(s.updated_replicas)
                && has(s.available_replicas)
                && has(s.ready_replicas)
                && images
                && i32::try_from(pods.len()) == Ok(replicas);
            if done { Ok(d) } else { Err((s, pods.len())) }
        })
        .await
}

async fn patch(cluster: &Cluster, patch: Value) {
    let deployments = cluster.in_t::<Deployment>();
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

async fn ready_addresses(cluster: &Cluster, count: usize) {
    cluster
        .eventually(&format!("{count} ready endpoints"), || async {
            let slices = cluster.in_t::<EndpointSlice>().list(&ListParams::default()).await.unwrap().items;
            let ready = slices
                .iter()
                .flat_map(|s| s.endpoints.iter().flatten())
                .filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true))
                .count();
            if ready == count { Ok(()) } else { Err(slices) }
        })
        .await;
    // The old form says the same.
    cluster
        .eventually(&format!("{count} addresses"), || async {
            let old =
                cluster.in_t::<Endpoints>().get_opt("web").await.unwrap().and_then(|e| e.subsets).unwrap_or_default();
            let ready = old.iter().flat_map(|s| s.addresses.iter().flatten()).count();
            if ready == count { Ok(()) } else { Err(old) }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_lives() {
    let cluster = Cluster::start().await;
    cluster.create::<Service>(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}})).await;
    cluster.create::<Deployment>(deployment("web", 3)).await;
    let first = complete(&cluster, 3, "one").await;
    assert_eq!(first.annotations()["deployment.kubernetes.io/revision"], "1");
    ready_addresses(&cluster, 3).await;
    let sets = cluster.count::<ReplicaSet>(1).await;
    assert_eq!(sets[0].annotations()["team"], "a");
    let hash = sets[0].labels()["pod-template-hash"].clone();
    assert_eq!(sets[0].name_any(), format!("web-{hash}"));

    // A new image rolls out, the old set stays for a roll-back.
    patch(&cluster, image("two")).await;
    let second = complete(&cluster, 3, "two").await;
    assert_eq!(second.annotations()["deployment.kubernetes.io/revision"], "2");
    cluster.count::<ReplicaSet>(2).await;
    ready_addresses(&cluster, 3).await;
    let progressing =
        second.status.unwrap().conditions.unwrap().into_iter().find(|c| c.type_ == "Progressing").unwrap();
    assert_eq!(progressing.reason.as_deref(), Some("NewReplicaSetAvailable"));

    // Back, as `kubectl rollout undo` does it: the old template is the new one.
    patch(&cluster, image("one")).await;
    let third = complete(&cluster, 3, "one").await;
    assert_eq!(third.annotations()["deployment.kubernetes.io/revision"], "3");
    let sets = cluster.count::<ReplicaSet>(2).await;
    let back = sets.iter().find(|s| s.labels()["pod-template-hash"] == hash).unwrap();
    assert_eq!(back.annotations()["deployment.kubernetes.io/revision-history"], "1");

    for replicas in [6, 1] {
        patch(&cluster, json!({"spec": {"replicas": replicas}})).await;
        complete(&cluster, replicas, "one").await;
        ready_addresses(&cluster, usize::try_from(replicas).unwrap()).await;
    }

    // Paused, a new template waits; scaling does not.
    patch(&cluster, json!({"spec": {"paused": true, "replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "three"}]}}}})).await;
    cluster
        .eventually("two pods of the old image", || async {
            let pods = cluster.in_t::<Pod>().list(&ListParams::default()).await.unwrap().items;
            if pods.len() == 2 { Ok(()) } else { Err(pods.len()) }
        })
        .await;
    cluster.count::<ReplicaSet>(2).await;
    patch(&cluster, json!({"spec": {"paused": false}})).await;
    complete(&cluster, 2, "three").await;

    let reasons: Vec<_> = cluster
        .in_t::<Event>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|e| (e.source.and_then(|s| s.component).unwrap_or_default(), e.reason.unwrap_or_default()))
        .collect();
    for (component, reason) in [
        ("deployment-controller", "ScalingReplicaSet"),
        ("replicaset-controller", "SuccessfulCreate"),
        ("replicaset-controller", "SuccessfulDelete"),
    ] {
        assert!(reasons.contains(&(component.to_owned(), reason.to_owned())), "{component} {reason} in {reasons:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_image_stops_at_the_limits_and_recreate_waits() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment("web", 4)).await;
    complete(&cluster, 4, "one").await;
    patch(&cluster, image("broken")).await;
    cluster
        .eventually("3 good and 2 broken replicas", || async {
            let s = cluster.in_t::<Deployment>().get("web").await.unwrap().status.unwrap();
            let good = s.available_replicas == Some(3) && s.updated_replicas == Some(2) && s.replicas == Some(5);
            if good { Ok(()) } else { Err(s) }
        })
        .await;
    patch(&cluster, json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}, "template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}})).await;
    complete(&cluster, 4, "two").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_and_foreign_pods() {
    let cluster = Cluster::start().await;
    // A pod that fits is adopted and counts.
    cluster.create::<Pod>(json!({"metadata": {"name": "found", "labels": {"app": "set"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "one"}]}})).await;
    cluster.create::<ReplicaSet>(json!({"metadata": {"name": "set"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "set"}},
        "template": {"metadata": {"labels": {"app": "set"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "one"}]}}}})).await;
    let settled = |n: i32| {
        let cluster = &cluster;
        async move {
            cluster
                .eventually("a settled set", || async {
                    let s = cluster.in_t::<ReplicaSet>().get("set").await.unwrap().status.unwrap_or_default();
                    if s.ready_replicas == Some(n) && s.replicas == n { Ok(()) } else { Err(s) }
                })
                .await;
        }
    };
    settled(3).await;
    let pods = cluster.count::<Pod>(3).await;
    let found = pods.iter().find(|p| p.name_any() == "found").unwrap();
    assert_eq!(found.owner_references()[0].name, "set");
    // One whose label is changed is let go and replaced.
    let label = json!({"metadata": {"labels": {"app": "debug"}}});
    cluster.in_t::<Pod>().patch("found", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    cluster
        .eventually("the pod without owner", || async {
            let pod = cluster.in_t::<Pod>().get("found").await.unwrap();
            if pod.owner_references().is_empty() { Ok(()) } else { Err(pod.metadata) }
        })
        .await;
    cluster.count::<Pod>(4).await;
    settled(3).await;
    // One that is deleted is replaced.
    let other = pods.iter().find(|p| p.name_any() != "found").unwrap();
    cluster.in_t::<Pod>().delete(&other.name_any(), &Default::default()).await.unwrap();
    cluster
        .eventually("a replacement", || async {
            let pods = cluster.in_t::<Pod>().list(&ListParams::default()).await.unwrap().items;
            let gone = pods.iter().all(|p| p.uid() != other.uid());
            if gone && pods.len() == 4 { Ok(()) } else { Err(pods.len()) }
        })
        .await;
    cluster.stop().await;
}
