//! Watches: every commit is published here once, and goes to the watchers whose ranges it touches.
//!
//! ```text
//! writer ─ publish ─► ring of recent revisions (bounded by bytes)
//!                       └► live watchers (bounded queues; full = Lagged, cut)
//! watch from an old revision: replaying from the file (watch.rs) ─► caught up with the ring ─► live
//! ```
//! A watcher holds the next revision it wants, so whichever way a revision comes it is sent once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{KeyRange, WatchEvent, WatchMessage, prefix_end};

/// The changes of one revision.
pub(super) struct Revision {
    pub(super) number: i64,
    pub(super) events: Vec<WatchEvent>,
}

impl Revision {
    fn bytes(&self) -> usize {
        let size = |event: &WatchEvent| {
            let (kv, prev) = match event {
                WatchEvent::Put { kv, prev } | WatchEvent::Delete { kv, prev } => (kv, prev),
            };
            let prev = prev.as_ref().map_or(0, |p| p.key.len() + p.value.len());
            kv.key.len() + kv.value.len() + prev + size_of::<WatchEvent>()
        };
        self.events.iter().map(size).sum()
    }
}

/// One watcher, before and while it is live.
pub(super) struct Watcher {
    pub(super) range: KeyRange,
    pub(super) prev_kv: bool,
    /// First revision not yet sent.
    pub(super) next: i64,
    pub(super) sender: mpsc::Sender<WatchMessage>,
}

/// What came of trying to make a watcher live.
pub(super) enum Join {
    /// It is registered, or gone.
    Done,
    /// The ring begins behind what it needs; it must read the file first.
    Behind(Watcher),
}

pub(super) struct Hub {
    state: Mutex<HubState>,
    ring_limit: usize,
}

struct HubState {
    /// Newest published revision.
    revision: i64,
    compact_revision: i64,
    ring: VecDeque<Revision>,
    ring_bytes: usize,
    /// Everything from this revision on is in the ring.
    ring_first: i64,
    watchers: HashMap<u64, Watcher>,
    index: Index,
    /// Between the begin of a commit and its publication readers may already see what watchers were not sent.
    committing: bool,
    /// Watchers that asked for progress meanwhile, and before they were live.
    progress: Vec<u64>,
    closed: bool,
}

