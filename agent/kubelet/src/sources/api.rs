//! The API server as a source: the pods that are bound to this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::SourceState;
use crate::pod::{CONFIG_SEEN, CONFIG_SOURCE, PodExt};

/// Follows the node's pods, until `shutdown`.
pub async fn run(client: Client, node_name: String, state: watch::Sender<SourceState>, shutdown: CancellationToken) {
    let api: Api<Pod> = Api::all(client);
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node_name}"));
    let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
    let mut pods: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
    let mut list: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = stream.next() => event,
        };
        match event {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(%error, "watch of this node's pods broke; pods stay as they are");
                continue;
            }
            Some(Ok(watcher::Event::Init)) => {
                list.clear();
                continue;
            }
            Some(Ok(watcher::Event::InitApply(pod))) => {
                list.insert(pod.key(), Arc::new(mark(pod)));
                continue;
            }
            Some(Ok(watcher::Event::InitDone)) => pods = std::mem::take(&mut list),
            Some(Ok(watcher::Event::Apply(pod))) => {
                pods.insert(pod.key(), Arc::new(mark(pod)));
            }
            Some(Ok(watcher::Event::Delete(pod))) => {
                // A pod of that name may have been made anew already.
                if pods.get(&pod.key()).is_some_and(|have| have.metadata.uid == pod.metadata.uid) {
                    pods.remove(&pod.key());
                }
            }
        }
        state.send_replace(SourceState { synced: true, pods: pods.values().cloned().collect() });
    }
}

/// Pods from the API carry their source as upstream's do, and nobody can pass a pod off as a static one.
fn mark(mut pod: Pod) -> Pod {
    if !pod.is_mirror() {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(CONFIG_SOURCE.to_owned(), "api".to_owned());
        annotations.remove(CONFIG_SEEN);
    }
    pod
}
