//! The watch cache of one resource: all live objects, and the last events in a ring.
//!
//! ```text
//! store watch ─► feeder task ─► objects (BTreeMap) + ring (VecDeque) ─► Cursor per client watch
//! ```
//! A client's watch is a position in the ring, not a queue: the ring is the bounded queue of all of
//! them. Whoever falls out of it is cut ([`CursorError::Lagged`]) and never waited for.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use super::object::{Event, EventKind, Stored};

/// Events handed to a watcher at once.
const BATCH: usize = 128;

#[derive(Default)]
struct State {
    objects: BTreeMap<Arc<str>, Arc<Stored>>,
    ring: VecDeque<Arc<Event>>,
    ring_bytes: usize,
    /// Position of `ring[0]`, counted since the cache began.
    first: u64,
    /// Every event after this revision is still in the ring.
    complete_after: i64,
    /// Everything up to here was seen.
    revision: i64,
    /// Bumped when history was lost and the objects were listed anew: all cursors end.
    epoch: u64,
    /// Changes of any object.
    changes: u64,
}

pub(crate) struct Cache {
    state: RwLock<State>,
    /// Newest revision seen; 0 until the first list is in.
    progress: watch::Sender<i64>,
    started: AtomicBool,
    max_events: usize,
    max_bytes: usize,
}