impl Hub {
    pub(super) fn new(revision: i64, compact_revision: i64, ring_limit: usize) -> Self {
        Self {
            ring_limit,
            state: Mutex::new(HubState {
                revision,
                compact_revision,
                ring: VecDeque::new(),
                ring_bytes: 0,
                ring_first: revision + 1,
                watchers: HashMap::new(),
                index: Index::default(),
                committing: false,
                progress: Vec::new(),
                closed: false,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Newest published revision, and the one that history begins at.
    pub(super) fn revisions(&self) -> (i64, i64) {
        let state = self.lock();
        (state.revision, state.compact_revision)
    }

    pub(super) fn begin_commit(&self) {
        self.lock().committing = true;
    }

    /// Ends a commit: `revisions` are durable (none where it failed or wrote nothing).
    pub(super) fn publish(&self, revisions: Vec<Revision>, compact_revision: i64) {
        let mut state = self.lock();
        state.committing = false;
        state.compact_revision = compact_revision;
        if !revisions.is_empty() {
            state.send(&revisions);
            for revision in revisions {
                state.revision = revision.number;
                state.ring_bytes += revision.bytes();
                state.ring.push_back(revision);
            }
            state.trim(self.ring_limit);
        }
        for id in std::mem::take(&mut state.progress) {
            state.send_progress(id);
        }
    }

    /// Makes `watcher` live, after what the ring holds for it was sent.
    pub(super) fn join(&self, id: u64, mut watcher: Watcher) -> Join {
        let mut state = self.lock();
        state.sweep();
        if state.closed || watcher.sender.is_closed() {
            return Join::Done;
        }
        if watcher.next < state.ring_first {
            return Join::Behind(watcher);
        }
        let mut events = Vec::new();
        let mut last = 0;
        for revision in state.ring.iter().filter(|r| r.number >= watcher.next) {
            for event in revision.events.iter().filter(|e| watcher.range.contains(&e.kv().key)) {
                last = revision.number;
                events.push(for_watcher(event, watcher.prev_kv));
            }
        }
        watcher.next = watcher.next.max(state.revision + 1);
        if !events.is_empty() && !push(&watcher, WatchMessage::Events { revision: last, events }) {
            return Join::Done;
        }
        state.index.insert(&watcher.range, id);
        state.watchers.insert(id, watcher);
        if !state.committing && state.progress.contains(&id) {
            state.progress.retain(|waiting| *waiting != id);
            state.send_progress(id);
        }
        Join::Done
    }

    /// Tells a watcher how far it has seen everything; later, where a commit is under way.
    pub(super) fn request_progress(&self, id: u64) {
        let mut state = self.lock();
        if state.committing || !state.watchers.contains_key(&id) {
            if !state.progress.contains(&id) {
                state.progress.push(id);
            }
        } else {
            state.send_progress(id);
        }
    }

    /// A watcher that never became live will not ask again.
    pub(super) fn forget(&self, id: u64) {
        self.lock().progress.retain(|waiting| *waiting != id);
    }

    /// After a commit whose outcome was unknown turned out to be durable: watchers missed it, so all
    /// are cut and start again.
    pub(super) fn restart_at(&self, revision: i64, compact_revision: i64) {
        let mut state = self.lock();
        if state.revision == revision {
            return;
        }
        for watcher in state.watchers.values() {
            // The last place in the queue is kept for this.
            let _ = watcher.sender.try_send(WatchMessage::Lagged);
        }
        state.watchers.clear();
        state.index = Index::default();
        state.ring.clear();
        state.ring_bytes = 0;
        state.ring_first = revision + 1;
        state.revision = revision;
        state.compact_revision = compact_revision;
    }

    /// Ends all watches.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.watchers.clear();
        state.index = Index::default();
    }
}

impl HubState {
    fn send(&mut self, revisions: &[Revision]) {
        let mut batches: BTreeMap<u64, (i64, Vec<WatchEvent>)> = BTreeMap::new();
        for revision in revisions {
            for event in &revision.events {
                for id in self.index.matching(&event.kv().key) {
                    let Some(watcher) = self.watchers.get(&id) else { continue };
                    if revision.number < watcher.next {
                        continue;
                    }
                    let batch = batches.entry(id).or_default();
                    batch.0 = revision.number;
                    batch.1.push(for_watcher(event, watcher.prev_kv));
                }
            }
        }
        for (id, (revision, events)) in batches {
            let Some(watcher) = self.watchers.get_mut(&id) else { continue };
            watcher.next = revision + 1;
            if !push(watcher, WatchMessage::Events { revision, events }) {
                self.remove(id);
            }
        }
    }

    fn send_progress(&mut self, id: u64) {
        let revision = self.revision;
        match self.watchers.get(&id) {
            Some(watcher) => {
                if !push(watcher, WatchMessage::Progress { revision }) {
                    self.remove(id);
                }
            }
            // Still replaying: asked again when it joins.
            None => self.progress.push(id),
        }
    }

    fn trim(&mut self, limit: usize) {
        while self.ring_bytes > limit {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.bytes();
            self.ring_first = oldest.number + 1;
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(watcher) = self.watchers.remove(&id) {
            self.index.remove(&watcher.range, id);
        }
    }

    /// Forgets watchers that nobody listens to any more.
    fn sweep(&mut self) {
        let gone: Vec<u64> =
            self.watchers.iter().filter(|(_, watcher)| watcher.sender.is_closed()).map(|(id, _)| *id).collect();
        for id in gone {
            self.remove(id);
        }
    }
}

fn for_watcher(event: &WatchEvent, prev_kv: bool) -> WatchEvent {
    let mut event = event.clone();
    if !prev_kv {
        match &mut event {
            WatchEvent::Put { prev, .. } | WatchEvent::Delete { prev, .. } => *prev = None,
        }
    }
    event
}

/// Queues `message`; the last place in the queue is kept for telling a slow watcher that it was cut.
fn push(watcher: &Watcher, message: WatchMessage) -> bool {
    if watcher.sender.capacity() <= 1 {
        // Whether it fits or the watcher is gone: it is cut.
        let _ = watcher.sender.try_send(WatchMessage::Lagged);
        return false;
    }
    watcher.sender.try_send(message).is_ok()
}

/// Finds the watchers of a key without looking at the others: by equal key, by prefix, and a list
/// of those whose range is neither.
#[derive(Default)]
struct Index {
    keys: HashMap<Bytes, Vec<u64>>,
    prefixes: HashMap<Bytes, Vec<u64>>,
    /// How many watched prefixes have this length.
    lengths: BTreeMap<usize, usize>,
    ranges: Vec<(KeyRange, u64)>,
}

fn is_prefix(range: &KeyRange) -> bool {
    range.end.as_ref().is_some_and(|end| *end == prefix_end(&range.key))
}

impl Index {
    fn insert(&mut self, range: &KeyRange, id: u64) {
        if range.end.is_none() {
            self.keys.entry(range.key.clone()).or_default().push(id);
        } else if is_prefix(range) {
            self.prefixes.entry(range.key.clone()).or_default().push(id);
            *self.lengths.entry(range.key.len()).or_default() += 1;
        } else {
            self.ranges.push((range.clone(), id));
        }
    }

    fn remove(&mut self, range: &KeyRange, id: u64) {
        if range.end.is_none() {
            drop_from(&mut self.keys, &range.key, id);
        } else if is_prefix(range) {
            drop_from(&mut self.prefixes, &range.key, id);
            if let Some(count) = self.lengths.get_mut(&range.key.len()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&range.key.len());
                }
            }
        } else {
            self.ranges.retain(|(_, other)| *other != id);
        }
    }

    fn matching(&self, key: &[u8]) -> Vec<u64> {
        let mut ids = self.keys.get(key).cloned().unwrap_or_default();
        for length in self.lengths.keys().take_while(|length| **length <= key.len()) {
            ids.extend(self.prefixes.get(&key[..*length]).into_iter().flatten());
        }
        ids.extend(self.ranges.iter().filter(|(range, _)| range.contains(key)).map(|(_, id)| *id));
        ids
    }
}

fn drop_from(map: &mut HashMap<Bytes, Vec<u64>>, key: &Bytes, id: u64) {
    if let Some(ids) = map.get_mut(key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}
