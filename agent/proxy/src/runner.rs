//! The loop that keeps the kernel like the cluster: one task, which owns the tracker and the backend.
//!
//! ```text
//! events (coalesced) ─┐
//! kernel changed ─────┼─► refresh ─► plan ─► apply ─► record
//! audit, retry ───────┘         └─ the audit reads the kernel back first
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Feature, Retry, SyncError};
use crate::compile::Limits;
use crate::config::{NodePortAddresses, ProxyConfig};
use crate::explain::{Explanation, Verification, explain};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::plan::{plan, plan_for, record};
use crate::services::ServiceName;
use crate::state::{Frontend, IpFamily, NodeAddressScope, ProxyState};
use crate::tracker::Tracker;
use crate::watch::{Changes, Progress, Seen};

/// Events taken together at most, so that a flood can't keep the kernel from being written.
const BATCH: usize = 4096;
/// Time for a burst of changes on the kernel's side to end.
const SETTLE: Duration = Duration::from_millis(100);
const COUNTERS_EVERY: Duration = Duration::from_secs(15);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// A question to the loop.
pub(crate) enum Query {
    Explain(ServiceName, oneshot::Sender<Explanation>),
    Verify(oneshot::Sender<Result<Verification, SyncError>>),
}

/// Why a sync begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Objects changed, or a retry is due.
    Events,
    /// Interfaces or addresses changed: attachments are looked after, not every rule.
    Kernel,
    /// Everything is read back.
    Audit,
}

pub(crate) struct Runner {
    config: Arc<ProxyConfig>,
    backend: Box<dyn Backend>,
    tracker: Tracker,
    progress: Progress,
    health: Arc<Health>,
    metrics: Metrics,
    families: Vec<IpFamily>,
    /// `None` when it has to be read from the kernel.
    installed: Option<ProxyState>,
    /// Frontends that may differ from what is installed.
    touched: BTreeSet<Frontend>,
    retry_at: Option<(Instant, Duration)>,
    /// When a burst of changes in the kernel is looked at.
    settle_at: Option<Instant>,
    synced_once: bool,
}

impl Runner {
    pub(crate) fn new(
        config: Arc<ProxyConfig>,
        backend: Box<dyn Backend>,
        health: Arc<Health>,
        metrics: Metrics,
        families: Vec<IpFamily>,
    ) -> Self {
        let limits = Limits {
            ipv6: backend.supports(Feature::Ipv6).is_yes(),
            sctp: backend.supports(Feature::Sctp).is_yes(),
            source_ranges: backend.supports(Feature::SourceRanges).is_yes(),
        };
        Self {
            config,
            backend,
            tracker: Tracker::new(limits),
            progress: Progress::default(),
            health,
            metrics,
            families,
            installed: None,
            touched: BTreeSet::new(),
            retry_at: None,
            settle_at: None,
            synced_once: false,
        }
    }

