//! The one store watch of a resource, which keeps its cache current.
//!
//! ```text
//! list (in pages, at one revision) ─► watch from the next revision ─► … ─► lost? list again
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use orlop_store::{KeyRange, RangeRequest, Store, StoreError, Watch, WatchEvent, WatchMessage, WatchRequest};
use tokio_util::sync::CancellationToken;

use super::cache::Cache;
use super::object::{Event, EventKind, Stored};
use super::{prefix_end, relative_key, stored_from};

const PAGE: usize = 500;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

type Ask = Arc<dyn Fn() + Send + Sync>;

/// Way to ask the running store watch for its progress.
#[derive(Clone, Default)]
pub(super) struct AskProgress(Arc<Mutex<Option<Ask>>>);

impl AskProgress {
    pub(super) fn ask(&self) {
        let ask = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(ask) = ask {
            ask();
        }
    }

    fn set(&self, ask: Option<Ask>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ask;
    }
}

pub(super) struct Feeder {
    pub(super) prefix: String,
    pub(super) store: Arc<dyn Store>,
    pub(super) cache: Arc<Cache>,
    pub(super) ask_progress: AskProgress,
}

impl Feeder {
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut retry = RETRY_MIN;
        loop {
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return,
                outcome = self.list_then_watch(&mut retry) => outcome,
            };
            self.ask_progress.set(None);
            match outcome {
                Err(StoreError::Closed) => return,
                Err(error) => tracing::warn!(prefix = %self.prefix, %error, "watch cache lost the store"),
                Ok(()) => tracing::debug!(prefix = %self.prefix, "watch cache lists anew"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(retry) => {}
            }
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    async fn list_then_watch(&self, retry: &mut Duration) -> Result<(), StoreError> {
        let (objects, revision) = self.list().await?;
        let watch =
            self.store.watch(WatchRequest { range: self.range(), start_revision: revision + 1, prev_kv: true }).await?;
        self.cache.replace(objects, revision);
        *retry = RETRY_MIN;
        self.ask_progress.set(Some(watch.progress.clone()));
        self.follow(watch).await;
        Ok(())
    }

    fn range(&self) -> KeyRange {
        KeyRange { key: Bytes::from(self.prefix.clone()), end: Some(prefix_end(&self.prefix)) }
    }

    async fn list(&self) -> Result<(BTreeMap<Arc<str>, Arc<Stored>>, i64), StoreError> {
        let mut objects = BTreeMap::new();
        let mut range = self.range();
        let mut revision = 0;
        loop {
            let request =
                RangeRequest { range: range.clone(), revision, limit: PAGE, keys_only: false, count_only: false };
            let page = self.store.range(request).await?;
            if revision == 0 {
                revision = page.revision;
            }
            for kv in &page.kvs {
                let stored = stored_from(&self.prefix, kv);
                objects.insert(stored.key.clone(), Arc::new(stored));
            }
            match page.kvs.last() {
                Some(last) if page.more => {
                    let mut next = last.key.to_vec();
                    next.push(0);
                    range.key = Bytes::from(next);
                }
                _ => return Ok((objects, revision)),
            }
        }
    }

    async fn follow(&self, mut watch: Watch) {
        while let Some(message) = watch.events.recv().await {
            match message {
                WatchMessage::Events { revision, events } => {
                    let events = events.into_iter().filter_map(|e| self.event(e)).collect();
                    self.cache.apply(events, revision);
                }
                WatchMessage::Progress { revision } => self.cache.note_progress(revision),
                WatchMessage::Compacted { .. } | WatchMessage::Lagged => return,
            }
        }
    }

    fn event(&self, event: WatchEvent) -> Option<Event> {
        match event {
            WatchEvent::Put { kv, .. } => {
                let kind = if kv.create_revision == kv.mod_revision { EventKind::Added } else { EventKind::Modified };
                let key = relative_key(&self.prefix, &kv.key);
                Some(Event::new(kind, key, kv.mod_revision, kv.lease, &kv.value, None))
            }
            WatchEvent::Delete { kv, prev } => {
                let key = relative_key(&self.prefix, &kv.key);
                match prev {
                    Some(prev) => {
                        Some(Event::new(EventKind::Deleted, key, kv.mod_revision, prev.lease, &prev.value, None))
                    }
                    None => Some(Event::deleted_from_cache(kv.mod_revision, &self.cache.get(&key)?)),
                }
            }
        }
    }
}
