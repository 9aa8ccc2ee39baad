//! Whether the proxy keeps up, as load balancers and probes ask on port 10256.

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::state::IpFamily;

/// Shared between the sync loop, which writes, and the server, which reads.
pub(crate) struct Health {
    families: Vec<IpFamily>,
    /// A change that waits for longer makes the proxy unhealthy.
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_updated: Option<Timestamp>,
    oldest_queued: Option<Instant>,
    node_ineligible: bool,
}

/// The answer to one question.
pub(crate) struct Answer {
    pub(crate) healthy: bool,
    pub(crate) body: Value,
}

impl Health {
    /// `timeout` is twice the sync period upstream.
    pub(crate) fn new(families: Vec<IpFamily>, timeout: Duration) -> Self {
        Self { families, timeout, state: Mutex::default() }
    }

    /// A change waits for the kernel.
    pub(crate) fn queued(&self) {
        self.lock().oldest_queued.get_or_insert_with(Instant::now);
    }

    /// Everything known is in the kernel.
    pub(crate) fn updated(&self) {
        let mut state = self.lock();
        state.oldest_queued = None;
        state.last_updated = Some(Timestamp::now());
    }

    /// The node is being deleted, or an autoscaler is about to: `/healthz` tells load balancers to go
    /// elsewhere while `/livez` stays well (KEP-3836).
    pub(crate) fn set_node_eligible(&self, eligible: bool) {
        self.lock().node_ineligible = !eligible;
    }

    /// For `/healthz`, or for `/livez`, which leaves the node out.
    pub(crate) fn answer(&self, livez: bool) -> Answer {
        let state = self.lock();
        let now = Timestamp::now();
        let late = state.oldest_queued.is_some_and(|since| since.elapsed() >= self.timeout);
        let keeping_up = !(late && state.last_updated.is_some());
        let healthy = keeping_up && (livez || !state.node_ineligible);
        // Go's zero time, where nothing was synced yet.
        let updated = state.last_updated.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string());
        // Upstream: a healthy proxy was updated "now", for readers of a time when every loop counted.
        let shown = if healthy { now.to_string() } else { updated.clone() };
        let mut body = json!({ "lastUpdated": shown, "currentTime": now.to_string() });
        if !livez {
            body["nodeEligible"] = json!(!state.node_ineligible);
        }
        body["status"] = json!({});
        if state.last_updated.is_some() {
            for family in &self.families {
                body["status"][family.as_str()] = json!({ "lastUpdated": updated, "healthy": keeping_up });
            }
        }
        Answer { healthy, body }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is plain data: a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
