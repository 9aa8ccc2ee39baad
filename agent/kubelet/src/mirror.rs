//! Mirror pods: what the API server shows of static pods. Deleting one stops nothing; it comes back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pod::{CONFIG_HASH, CONFIG_MIRROR, PodExt};
use crate::pod_manager::PodManager;

const RETRY: Duration = Duration::from_secs(2);
const AUDIT: Duration = Duration::from_secs(30);

/// The hash that ties a mirror to its static pod.
#[must_use]
pub fn hash_of(pod: &Pod) -> &str {
    pod.annotation(CONFIG_HASH).unwrap_or_else(|| pod.uid_str())
}

/// Keeps mirrors in step with static pods, until `shutdown`.
pub async fn run(
    client: kube::Client,
    node_name: String,
    pods: Arc<PodManager>,
    wake: Arc<Notify>,
    api_synced: impl Fn() -> bool + Send + 'static,
    shutdown: CancellationToken,
) {
    let mut delay = AUDIT;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = wake.notified() => {}
            () = tokio::time::sleep(delay) => {}
        }
        // Before the first list nobody knows which mirrors there are.
        if !api_synced() {
            delay = RETRY;
            continue;
        }
        delay = match reconcile(&client, &node_name, &pods).await {
            Ok(()) => AUDIT,
            Err(error) => {
                tracing::debug!(%error, "mirror pods are not in step yet");
                RETRY
            }
        };
    }
}

async fn reconcile(client: &kube::Client, node_name: &str, pods: &PodManager) -> Result<(), kube::Error> {
    let mut wanted = HashSet::new();
    let mut failure = None;
    let mut owner = None;
    for pod in pods.pods().into_iter().filter(|pod| pod.is_static()) {
        wanted.insert(pod.key());
        let api: Api<Pod> = Api::namespaced(client.clone(), pod.namespace_str());
        if let Some(mirror) = pods.mirror_of(&pod) {
            let current = mirror.annotation(CONFIG_MIRROR) == Some(hash_of(&pod));
            if current && mirror.metadata.deletion_timestamp.is_none() {
                continue;
            }
            failure = delete(&api, &mirror).await.err().or(failure);
            // The watch reports it gone, and wakes us to make the new one.
            continue;
        }
        if owner.is_none() {
            let node = Api::<Node>::all(client.clone()).get(node_name).await?;
            owner = Some(OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: node_name.to_owned(),
                uid: node.metadata.uid.unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            });
        }
        let Some(owner) = owner.clone() else { continue };
        match api.create(&PostParams::default(), &mirror_pod(&pod, owner)).await {
            Ok(_) => tracing::info!(pod = pod.key(), "mirror pod created"),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                tracing::warn!(pod = pod.key(), %error, "cannot create the mirror pod");
                failure = Some(error);
            }
        }
    }
    for mirror in pods.mirrors().into_iter().filter(|mirror| !wanted.contains(&mirror.key())) {
        let api: Api<Pod> = Api::namespaced(client.clone(), mirror.namespace_str());
        failure = delete(&api, &mirror).await.err().or(failure);
    }
    failure.map_or(Ok(()), Err)
}

async fn delete(api: &Api<Pod>, mirror: &Pod) -> Result<(), kube::Error> {
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None }),
        ..Default::default()
    };
    match api.delete(mirror.name_str(), &parameters).await {
        Ok(_) => {
            tracing::info!(pod = mirror.key(), "mirror pod deleted");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

fn mirror_pod(pod: &Pod, owner: OwnerReference) -> Pod {
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    annotations.insert(CONFIG_MIRROR.to_owned(), hash_of(pod).to_owned());
    Pod {
        metadata: ObjectMeta {
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            labels: pod.metadata.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: pod.spec.clone(),
        status: None,
    }
}
