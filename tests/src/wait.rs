//! Waiting on levels, never on edges: until something holds, with a bound, and the last state seen.

use std::fmt::Display;
use std::thread;
use std::time::Duration;

/// Longest wait for a state of the cluster; noisy machines need room.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks `probe` until it answers `Ok`; panics with what it last said otherwise.
pub fn eventually<T, E: Display>(what: &str, probe: impl FnMut() -> Result<T, E>) -> T {
    eventually_within(PATIENCE, what, probe)
}

pub fn eventually_within<T, E: Display>(patience: Duration, what: &str, mut probe: impl FnMut() -> Result<T, E>) -> T {
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(last) if waited >= patience => {
                panic!("{what}: not within {} s; last seen: {last}", patience.as_secs())
            }
            Err(_) => {}
        }
        thread::sleep(step);
        waited += step;
    }
}

/// Panics when `probe` stops holding at any time within `span`.
pub fn always<E: Display>(span: Duration, what: &str, mut probe: impl FnMut() -> Result<(), E>) {
    let step = Duration::from_millis(100);
    let mut waited = Duration::ZERO;
    while waited < span {
        if let Err(seen) = probe() {
            panic!("{what}: no longer after {} ms: {seen}", waited.as_millis());
        }
        thread::sleep(step);
        waited += step;
    }
}
