//! Pods that wait for a node. No clock of its own: every call says what time it is.
//!
//! ```text
//!            add                          pop
//!   ───────────────────► active ───────────────────► a scheduling cycle
//!                          ▲  ▲                               │ refused
//!          backoff is over │  │ event, backoff is over        ▼
//!                       backoff ◄─────── event ─────── unschedulable ◄─ gated Pods
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::PodInfo;
use crate::framework::{ClusterEvent, Framework, QueueSort};

#[cfg(test)]
mod tests;

/// How long a Pod stays aside at most before it is tried again without an event
/// (`podMaxInUnschedulablePodsDuration`).
const MAX_UNSCHEDULABLE: Duration = Duration::from_secs(5 * 60);

/// A Pod and its history in the queue.
#[derive(Clone, Debug)]
pub struct QueuedPod {
    pub pod: Arc<PodInfo>,
    /// Order of arrival in the queue.
    pub sequence: u64,
    pub attempts: u32,
    /// Plugins whose refusal it waits on; empty after an error.
    pub refused_by: BTreeSet<&'static str>,
    /// A PreEnqueue plugin keeps it out.
    pub gated: bool,
    failed_at: Option<Instant>,
    set_aside_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    Backoff(Instant, u64),
    Unschedulable,
}

/// The queue. It holds at most one entry for each Pod of the cluster without a node.
pub struct SchedulingQueue {
    sort: Arc<dyn QueueSort>,
    initial_backoff: Duration,
    max_backoff: Duration,
    next_sequence: u64,
    places: HashMap<String, Place>,
    active: VecDeque<Box<QueuedPod>>,
    backoff: BTreeMap<(Instant, u64), Box<QueuedPod>>,
    unschedulable: HashMap<String, Box<QueuedPod>>,
}

impl SchedulingQueue {
    #[must_use]
    pub fn new(sort: Arc<dyn QueueSort>, initial_backoff: Duration, max_backoff: Duration) -> Self {
        Self {
            sort,
            initial_backoff,
            max_backoff,
            next_sequence: 0,
            places: HashMap::new(),
            active: VecDeque::new(),
            backoff: BTreeMap::new(),
            unschedulable: HashMap::new(),
        }
    }

    #[must_use]
    pub fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// Pods in the active, backoff and unschedulable part.
    #[must_use]
    pub fn lens(&self) -> (usize, usize, usize) {
        (self.active.len(), self.backoff.len(), self.unschedulable.len())
    }

    /// UIDs of all Pods that wait.
    #[must_use]
    pub fn uids(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    /// A Pod without a node, new or changed.
    pub fn set(&mut self, framework: &Framework, pod: &Arc<PodInfo>, now: Instant) {
        let gated = framework.pre_enqueue.iter().any(|p| p.pre_enqueue(pod).is_err());
        let Some(mut queued) = self.take(&pod.uid) else {
            let queued = Box::new(QueuedPod {
                pod: Arc::clone(pod),
                sequence: 0,
                attempts: 0,
                refused_by: BTreeSet::new(),
                gated,
                failed_at: None,
                set_aside_at: now,
            });
            return self.place_by_gate(queued, now);
        };
        let changed = !queued.pod.same_demands(pod);
        queued.pod = Arc::clone(pod);
        let gate_changed = queued.gated != gated;
        queued.gated = gated;
        match queued.place {
            Place::Unschedulable if !changed && !gate_changed => self.set_aside(queued.into_box()),
            Place::Active if !changed => {
                let sequence = queued.sequence;
                self.activate(queued.into_box(), Some(sequence));
            }
            Place::Backoff(until, _) if !gated => self.back_off(queued.into_box(), until),
            _ => self.place_by_gate(queued.into_box(), now),
        }
    }

    /// A Pod is gone or has a node.
    pub fn delete(&mut self, uid: &str) {
        self.take(uid);
    }

    /// The next Pod to decide on.
    pub fn pop(&mut self) -> Option<Box<QueuedPod>> {
        let mut queued = self.active.pop_front()?;
        self.places.remove(&queued.pod.uid);
        queued.attempts = queued.attempts.saturating_add(1);
        Some(queued)
    }

    /// A decision failed: refused by plugins the Pod waits for an event, after an error only for
    /// its backoff.
    pub fn failed(&mut self, mut queued: Box<QueuedPod>, refused_by: BTreeSet<&'static str>, now: Instant) {
        let error = refused_by.is_empty();
        queued.refused_by = refused_by;
        queued.failed_at = Some(now);
        queued.set_aside_at = now;
        if error {
            let until = now + self.backoff_of(&queued);
            self.back_off(queued, until);
        } else {
            self.set_aside(queued);
        }
    }

    /// No node was there at all: waits like a refused Pod.
    pub fn failed_without_nodes(&mut self, mut queued: Box<QueuedPod>, now: Instant) {
        queued.refused_by.clear();
        queued.failed_at = Some(now);
        queued.set_aside_at = now;
        self.set_aside(queued);
    }

    /// Something changed: brings back the Pods that it may help.
    pub fn on_event(&mut self, framework: &Framework, event: ClusterEvent, now: Instant) {
        let helped: Vec<String> = self
            .unschedulable
            .iter()
            .filter(|(_, q)| !q.gated && framework.may_help(event, &q.refused_by))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in helped {
            if let Some(queued) = self.take(&uid) {
                self.place_by_gate(queued.into_box(), now);
            }
        }
    }

    /// Moves on what has waited long enough.
    pub fn flush(&mut self, now: Instant) {
        while let Some(entry) = self.backoff.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let queued = entry.remove();
            self.activate(queued, None);
        }
        let overdue: Vec<String> = self
            .unschedulable
            .iter()
            .filter(|(_, q)| !q.gated && q.set_aside_at + MAX_UNSCHEDULABLE <= now)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in overdue {
            if let Some(queued) = self.take(&uid) {
                self.place_by_gate(queued.into_box(), now);
            }
        }
    }

