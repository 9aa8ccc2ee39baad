//! Exponential back-off per key: container restarts and image pulls. 10 s, doubled up to 5 minutes,
//! forgotten after twice the maximum without a failure (upstream: 10 minutes).

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// First delay.
pub const INITIAL: Duration = Duration::from_secs(10);
/// Longest delay.
pub const MAX: Duration = Duration::from_secs(300);
/// Entries kept; beyond it the oldest go.
const MAX_ENTRIES: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: Duration,
    updated: Instant,
}

/// The delays by key.
#[derive(Debug)]
pub struct BackOff {
    initial: Duration,
    max: Duration,
    entries: Mutex<HashMap<String, Entry>>,
}

impl Default for BackOff {
    fn default() -> Self {
        Self::new(INITIAL, MAX)
    }
}

impl BackOff {
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, entries: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The delay that `key` stands at; zero if it never failed.
    #[must_use]
    pub fn delay(&self, key: &str) -> Duration {
        self.lock().get(key).map_or(Duration::ZERO, |entry| entry.delay)
    }

    /// What is left of the delay, counted from the moment of the failure, `since_failure` ago.
    #[must_use]
    pub fn remaining(&self, key: &str, since_failure: Duration) -> Duration {
        let mut entries = self.lock();
        let Some(entry) = entries.get(key).copied() else { return Duration::ZERO };
        if since_failure > self.max * 2 {
            entries.remove(key);
            return Duration::ZERO;
        }
        entry.delay.saturating_sub(since_failure)
    }

    /// A failure, or a start after one: the next delay. `since_failure` as above.
    pub fn next(&self, key: &str, since_failure: Duration) {
        let mut entries = self.lock();
        let now = Instant::now();
        match entries.get_mut(key) {
            Some(entry) if since_failure <= self.max * 2 => {
                entry.delay = (entry.delay * 2).min(self.max);
                entry.updated = now;
            }
            _ => {
                entries.insert(key.to_owned(), Entry { delay: self.initial, updated: now });
            }
        }
        if entries.len() > MAX_ENTRIES {
            let limit = self.max * 2;
            entries.retain(|_, entry| now.duration_since(entry.updated) <= limit);
        }
    }

    /// Sets a delay that was kept over a restart of the agent.
    pub fn restore(&self, key: &str, delay: Duration) {
        let delay = delay.clamp(self.initial, self.max);
        self.lock().insert(key.to_owned(), Entry { delay, updated: Instant::now() });
    }

    /// Forgets a key and everything below it.
    pub fn forget_prefix(&self, prefix: &str) {
        self.lock().retain(|key, _| !key.starts_with(prefix));
    }

    /// All delays whose key starts with `prefix`.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Vec<(String, Duration)> {
        self.lock().iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, e)| (key.clone(), e.delay)).collect()
    }
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`, `1.5s`, `350ms`.
#[must_use]
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let fraction = |value: u128, unit: u128| {
        let mut text = format!("{}.{:0width$}", value / unit, value % unit, width = unit.ilog10() as usize);
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        text
    };
    if nanos < 1_000 {
        return format!("{nanos}ns");
    }
    if nanos < 1_000_000 {
        return format!("{}µs", fraction(nanos, 1_000));
    }
    if nanos < 1_000_000_000 {
        return format!("{}ms", fraction(nanos, 1_000_000));
    }
    let seconds = fraction(nanos % 60_000_000_000, 1_000_000_000);
    match (duration.as_secs() / 3600, duration.as_secs() / 60 % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_maximum_and_resets() {
        let back_off = BackOff::default();
        assert_eq!(back_off.remaining("a", Duration::ZERO), Duration::ZERO);
        let mut seen = Vec::new();
        for _ in 0..7 {
            back_off.next("a", Duration::from_secs(1));
            seen.push(back_off.delay("a").as_secs());
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off.remaining("a", Duration::from_secs(100)).as_secs(), 200);
        assert_eq!(back_off.remaining("a", Duration::from_secs(601)), Duration::ZERO);
        back_off.next("a", Duration::from_secs(601));
        assert_eq!(back_off.delay("a").as_secs(), 10);
    }

    #[test]
    fn durations_print_as_in_go() {
        let check = |millis: u64, expect: &str| assert_eq!(go_duration(Duration::from_millis(millis)), expect);
        check(0, "0s");
        check(350, "350ms");
        check(1_500, "1.5s");
        check(10_000, "10s");
        check(80_000, "1m20s");
        check(300_000, "5m0s");
        check(3_600_000, "1h0m0s");
        assert_eq!(go_duration(Duration::from_micros(2_345)), "2.345ms");
    }
}
