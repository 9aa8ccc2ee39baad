//! The scheduler: gives each Pod that has no node the node that suits it best.
//!
//! ```text
//!  watches of pods, nodes, namespaces ─► Cache (nodes with their pods; assumed pods included)
//!                     │                     │
//!                     ▼ cluster events      ▼ Snapshot
//!   SchedulingQueue: active ◄─ backoff   schedule::schedule (pure) ─► Decision | FitError
//!                      ▲        ▲            │ assume              │
//!                      └─ unschedulable ◄────┼─────────────────────┘ reasons, by plugin
//!                                            ▼
//!                                      Bind (POST pods/binding), events, PodScheduled condition
//! ```
//!
//! One task owns cache and queue, so a decision always sees every event before it; only the calls
//! to the API server run beside it. What a plugin decides is a pure function of the Pod and the
//! snapshot, and a refusal carries its reasons as data.

pub mod cache;
mod events;
mod feed;
pub mod framework;
pub mod plugins;
mod preemption;
pub mod queue;
pub mod schedule;
mod scheduler;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Name that Pods ask for by `spec.schedulerName`, and that events come from.
pub const DEFAULT_SCHEDULER_NAME: &str = "default-scheduler";

/// What of upstream's `KubeSchedulerConfiguration` there is to set.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Only Pods with this `spec.schedulerName` are looked at.
    pub scheduler_name: String,
    /// `podInitialBackoffSeconds`: wait after the first failure; it doubles with each further one.
    pub initial_backoff: Duration,
    /// `podMaxBackoffSeconds`.
    pub max_backoff: Duration,
    /// Share of the nodes that is scored once so many are feasible; 0 adapts to the cluster's size.
    pub percentage_of_nodes_to_score: u8,
    /// Bindings under way at once (`parallelism`).
    pub parallelism: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            scheduler_name: DEFAULT_SCHEDULER_NAME.to_owned(),
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            percentage_of_nodes_to_score: 0,
            parallelism: 16,
        }
    }
}

/// Runs until `shutdown`. Bindings under way are finished first.
pub async fn run(client: kube::Client, config: SchedulerConfig, shutdown: CancellationToken) {
    scheduler::Scheduler::new(client, config).run(shutdown).await;
}