    /// When [`SchedulingQueue::flush`] next has something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let backoff = self.backoff.keys().next().map(|(until, _)| *until);
        let waiting =
            self.unschedulable.values().filter(|q| !q.gated).map(|q| q.set_aside_at + MAX_UNSCHEDULABLE).min();
        backoff.into_iter().chain(waiting).min()
    }

    fn backoff_of(&self, queued: &QueuedPod) -> Duration {
        let doublings = queued.attempts.saturating_sub(1).min(16);
        self.initial_backoff.saturating_mul(1 << doublings).min(self.max_backoff)
    }

    /// Aside while gated; else active, once the backoff of the last failure is over.
    fn place_by_gate(&mut self, mut queued: Box<QueuedPod>, now: Instant) {
        if queued.gated {
            queued.set_aside_at = now;
            return self.set_aside(queued);
        }
        match queued.failed_at.map(|at| at + self.backoff_of(&queued)) {
            Some(until) if until > now => self.back_off(queued, until),
            _ => self.activate(queued, None),
        }
    }

    fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }

    fn activate(&mut self, mut queued: Box<QueuedPod>, keep: Option<u64>) {
        queued.sequence = match keep {
            Some(sequence) => sequence,
            None => self.sequence(),
        };
        self.places.insert(queued.pod.uid.clone(), Place::Active);
        let sort = &self.sort;
        let at = self.active.partition_point(|other| sort.compare(other, &queued).is_le());
        self.active.insert(at, queued);
    }

    fn back_off(&mut self, queued: Box<QueuedPod>, until: Instant) {
        let key = (until, self.sequence());
        self.places.insert(queued.pod.uid.clone(), Place::Backoff(key.0, key.1));
        self.backoff.insert(key, queued);
    }

    fn set_aside(&mut self, queued: Box<QueuedPod>) {
        self.places.insert(queued.pod.uid.clone(), Place::Unschedulable);
        self.unschedulable.insert(queued.pod.uid.clone(), queued);
    }

    fn take(&mut self, uid: &str) -> Option<Taken> {
        let place = self.places.remove(uid)?;
        let queued = match place {
            Place::Active => {
                let at = self.active.iter().position(|q| q.pod.uid == uid)?;
                self.active.remove(at)?
            }
            Place::Backoff(until, sequence) => self.backoff.remove(&(until, sequence))?,
            Place::Unschedulable => self.unschedulable.remove(uid)?,
        };
        Some(Taken { queued, place })
    }
}

/// A Pod taken out, and where it was.
struct Taken {
    queued: Box<QueuedPod>,
    place: Place,
}

impl Taken {
    fn into_box(self) -> Box<QueuedPod> {
        self.queued
    }
}

impl std::ops::Deref for Taken {
    type Target = QueuedPod;
    fn deref(&self) -> &QueuedPod {
        &self.queued
    }
}

impl std::ops::DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut QueuedPod {
        &mut self.queued
    }
}
