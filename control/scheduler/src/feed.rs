//! Watches as a stream of changes, with what vanished between two lists told apart.

use std::collections::HashSet;
use std::fmt::Debug;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// One change.
pub(crate) enum Change<K> {
    Set(Box<K>),
    Removed(Box<K>),
    /// A list is complete: objects with other keys are gone.
    Listed(HashSet<String>),
}

/// A watch that lists again by itself after errors, with backoff.
pub(crate) struct Feed<K> {
    stream: BoxStream<'static, Result<watcher::Event<K>, watcher::Error>>,
    seen: HashSet<String>,
    kind: &'static str,
}

/// What an object is told apart by: its UID, or its name where a successor takes its place.
pub(crate) fn key<K: Resource>(object: &K) -> String {
    object.meta().uid.clone().unwrap_or_else(|| object.name_any())
}

impl<K> Feed<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    pub(crate) fn new(api: Api<K>, config: watcher::Config, kind: &'static str) -> Self {
        let stream = watcher(api, config).default_backoff().boxed();
        Self { stream, seen: HashSet::new(), kind }
    }

    /// The next change; None when the stream has ended. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Change<K>> {
        loop {
            match self.stream.try_next().await {
                Ok(None) => return None,
                Ok(Some(watcher::Event::Init)) => self.seen.clear(),
                Ok(Some(watcher::Event::InitApply(object))) => {
                    self.seen.insert(key(&object));
                    return Some(Change::Set(Box::new(object)));
                }
                Ok(Some(watcher::Event::InitDone)) => return Some(Change::Listed(std::mem::take(&mut self.seen))),
                Ok(Some(watcher::Event::Apply(object))) => return Some(Change::Set(Box::new(object))),
                Ok(Some(watcher::Event::Delete(object))) => return Some(Change::Removed(Box::new(object))),
                Err(error) => tracing::debug!(kind = self.kind, %error, "watch failed, trying again"),
            }
        }
    }
}