/// What a list sees: shared pointers only.
pub(crate) struct Snapshot {
    pub(crate) objects: Vec<Arc<Stored>>,
    pub(crate) revision: i64,
    /// Objects of the range past `limit`.
    pub(crate) remaining: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CursorError {
    /// The wanted revision is older than the ring.
    TooOld { oldest: i64 },
    /// The watcher was too slow, or the cache lost its history.
    Lagged,
}

impl Cache {
    pub(crate) fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            state: RwLock::default(),
            progress: watch::Sender::new(0),
            started: AtomicBool::new(false),
            max_events,
            max_bytes,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// True for the one caller that has to start the feeder.
    pub(crate) fn claim_start(&self) -> bool {
        !self.started.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub(crate) fn revision(&self) -> i64 {
        self.read().revision
    }

    pub(crate) fn changes(&self) -> u64 {
        self.read().changes
    }

    pub(crate) fn len(&self) -> usize {
        self.read().objects.len()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<i64> {
        self.progress.subscribe()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Stored>> {
        self.read().objects.get(key).cloned()
    }

    /// Replaces everything by a list at `revision`. Watches that ran end.
    pub(crate) fn replace(&self, objects: BTreeMap<Arc<str>, Arc<Stored>>, revision: i64) {
        {
            let mut state = self.write();
            state.first += state.ring.len() as u64;
            state.ring.clear();
            state.ring_bytes = 0;
            state.objects = objects;
            state.complete_after = revision;
            state.revision = revision;
            state.epoch += 1;
            state.changes += 1;
        }
        self.progress.send_replace(revision);
    }

    /// Takes in the events of whole revisions up to `revision`.
    pub(crate) fn apply(&self, events: Vec<Event>, revision: i64) {
        {
            let mut state = self.write();
            for event in events {
                self.apply_one(&mut state, event);
            }
            state.revision = state.revision.max(revision);
        }
        self.progress.send_replace(revision);
    }

    fn apply_one(&self, state: &mut State, mut event: Event) {
        let key = event.object.key.clone();
        let previous = match event.kind {
            EventKind::Deleted => state.objects.remove(&key),
            EventKind::Added | EventKind::Modified => state.objects.insert(key, event.object.clone()),
        };
        if let Some(previous) = previous {
            previous.retire();
            event.previous = Some(previous);
        }
        if event.kind == EventKind::Deleted {
            event.object.retire();
        }
        state.changes += 1;
        state.ring_bytes += event.frame.len();
        state.ring.push_back(Arc::new(event));
        while state.ring.len() > 1 && (state.ring.len() > self.max_events || state.ring_bytes > self.max_bytes) {
            let Some(dropped) = state.ring.pop_front() else { break };
            state.ring_bytes -= dropped.frame.len();
            state.first += 1;
            state.complete_after = dropped.revision;
        }
    }

    /// Nothing happened up to `revision`.
    pub(crate) fn note_progress(&self, revision: i64) {
        {
            let mut state = self.write();
            state.revision = state.revision.max(revision);
        }
        self.progress.send_if_modified(|seen| {
            let newer = revision > *seen;
            *seen = (*seen).max(revision);
            newer
        });
    }

    /// Objects whose key starts with `prefix` and comes at or after `start`, at most `limit` of them (0: all).
    pub(crate) fn list(&self, prefix: &str, start: &str, limit: usize) -> Snapshot {
        let state = self.read();
        let mut objects = Vec::new();
        let mut remaining = 0;
        for object in range(&state.objects, prefix, start) {
            if limit > 0 && objects.len() >= limit {
                remaining += 1;
            } else {
                objects.push(object.clone());
            }
        }
        Snapshot { objects, revision: state.revision, remaining }
    }

    /// A list and the position behind it, in one look.
    pub(crate) fn list_and_watch(self: &Arc<Self>, prefix: &str) -> (Snapshot, Cursor) {
        let state = self.read();
        let objects = range(&state.objects, prefix, "").cloned().collect();
        let cursor = self.cursor(&state, state.first + state.ring.len() as u64);
        (Snapshot { objects, revision: state.revision, remaining: 0 }, cursor)
    }

    /// The position behind `revision`.
    pub(crate) fn watch_after(self: &Arc<Self>, revision: i64) -> Result<Cursor, CursorError> {
        let state = self.read();
        if revision < state.complete_after {
            return Err(CursorError::TooOld { oldest: state.complete_after });
        }
        let skipped = state.ring.partition_point(|event| event.revision <= revision);
        Ok(self.cursor(&state, state.first + skipped as u64))
    }

    fn cursor(self: &Arc<Self>, state: &State, next: u64) -> Cursor {
        Cursor { cache: self.clone(), next, epoch: state.epoch, progress: self.progress.subscribe() }
    }
}

fn range<'a>(
    objects: &'a BTreeMap<Arc<str>, Arc<Stored>>,
    prefix: &'a str,
    start: &'a str,
) -> impl Iterator<Item = &'a Arc<Stored>> + 'a {
    let from = if start > prefix { start } else { prefix };
    objects
        .range::<str, _>((Bound::Included(from), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
        .map(|(_, object)| object)
}

/// One client watch's position in the ring.
pub(crate) struct Cursor {
    cache: Arc<Cache>,
    next: u64,
    epoch: u64,
    progress: watch::Receiver<i64>,
}

/// Events since the last look, and the revision up to which nothing is missing.
pub(crate) struct Batch {
    pub(crate) events: Vec<Arc<Event>>,
    pub(crate) revision: i64,
}

impl Cursor {
    /// What is there now, without waiting.
    pub(crate) fn poll(&mut self) -> Result<Batch, CursorError> {
        self.progress.borrow_and_update();
        let state = self.cache.read();
        if self.epoch != state.epoch || self.next < state.first {
            return Err(CursorError::Lagged);
        }
        let skip = usize::try_from(self.next - state.first).unwrap_or(usize::MAX);
        let events: Vec<_> = state.ring.iter().skip(skip).take(BATCH).cloned().collect();
        self.next += events.len() as u64;
        let at_head = self.next == state.first + state.ring.len() as u64;
        let revision = if at_head { state.revision } else { events.last().map_or(0, |e| e.revision) };
        Ok(Batch { events, revision })
    }

    /// Resolves when [`Cursor::poll`] may have more; `false` when the cache is gone.
    pub(crate) async fn changed(&mut self) -> bool {
        self.progress.changed().await.is_ok()
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
