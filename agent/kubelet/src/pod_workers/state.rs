//! The life of a pod's worker. No clock, no I/O; it never goes backwards.
//!
//! ```text
//!             deletion, deadline, phase is terminal,
//!             gone from its source                     nothing runs        gone from its source
//!   Syncing ───────────────────────────► Terminating ──────────► Terminated ───────────────► Finished
//!                                        grace only shrinks       volumes, cgroup go          all traces go
//! ```

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    Syncing,
    /// Being stopped; `None`: each container has its own grace period.
    Terminating {
        grace_s: Option<i64>,
    },
    Terminated,
    Finished,
}

/// What the sources want of the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Deletion was asked for, with this grace.
    pub deletion_grace_s: Option<i64>,
    /// No source has the pod any more.
    pub removed: bool,
    /// It ended by itself, was refused, or passed its deadline.
    pub over: bool,
}

/// What is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// A container or sandbox runs.
    pub running: bool,
    /// Volumes or cgroup are there.
    pub resources_held: bool,
}

/// The next state.
#[must_use]
pub fn next(state: WorkerState, wanted: Wanted, seen: Seen) -> WorkerState {
    use WorkerState::{Finished, Syncing, Terminated, Terminating};
    let ends = wanted.removed || wanted.over || wanted.deletion_grace_s.is_some();
    match state {
        Syncing if !ends => Syncing,
        Syncing => Terminating { grace_s: wanted.deletion_grace_s },
        Terminating { .. } if !seen.running => Terminated,
        Terminating { grace_s } => Terminating { grace_s: shrink(grace_s, wanted.deletion_grace_s) },
        Terminated if wanted.removed && !seen.resources_held => Finished,
        Terminated => Terminated,
        Finished => Finished,
    }
}

/// A grace period may only shrink.
#[must_use]
pub fn shrink(current: Option<i64>, wanted: Option<i64>) -> Option<i64> {
    match (current, wanted) {
        (Some(current), Some(wanted)) => Some(current.min(wanted)),
        (current, wanted) => current.or(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use WorkerState::{Finished, Syncing, Terminated, Terminating};
    use proptest::prelude::*;

    fn wanted(deletion_grace_s: Option<i64>, removed: bool, over: bool) -> Wanted {
        Wanted { deletion_grace_s, removed, over }
    }

    #[test]
    fn table() {
        let run = Seen { running: true, resources_held: true };
        let held = Seen { running: false, resources_held: true };
        let none = Seen::default();
        let check = |state, want, seen, expect| assert_eq!(next(state, want, seen), expect);
        check(Syncing, wanted(None, false, false), run, Syncing);
        check(Syncing, wanted(Some(30), false, false), run, Terminating { grace_s: Some(30) });
        check(Syncing, wanted(None, true, false), run, Terminating { grace_s: None });
        check(Syncing, wanted(None, false, true), none, Terminating { grace_s: None });
        check(Terminating { grace_s: Some(30) }, wanted(Some(5), false, false), run, Terminating { grace_s: Some(5) });
        check(Terminating { grace_s: Some(5) }, wanted(Some(60), false, false), run, Terminating { grace_s: Some(5) });
        check(Terminating { grace_s: Some(5) }, wanted(Some(5), false, false), held, Terminated);
        check(Terminated, wanted(Some(5), false, false), none, Terminated);
        check(Terminated, wanted(None, true, false), held, Terminated);
        check(Terminated, wanted(None, true, false), none, Finished);
    }

    fn rank(state: WorkerState) -> u8 {
        match state {
            Syncing => 0,
            Terminating { .. } => 1,
            Terminated => 2,
            Finished => 3,
        }
    }

    proptest! {
        #[test]
        fn never_backwards(steps in proptest::collection::vec(
            (proptest::option::of(0_i64..100), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()), 0..40)) {
            let mut state = Syncing;
            for (grace, removed, over, running, resources_held) in steps {
                let after = next(state, wanted(grace, removed, over), Seen { running, resources_held });
                prop_assert!(rank(after) >= rank(state));
                if let (Terminating { grace_s: Some(before) }, Terminating { grace_s }) = (state, after) {
                    prop_assert!(grace_s.is_some_and(|now| now <= before));
                }
                state = after;
            }
        }
    }
}