    /// Runs until shutdown. What is in the kernel stays there: the next agent takes it over.
    pub(crate) async fn run(
        mut self,
        mut events: SelectAll<BoxStream<'static, Seen>>,
        mut queries: mpsc::Receiver<Query>,
        shutdown: CancellationToken,
    ) {
        let mut audit = tokio::time::interval(self.config.sync_period);
        let mut counters = tokio::time::interval(COUNTERS_EVERY);
        audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        counters.set_missed_tick_behavior(MissedTickBehavior::Delay);
        audit.reset();
        loop {
            let retry_at = self.retry_at.map(|(at, _)| at);
            let (retry, settle) = (sleep_until(retry_at), sleep_until(self.settle_at));
            let mut cause = Cause::Events;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(query) = queries.recv() => self.answer(query).await,
                () = retry => self.retry_at = self.retry_at.map(|(_, delay)| (Instant::now(), delay)),
                () = settle => {
                    self.settle_at = None;
                    cause = Cause::Kernel;
                }
                () = self.backend.changed(), if self.settle_at.is_none() => {
                    self.settle_at = Some(Instant::now() + SETTLE);
                }
                _ = audit.tick() => cause = Cause::Audit,
                _ = counters.tick() => {
                    for (event, count) in self.backend.counters() {
                        self.metrics.kernel_event(event, count);
                    }
                }
                // Last, as a flood of events must not hold up what comes seldom.
                Some(event) = events.next() => {
                    self.take(event);
                    for _ in 1..BATCH {
                        let Some(Some(event)) = events.next().now_or_never() else { break };
                        self.take(event);
                    }
                }
            }
            if self.progress.complete() {
                self.sync(cause).await;
            }
        }
    }

    fn take(&mut self, event: Seen) {
        let changes = match event {
            Seen::Service(event) => self.progress.service(event, &mut self.tracker),
            Seen::Slice(event) => self.progress.slice(event, &mut self.tracker),
            Seen::NodeEligible(eligible) => {
                self.health.set_node_eligible(eligible);
                return;
            }
            Seen::Failed(what, error) => {
                tracing::warn!(what, %error, "a watch failed and is tried again");
                return;
            }
        };
        self.metrics.service_changes.inc_by(changes.services);
        self.metrics.endpoint_changes.inc_by(changes.endpoints);
        if changes != Changes::default() {
            self.metrics.service_changes_pending.inc_by(i64::try_from(changes.services).unwrap_or(i64::MAX));
            self.metrics.endpoint_changes_pending.inc_by(i64::try_from(changes.endpoints).unwrap_or(i64::MAX));
            self.metrics.queued(&self.families, now_s());
            self.health.queued();
        }
    }

    /// Brings the kernel to what is known. Does nothing where nothing changed.
    async fn sync(&mut self, cause: Cause) {
        let (touched, refused) = self.tracker.refresh();
        self.touched.extend(touched);
        for (service, why) in refused {
            tracing::warn!(%service, why, "a Service asks for what it can't get");
        }
        let waiting = self.retry_at.is_some_and(|(at, _)| at > Instant::now());
        let fresh = self.installed.is_none();
        if waiting || !(fresh || cause != Cause::Events || !self.touched.is_empty()) {
            return;
        }
        let start = Instant::now();
        let full = fresh || cause == Cause::Audit;
        let result = self.reconcile(full, cause).await;
        match result {
            Ok(steps) => {
                self.retry_at = None;
                self.touched.clear();
                self.metrics.service_changes_pending.set(0);
                self.metrics.endpoint_changes_pending.set(0);
                let count = self.tracker.state().frontends.len();
                self.metrics.frontends.set(i64::try_from(count).unwrap_or(i64::MAX));
                self.metrics.synced(&self.families, start.elapsed(), full, now_s());
                self.health.updated();
                if !self.synced_once {
                    tracing::info!(frontends = count, steps, took = ?start.elapsed(), "services are in the kernel");
                }
                self.synced_once = true;
            }
            Err(error) => {
                self.metrics.sync_failures.inc();
                self.health.queued();
                self.installed = None;
                let delay = match (error.retry(), self.retry_at) {
                    (Retry::Now, _) => Duration::ZERO,
                    (_, Some((_, last))) => (last * 2).min(RETRY_LAST),
                    (_, None) => RETRY_FIRST,
                };
                tracing::error!(error = %chain(&error), retry_in = ?delay, "services are not all in the kernel");
                self.retry_at = Some((Instant::now() + delay, delay.max(RETRY_FIRST)));
            }
        }
    }

    /// Plans against what is installed and carries it out; the number of steps.
    async fn reconcile(&mut self, full: bool, cause: Cause) -> Result<usize, SyncError> {
        if full || cause == Cause::Kernel {
            let addresses = self.node_addresses().await?;
            self.tracker.state_mut().node_addresses = addresses;
        }
        if cause == Cause::Kernel {
            self.backend.attend().await?;
        }
        let installed = match self.installed.take() {
            Some(installed) if !full => installed,
            _ => self.backend.installed().await?,
        };
        let installed = self.installed.insert(installed);
        let desired = self.tracker.state();
        let plan = if full { plan(desired, installed) } else { plan_for(&self.touched, desired, installed) };
        if plan.is_empty() {
            return Ok(0);
        }
        if full && self.synced_once {
            let unexpected =
                plan.set.iter().chain(&plan.remove).filter(|frontend| !self.touched.contains(frontend)).count();
            if unexpected > 0 {
                self.metrics.repairs.inc_by(u64::try_from(unexpected).unwrap_or(u64::MAX));
                tracing::warn!(unexpected, "rules in the kernel had been changed by others and are restored");
            }
        }
        self.backend.apply(&plan, desired).await?;
        record(&plan, desired, installed);
        Ok(plan.len())
    }

    async fn node_addresses(&mut self) -> Result<BTreeMap<IpAddr, NodeAddressScope>, SyncError> {
        let chosen = match &self.config.node_port_addresses {
            NodePortAddresses::Primary => self.config.node_ips.clone(),
            NodePortAddresses::Networks(networks) => {
                let local = self.backend.local_addresses().await?;
                local.into_iter().filter(|ip| networks.iter().any(|network| network.contains(*ip))).collect()
            }
        };
        let mut addresses: BTreeMap<_, _> = chosen
            .into_iter()
            .map(|ip| (ip, if ip.is_loopback() { NodeAddressScope::Host } else { NodeAddressScope::Everybody }))
            .collect();
        if self.config.localhost_node_ports && self.backend.supports(Feature::LocalhostNodePorts).is_yes() {
            addresses.insert(IpAddr::from([127, 0, 0, 1]), NodeAddressScope::Host);
            addresses.insert(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]), NodeAddressScope::Host);
        }
        Ok(addresses)
    }

    async fn answer(&mut self, query: Query) {
        // A listener that went away is fine.
        match query {
            Query::Explain(service, reply) => drop(reply.send(explain(&self.tracker, service))),
            Query::Verify(reply) => {
                let result = self.backend.installed().await.map(|installed| Verification {
                    desired: self.tracker.state().frontends.len(),
                    installed: installed.frontends.len(),
                    differences: plan(self.tracker.state(), &installed),
                });
                drop(reply.send(result));
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn now_s() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
