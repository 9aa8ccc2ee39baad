//! A level-triggered work queue: a key is in it once, is handed to one worker at a time, and comes
//! back with exponential back-off when its reconcile fails. Semantics are client-go's workqueue.
//!
//! ```text
//! add ─► ready ─► next() ─► in work ─► done()
//!          ▲                  │ added meanwhile: again
//!          └── waiting (add_after, back-off) ◄┘ failed
//! ```

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Back-off of the first failure, doubled for each further one.
const BASE: Duration = Duration::from_millis(5);
const MAX: Duration = Duration::from_secs(1000);

pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to be put there when its work ends.
    dirty: HashSet<K>,
    working: HashSet<K>,
    /// When waiting keys are due; the number keeps equal times apart.
    due: BTreeMap<(Instant, u64), K>,
    waiting: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    sequence: u64,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: HashSet::new(),
                working: HashSet::new(),
                due: BTreeMap::new(),
                waiting: HashMap::new(),
                failures: HashMap::new(),
                sequence: 0,
            }),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, key: K) {
        self.lock().add(key);
        self.changed.notify_one();
    }

    /// Adds `key` once `delay` has passed; an earlier time that was set stays.
    pub(crate) fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.lock().add_at(key, Instant::now() + delay);
        self.changed.notify_one();
    }

    /// Adds `key` after its back-off.
    pub(crate) fn retry(&self, key: K) {
        let delay = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = BASE.saturating_mul(1_u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(MAX);
            *failures = failures.saturating_add(1).min(31);
            delay
        };
        self.add_after(key, delay);
    }

    /// The next failure of `key` starts with the shortest back-off.
    pub(crate) fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// The next key, when there is one. [`Queue::done`] must follow.
    pub(crate) async fn next(&self) -> K {
        loop {
            let (key, next_due, more) = self.lock().take(Instant::now());
            if let Some(key) = key {
                if more {
                    // One wake-up may have stood for several keys.
                    self.changed.notify_one();
                }
                return key;
            }
            match next_due {
                Some(due) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep_until(due) => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    pub(crate) fn done(&self, key: &K) {
        let mut state = self.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.changed.notify_one();
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if let Some(known) = self.waiting.get(&key).copied() {
            if known.0 <= at {
                return;
            }
            self.due.remove(&known);
        }
        self.sequence += 1;
        self.due.insert((at, self.sequence), key.clone());
        self.waiting.insert(key, (at, self.sequence));
    }

    fn take(&mut self, now: Instant) -> (Option<K>, Option<Instant>, bool) {
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.waiting.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front();
        if let Some(key) = &key {
            self.dirty.remove(key);
            self.working.insert(key.clone());
        }
        let next_due = self.due.first_key_value().map(|((at, _), _)| *at);
        (key, next_due, !self.ready.is_empty() || next_due.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_there_once_and_worked_on_by_one() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert_eq!(queue.next().await, "b");
        let none = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(none.is_err(), "a is in work");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_success_forgets() {
        let queue = Queue::new();
        let mut waited = Vec::new();
        for round in 0..20 {
            if round == 19 {
                queue.forget(&"a");
            }
            queue.retry("a");
            let start = Instant::now();
            assert_eq!(queue.next().await, "a");
            waited.push(start.elapsed().as_millis());
            queue.done(&"a");
        }
        assert_eq!(waited[..4], [5, 10, 20, 40]);
        assert_eq!(waited[18], 1_000_000);
        assert_eq!(waited[19], 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_time_counts() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(6));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&"a");
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
    }
}
