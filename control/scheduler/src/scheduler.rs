//! The task that owns cache and queue: takes in changes, decides, binds.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::SchedulerConfig;
use crate::cache::{Cache, PodInfo};
use crate::events::{News, Reporter};
use crate::feed::{self, Change, Feed};
use crate::framework::{Bind, ClusterEvent, Framework};
use crate::plugins::{DefaultBinder, PrioritySort, default_framework};
use crate::queue::{QueuedPod, SchedulingQueue};
use crate::schedule::{Choice, FitError, schedule};

/// How long bindings under way may take after shutdown, and the news after them.
const DRAIN: Duration = Duration::from_secs(2);

/// How a binding ended.
struct Bound {
    queued: Box<QueuedPod>,
    node: String,
    result: Result<(), kube::Error>,
}

/// Which watches have listed once.
#[derive(Default)]
struct Synced {
    pods: bool,
    nodes: bool,
    namespaces: bool,
}

pub(crate) struct Scheduler {
    client: Client,
    config: SchedulerConfig,
    framework: Framework,
    binder: Arc<dyn Bind>,
    cache: Cache,
    queue: SchedulingQueue,
    bindings: JoinSet<Bound>,
    synced: Synced,
    next_start: usize,
}

impl Scheduler {
    pub(crate) fn new(client: Client, config: SchedulerConfig) -> Self {
        Self {
            framework: default_framework(),
            binder: Arc::new(DefaultBinder::new(client.clone())),
            cache: Cache::default(),
            queue: SchedulingQueue::new(Arc::new(PrioritySort), config.initial_backoff, config.max_backoff),
            bindings: JoinSet::new(),
            synced: Synced::default(),
            next_start: 0,
            client,
            config,
        }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let (reporter, writer) = Reporter::new(self.client.clone(), self.config.scheduler_name.clone());
        let mut writer = tokio::spawn(writer.run());
        let living = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let mut pods: Feed<Pod> = Feed::new(Api::all(self.client.clone()), living, "pods");
        let all = watcher::Config::default;
        let mut nodes: Feed<Node> = Feed::new(Api::all(self.client.clone()), all(), "nodes");
        let mut namespaces: Feed<Namespace> = Feed::new(Api::all(self.client.clone()), all(), "namespaces");
        info!(scheduler = %self.config.scheduler_name, "scheduler started");
        loop {
            let ready = self.synced.pods && self.synced.nodes && self.synced.namespaces;
            let may_decide = ready && self.queue.has_active() && self.bindings.len() < self.config.parallelism.max(1);
            let wake = self.queue.next_wake();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(change) = nodes.next() => self.on_node(change),
                Some(change) = namespaces.next() => self.on_namespace(change),
                Some(change) = pods.next() => self.on_pod(change),
                Some(bound) = self.bindings.join_next() => match bound {
                    Ok(bound) => self.on_bound(bound, &reporter),
                    Err(error) => warn!(%error, "a binding task died"),
                },
                () = sleep_until(wake) => self.queue.flush(Instant::now()),
                // Gives way to the bindings before each decision.
                () = tokio::task::yield_now(), if may_decide => self.decide(&reporter),
            }
        }
        let drained = tokio::time::timeout(DRAIN, async {
            while let Some(bound) = self.bindings.join_next().await {
                if let Ok(Bound { queued, node, result: Ok(()) }) = bound {
                    reporter.report(News::Scheduled { pod: Arc::clone(&queued.pod), node });
                }
            }
        });
        if drained.await.is_err() {
            debug!("bindings given up at shutdown");
        }
        drop(reporter);
        if tokio::time::timeout(DRAIN, &mut writer).await.is_err() {
            writer.abort();
        }
        info!("scheduler stopped");
    }

    fn moved(&mut self, event: ClusterEvent) {
        self.queue.on_event(&self.framework, event, Instant::now());
    }

    fn on_node(&mut self, change: Change<Node>) {
        match change {
            Change::Set(node) => {
                for event in self.cache.set_node(&node) {
                    self.moved(event);
                }
            }
            Change::Removed(node) => self.remove_node(node.metadata.name.as_deref().unwrap_or_default()),
            Change::Listed(uids) => {
                self.synced.nodes = true;
                for name in self.cache.nodes_not_in(&uids) {
                    self.remove_node(&name);
                }
            }
        }
    }

    fn remove_node(&mut self, name: &str) {
        self.cache.remove_node(name);
        self.moved(ClusterEvent::NodeDelete);
    }

    fn on_namespace(&mut self, change: Change<Namespace>) {
        match change {
            Change::Set(namespace) => {
                let name = namespace.metadata.name.clone().unwrap_or_default();
                let labels = namespace.metadata.labels.clone().unwrap_or_default();
                if self.cache.set_namespace(&name, labels) {
                    self.moved(ClusterEvent::NamespaceLabels);
                }
            }
            Change::Removed(namespace) => {
                self.cache.remove_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
            }
            // A namespace that vanished has no Pods any more; its labels do no harm.
            Change::Listed(_) => self.synced.namespaces = true,
        }
    }

    fn on_pod(&mut self, change: Change<Pod>) {
        match change {
            Change::Set(pod) => self.set_pod(*pod),
            Change::Removed(pod) => self.remove_pod(&feed::key(&*pod)),
            Change::Listed(uids) => {
                self.synced.pods = true;
                let known: HashSet<String> = self.cache.confirmed_pods().into_iter().chain(self.queue.uids()).collect();
                for uid in known.difference(&uids) {
                    self.remove_pod(uid);
                }
            }
        }
    }

    fn set_pod(&mut self, pod: Pod) {
        let pod = Arc::new(PodInfo::new(pod));
        if pod.is_terminal() {
            self.remove_pod(&pod.uid);
        } else if !pod.node_name().is_empty() {
            self.queue.delete(&pod.uid);
            let new = self.cache.set_pod(&pod);
            self.moved(if new { ClusterEvent::AssignedPodAdd } else { ClusterEvent::AssignedPodUpdate });
        } else if pod.is_deleted() {
            self.queue.delete(&pod.uid);
        } else if pod.scheduler_name() == self.config.scheduler_name && !self.cache.is_assumed(&pod.uid) {
            self.queue.set(&self.framework, &pod, Instant::now());
        }
    }

    fn remove_pod(&mut self, uid: &str) {
        self.queue.delete(uid);
        if self.cache.remove_pod(uid) {
            self.moved(ClusterEvent::AssignedPodDelete);
        }
    }

    /// One scheduling cycle; the binding goes on beside the loop.
    fn decide(&mut self, reporter: &Reporter) {
        let Some(queued) = self.queue.pop() else {
            return;
        };
        let choice = Choice {
            start: self.next_start,
            tie_break: rand::random(),
            percentage_of_nodes_to_score: self.config.percentage_of_nodes_to_score,
        };
        match schedule(&self.framework, &queued.pod, self.cache.snapshot(), choice) {
            Ok(decision) => {
                self.next_start = self.next_start.wrapping_add(decision.evaluated_nodes);
                debug!(pod = %queued.pod.key(), node = decision.node, scores = ?decision.scores, "decided");
                self.bind(queued, decision.node, reporter);
            }
            Err(error) => self.refused(queued, *error, reporter),
        }
    }

    fn bind(&mut self, queued: Box<QueuedPod>, node: String, reporter: &Reporter) {
        for (i, plugin) in self.framework.reserve.iter().enumerate() {
            if let Err(rejection) = plugin.reserve(&queued.pod, &node) {
                for undo in &self.framework.reserve[..=i] {
                    undo.unreserve(&queued.pod, &node);
                }
                let message = rejection.reasons.join(", ");
                let pod = Arc::clone(&queued.pod);
                reporter.report(News::Failed { pod, reason: "Unschedulable", message });
                self.queue.failed(queued, [rejection.plugin].into(), Instant::now());
                return;
            }
        }
        self.cache.assume(&queued.pod, &node);
        let binder = Arc::clone(&self.binder);
        self.bindings.spawn(async move {
            let result = binder.bind(&queued.pod, &node).await;
            Bound { queued, node, result }
        });
    }

    fn on_bound(&mut self, bound: Bound, reporter: &Reporter) {
        let Bound { queued, node, result } = bound;
        let pod = Arc::clone(&queued.pod);
        let Err(error) = result else {
            info!(pod = %pod.key(), node, "pod bound");
            reporter.report(News::Scheduled { pod, node });
            return;
        };
        for plugin in &self.framework.reserve {
            plugin.unreserve(&pod, &node);
        }
        if !self.cache.is_assumed(&pod.uid) {
            // Deleted, or bound after all: the watch has told.
            debug!(pod = %pod.key(), %error, "binding failed for a pod that is settled");
            return;
        }
        self.cache.forget(&pod.uid);
        self.moved(ClusterEvent::AssignedPodDelete);
        if matches!(&error, kube::Error::Api(status) if status.code == 404) {
            return;
        }
        warn!(pod = %pod.key(), node, %error, "binding failed");
        let message = format!("binding rejected: {error}");
        reporter.report(News::Failed { pod, reason: "SchedulerError", message });
        self.queue.failed(queued, std::collections::BTreeSet::new(), Instant::now());
    }

    fn refused(&mut self, queued: Box<QueuedPod>, error: FitError, reporter: &Reporter) {
        let pod = Arc::clone(&queued.pod);
        let message = error.to_string();
        debug!(pod = %pod.key(), message, "unschedulable");
        reporter.report(News::Failed { pod: Arc::clone(&pod), reason: "Unschedulable", message });
        let refused_by = error.refused_by();
        if let Some(nomination) = error.nomination {
            info!(pod = %pod.key(), node = nomination.node, victims = nomination.victims.len(), "preempting");
            reporter.report(News::Preempt { pod, nomination });
        }
        let now = Instant::now();
        if refused_by.is_empty() {
            self.queue.failed_without_nodes(queued, now);
        } else {
            self.queue.failed(queued, refused_by, now);
        }
    }
}

/// Never, when there is nothing to wait for.
async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
