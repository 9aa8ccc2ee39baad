//! One watch and one cache per resource, shared by all controllers, as client-go's informers.
//!
//! Handlers run for every change with the object before and after; all they do is add keys to
//! queues. `managedFields` are dropped: nobody here reads them, and they are half of an object.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Namespace (empty where there is none) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// An object before and after; `None`: it did not exist.
pub(crate) struct Change<'a, K> {
    pub(crate) old: Option<&'a Arc<K>>,
    pub(crate) new: Option<&'a Arc<K>>,
}

impl<'a, K> Change<'a, K> {
    /// The object as it is, or was last.
    pub(crate) fn latest(&self) -> Option<&'a Arc<K>> {
        self.new.or(self.old)
    }

    pub(crate) fn both(&self) -> impl Iterator<Item = &'a Arc<K>> {
        self.old.into_iter().chain(self.new)
    }
}

type Handler<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

/// How far the cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Highest resource version seen.
    pub(crate) revision: u64,
    /// Lists that were begun.
    pub(crate) lists: u64,
    /// Number of the last list that was completed.
    pub(crate) listed: u64,
    /// Changes so far; makes every change visible to those who wait.
    changes: u64,
}

pub(crate) struct Informer<K> {
    /// Namespace -> name -> object.
    cache: RwLock<HashMap<String, HashMap<String, Arc<K>>>>,
    handlers: RwLock<Vec<Handler<K>>>,
    progress: watch::Sender<Progress>,
}

impl<K> Informer<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default,
{
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            cache: RwLock::default(),
            handlers: RwLock::default(),
            progress: watch::channel(Progress::default()).0,
        })
    }

    /// Calls `handler` for every change from now on.
    pub(crate) fn on_change(&self, handler: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        self.handlers.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        cache.get(&key.namespace)?.get(&key.name).cloned()
    }

    /// All objects of a namespace, by name.
    pub(crate) fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = cache.get(namespace).into_iter().flat_map(|names| names.values().cloned()).collect();
        all.sort_by_cached_key(|object| object.name_any());
        all
    }

    pub(crate) fn list(&self) -> Vec<Arc<K>> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        cache.values().flat_map(|names| names.values().cloned()).collect()
    }

    pub(crate) fn count(&self) -> usize {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        cache.values().map(HashMap::len).sum()
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until the cache holds a whole list.
    pub(crate) async fn synced(&self) {
        // The sender lives as long as self.
        let _ = self.progress.subscribe().wait_for(|p| p.listed > 0).await;
    }

    /// Waits until `seen` holds, or `patience` ends; says which.
    pub(crate) async fn wait_for(&self, patience: Duration, mut seen: impl FnMut(Progress) -> bool) -> bool {
        let mut progress = self.progress.subscribe();
        let waited = tokio::time::timeout(patience, progress.wait_for(|p| seen(*p))).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Follows the resource until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, api: Api<K>, config: watcher::Config, shutdown: CancellationToken) {
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        let mut stream = watcher::watcher(api, config).default_backoff().boxed();
        let mut listing: HashSet<Key> = HashSet::new();
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = shutdown.cancelled() => return,
            };
            match event {
                Some(Ok(Event::Init)) => {
                    listing.clear();
                    self.progress.send_modify(|p| p.lists += 1);
                }
                Some(Ok(Event::InitApply(object))) => {
                    listing.insert(Key::of(&object));
                    self.apply(object);
                }
                Some(Ok(Event::InitDone)) => {
                    self.retain(&listing);
                    listing = HashSet::new();
                    self.progress.send_modify(|p| {
                        p.listed = p.lists;
                        p.changes += 1;
                    });
                    debug!(kind, objects = self.count(), "listed");
                }
                Some(Ok(Event::Apply(object))) => self.apply(object),
                Some(Ok(Event::Delete(object))) => self.delete(&Key::of(&object), revision_of(&object)),
                Some(Err(error)) => warn!(kind, error = crate::error::chain(&error), "watch failed; it starts again"),
                None => return,
            }
        }
    }

    /// Takes one object in, as an event of the watch does.
    pub(crate) fn apply(&self, mut object: K) {
        object.managed_fields_mut().clear();
        object.meta_mut().managed_fields = None;
        let (key, revision) = (Key::of(&object), revision_of(&object));
        let new = Arc::new(object);
        let old = {
            let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
            cache.entry(key.namespace).or_default().insert(key.name, Arc::clone(&new))
        };
        let same =
            old.as_ref().is_some_and(|old| old.resource_version() == new.resource_version() && old.uid() == new.uid());
        if !same {
            self.tell(old.as_ref(), Some(&new));
        }
        self.advance(revision);
    }

    pub(crate) fn delete(&self, key: &Key, revision: u64) {
        let old = {
            let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
            let Some(names) = cache.get_mut(&key.namespace) else { return };
            let old = names.remove(&key.name);
            if names.is_empty() {
                cache.remove(&key.namespace);
            }
            old
        };
        if old.is_some() {
            self.tell(old.as_ref(), None);
        }
        self.advance(revision);
    }

    fn retain(&self, listed: &HashSet<Key>) {
        let gone: Vec<Key> = self.list().iter().map(|o| Key::of(&**o)).filter(|k| !listed.contains(k)).collect();
        for key in gone {
            self.delete(&key, 0);
        }
    }

    fn tell(&self, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        let handlers = self.handlers.read().unwrap_or_else(PoisonError::into_inner);
        for handler in handlers.iter() {
            handler(&Change { old, new });
        }
    }

    fn advance(&self, revision: u64) {
        self.progress.send_modify(|p| {
            p.revision = p.revision.max(revision);
            p.changes += 1;
        });
    }
}

/// The resource version as the number it is on every known server; 0 where it is none.
pub(crate) fn revision_of(object: &impl ResourceExt) -> u64 {
    object.resource_version().and_then(|v| v.parse().ok()).unwrap_or(0)
}
