//! pod-garbage-collector-controller: removes Pods that no kubelet will: on nodes that are gone, deleted
//! before they had a node, and finished ones beyond a number.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt};
use tokio::time::Instant;
use tracing::info;

use crate::context::{Context, Requeue};
use crate::error::{Result, api, found};
use crate::informer::Key;
use crate::pods;
use crate::queue::Queue;

/// How long a node may be missing before its Pods count as orphans.
const QUARANTINE: Duration = Duration::from_secs(40);

pub(crate) fn start(context: &Arc<Context>) {
    let queue = Arc::new(Queue::new());
    let informers = &context.informers;
    let started = Instant::now();
    let (of_pods, nodes, pods) = (Arc::clone(&queue), Arc::clone(&informers.nodes), Arc::clone(&informers.pods));
    let threshold = context.config.terminated_pod_gc_threshold;
    informers.pods.on_change(move |change| {
        let Some(pod) = change.new else { return };
        let node = pods::node_name(pod);
        let key = Key::of(&**pod);
        if node.is_empty() {
            if pod.metadata.deletion_timestamp.is_some() {
                of_pods.add(key);
            }
        } else if nodes.get(&Key::new("", node)).is_none() {
            of_pods.add_after(key, QUARANTINE);
        } else if threshold > 0
            && pods::is_terminated(pod)
            && change.old.is_none_or(|old| !pods::is_terminated(old))
            && pods.count() > threshold
            && let Some(oldest) = oldest_beyond(&pods.list(), threshold)
        {
            of_pods.add(oldest);
        }
    });
    let (of_nodes, pods) = (Arc::clone(&queue), Arc::clone(&informers.pods));
    informers.nodes.on_change(move |change| {
        let (Some(node), None) = (change.old, change.new) else { return };
        let name = node.name_any();
        for pod in pods.list().iter().filter(|pod| pods::node_name(pod) == name) {
            of_nodes.add_after(Key::of(&**pod), QUARANTINE);
        }
    });
    let synced = Arc::clone(context);
    let ready = async move {
        synced.informers.nodes.synced().await;
        synced.informers.pods.synced().await;
    };
    let shared = Arc::clone(context);
    context.spawn_workers("pod-garbage-collector", 2, &queue, ready, move |key| {
        let context = Arc::clone(&shared);
        async move { sync(&context, &key, started).await }
    });
}

/// The finished Pod to remove first, where there are more than `threshold`.
fn oldest_beyond(all: &[Arc<Pod>], threshold: usize) -> Option<Key> {
    let finished: Vec<_> = all.iter().filter(|pod| pods::is_terminated(pod)).collect();
    if finished.len() <= threshold {
        return None;
    }
    let oldest = finished.into_iter().min_by_key(|pod| (pod.creation_timestamp().map(|t| t.0), pod.name_any()));
    oldest.map(|pod| Key::of(&**pod))
}

async fn sync(context: &Context, key: &Key, started: Instant) -> Result<Requeue> {
    let Some(pod) = context.informers.pods.get(key) else { return Ok(None) };
    let node = pods::node_name(&pod);
    let now = context.now();
    if node.is_empty() {
        if pod.metadata.deletion_timestamp.is_some() {
            info!(pod = %key, "removing a pod that was deleted before it had a node");
            pods::remove(&context.client, &pod, Some(0)).await?;
        }
        return Ok(None);
    }
    if context.informers.nodes.get(&Key::new("", node)).is_none() {
        // At the start every node's quarantine begins anew: what happened before is not known.
        let left = QUARANTINE.saturating_sub(started.elapsed());
        if !left.is_zero() {
            return Ok(Some(left));
        }
        let nodes: Api<Node> = Api::all(context.client.clone());
        if found(nodes.get(node).await).map_err(api("reading node", node))?.is_some() {
            return Ok(None);
        }
        info!(pod = %key, node, "removing a pod whose node is gone");
        let message = "PodGC: node no longer exists";
        pods::disrupt(&context.client, &pod, "DeletionByPodGC", message, now).await?;
        pods::remove(&context.client, &pod, Some(0)).await?;
        return Ok(None);
    }
    let threshold = context.config.terminated_pod_gc_threshold;
    if threshold > 0 && oldest_beyond(&context.informers.pods.list(), threshold).as_ref() == Some(key) {
        pods::remove(&context.client, &pod, Some(0)).await?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_oldest_finished_goes() {
        let pod = |name: &str, phase: &str, hour: u8| -> Arc<Pod> {
            Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-01T{hour:02}:00:00Z")}, "status": {"phase": phase}})).unwrap())
        };
        let pods = [pod("running", "Running", 1), pod("b", "Failed", 3), pod("a", "Succeeded", 2)];
        assert_eq!(oldest_beyond(&pods, 1), Some(Key::new("", "a")));
        assert_eq!(oldest_beyond(&pods, 2), None);
    }
}
