//! Watches the metadata of every resource, and follows changes of the set of resources.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Collector;
use crate::error::chain;
use crate::resources::{AnyResource, discover};

/// Discovery that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);
/// How long the workers wait for all resources; one that can't be listed must not stop them all.
const PATIENCE: Duration = Duration::from_secs(30);
/// Several changes of definitions in a row are one.
const SETTLE: Duration = Duration::from_millis(500);

/// Resources that own nothing and are owned by nobody.
fn is_ignored(resource: &AnyResource) -> bool {
    resource.resource.plural == "events" && matches!(resource.resource.group.as_str(), "" | "events.k8s.io")
}

/// Objects of these tell that the set of resources changes.
fn defines_resources(resource: &AnyResource) -> bool {
    matches!(resource.resource.kind.as_str(), "CustomResourceDefinition" | "APIService")
}

/// Keeps one monitor per resource until shutdown; `listed` is told when all were listed once.
pub(super) async fn run(collector: Arc<Collector>, listed: oneshot::Sender<()>) {
    let shutdown = collector.context.shutdown.clone();
    let mut listed = Some(listed);
    let mut running: HashMap<AnyResource, CancellationToken> = HashMap::new();
    loop {
        let resources = tokio::select! {
            resources = discover(&collector.context.client) => resources,
            () = shutdown.cancelled() => return,
        };
        let resources = match resources {
            Ok(resources) => resources,
            Err(error) => {
                warn!(error = chain(&error), "discovery failed; tried again");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => continue,
                    () = shutdown.cancelled() => return,
                }
            }
        };
        let started = update(&collector, resources, &mut running);
        if let Some(listed) = listed.take() {
            let all = async {
                for mut done in started {
                    // A monitor that ended has nothing more to list.
                    let _ = done.wait_for(|listed| *listed).await;
                }
            };
            if tokio::time::timeout(PATIENCE, all).await.is_err() {
                warn!("some resources could not be listed yet; garbage collection starts without them");
            }
            // The workers are gone only at shutdown.
            let _ = listed.send(());
            info!(resources = running.len(), "garbage collection started");
        }
        tokio::select! {
            () = collector.rediscover.notified() => {}
            () = shutdown.cancelled() => return,
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// Starts monitors of new resources and ends those of resources that are gone.
fn update(
    collector: &Arc<Collector>,
    resources: Vec<AnyResource>,
    running: &mut HashMap<AnyResource, CancellationToken>,
) -> Vec<watch::Receiver<bool>> {
    let known = resources.iter().cloned().collect::<HashSet<_>>();
    running.retain(|resource, cancel| {
        let keep = known.contains(resource);
        if !keep {
            cancel.cancel();
        }
        keep
    });
    let by_kind = resources.iter().map(|r| ((r.resource.group.clone(), r.resource.kind.clone()), r.clone())).collect();
    *collector.resources.write().unwrap_or_else(PoisonError::into_inner) = by_kind;
    let mut started = Vec::new();
    for resource in resources {
        if running.contains_key(&resource) || !resource.watchable || is_ignored(&resource) {
            continue;
        }
        let cancel = collector.context.shutdown.child_token();
        let (done, listed) = watch::channel(false);
        running.insert(resource.clone(), cancel.clone());
        collector.context.tasks.spawn(follow(Arc::clone(collector), resource, done, cancel));
        started.push(listed);
    }
    started
}

async fn follow(
    collector: Arc<Collector>,
    resource: AnyResource,
    listed: watch::Sender<bool>,
    cancel: CancellationToken,
) {
    let objects: Api<PartialObjectMeta<DynamicObject>> =
        Api::all_with(collector.context.client.clone(), &resource.resource);
    let mut stream = watcher(objects, watcher::Config::default()).default_backoff().boxed();
    let mut uids: HashSet<String> = HashSet::new();
    let mut relisted: HashSet<String> = HashSet::new();
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = cancel.cancelled() => return,
        };
        match event {
            Some(Ok(Event::Init)) => relisted.clear(),
            Some(Ok(Event::InitApply(object))) => {
                relisted.extend(object.metadata.uid.clone());
                uids.extend(object.metadata.uid.clone());
                collector.saw(&resource, &object.metadata);
            }
            Some(Ok(Event::InitDone)) => {
                for uid in uids.difference(&relisted) {
                    collector.gone(uid);
                }
                uids = std::mem::take(&mut relisted);
                listed.send_replace(true);
            }
            Some(Ok(Event::Apply(object))) => {
                if let Some(uid) = object.metadata.uid.clone() {
                    let new = uids.insert(uid);
                    collector.saw(&resource, &object.metadata);
                    if new && defines_resources(&resource) {
                        collector.rediscover.notify_one();
                    }
                }
            }
            Some(Ok(Event::Delete(object))) => {
                if let Some(uid) = &object.metadata.uid {
                    uids.remove(uid);
                    collector.gone(uid);
                }
                if defines_resources(&resource) {
                    collector.rediscover.notify_one();
                }
            }
            Some(Err(error)) => {
                debug!(resource = resource.qualified(), error = chain(&error), "watch failed; it starts again");
            }
            None => return,
        }
    }
}
