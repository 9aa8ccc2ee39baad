//! The worker of one pod: looks, decides (`state.rs`, `compute_pod_actions`), acts, publishes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::state::{self, Seen, Wanted, WorkerState};
use super::{Core, Desired};
use crate::admission;
use crate::events::Kind;
use crate::images::credentials::Keyring;
use crate::kuberuntime::sync::SyncInputs;
use crate::kuberuntime::types::{ContainerState, RuntimePod};
use crate::kuberuntime::{StartError, SyncResult, termination_message};
use crate::pod::{PodExt, now_seconds};
use crate::prober::results::{ProbeKind, ProbeResult};
use crate::reasons::event;
use crate::records::Record;
use crate::status::compute::{self, StatusInputs};

/// First retry after a failed pass; doubled up to the longest.
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(10);

pub(super) struct Worker {
    core: Arc<Core>,
    uid: String,
    desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    observed: watch::Receiver<Arc<RuntimePod>>,
    state: WorkerState,
    /// The pod object while it is worked on; what the latest update brought.
    pod: Arc<Pod>,
    start_errors: HashMap<String, StartError>,
    /// Termination messages by container id.
    messages: HashMap<String, String>,
    /// The kubelet's own reason to fail the pod.
    failed: Option<(String, String)>,
    admitted: bool,
    /// It was let in before the agent restarted, or ran under another kubelet.
    known: bool,
    failures: u32,
    /// Volumes or the cgroup may be there.
    resources_held: bool,
    record: Option<Record>,
}

/// What ended the wait beside a pass.
enum Interrupt {
    /// The pass ended by itself.
    Done(Result<SyncResult, String>),
    /// Deletion was asked for, or the pod left its source.
    Stop,
}

impl Worker {
    pub(super) fn new(core: Arc<Core>, uid: &str, desired: watch::Receiver<Desired>, wake: Arc<Notify>) -> Self {
        let observed = core.runtime.cache.subscribe(uid);
        let pod = Arc::clone(&desired.borrow().pod);
        Self {
            core,
            uid: uid.to_owned(),
            desired,
            wake,
            observed,
            state: WorkerState::Syncing,
            pod,
            start_errors: HashMap::new(),
            messages: HashMap::new(),
            failed: None,
            admitted: false,
            known: false,
            failures: 0,
            resources_held: true,
            record: None,
        }
    }

    /// Until the pod is finished.
    pub(super) async fn run(mut self) {
        self.restore();
        loop {
            self.pod = Arc::clone(&self.desired.borrow_and_update().pod);
            self.observed.borrow_and_update();
            let delay = match self.state {
                WorkerState::Syncing => self.syncing().await,
                WorkerState::Terminating { grace_s } => self.terminating(grace_s).await,
                WorkerState::Terminated => self.terminated().await,
                WorkerState::Finished => return,
            };
            if delay.is_zero() {
                continue;
            }
            tokio::select! {
                changed = self.desired.changed() => if changed.is_err() { return },
                _ = self.observed.changed() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// Takes over what was known before the agent restarted: nothing flips, nothing restarts.
    fn restore(&mut self) {
        let probes = &self.core.runtime.probes;
        if let Some(record) = self.core.records.load(&self.uid) {
            for (kind, id, result) in &record.probes {
                probes.seed(*kind, id, *result);
            }
            for (container, seconds) in &record.back_off {
                let key = format!("{}/{container}", self.uid);
                self.core.runtime.back_off.restore(&key, Duration::from_secs(*seconds));
            }
            // Refused or not: what was decided stays.
            self.known = true;
            self.record = Some(record);
            return;
        }
        // Taken over from another kubelet: what it published is the best that is known.
        let status = self.pod.status.as_ref();
        let all = status.map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten());
        for container in all.into_iter().flatten() {
            let id = container.container_id.as_deref().and_then(|id| id.split_once("://")).map(|(_, id)| id);
            let (Some(id), Some(_)) = (id, container.state.as_ref().and_then(|s| s.running.as_ref())) else { continue };
            if container.started == Some(true) {
                probes.seed(ProbeKind::Startup, id, ProbeResult::Success);
            }
            if container.ready {
                probes.seed(ProbeKind::Readiness, id, ProbeResult::Success);
            }
        }
    }

    fn wanted(&self) -> Wanted {
        let desired = self.desired.borrow();
        Wanted {
            deletion_grace_s: desired.pod.deletion_grace_s(),
            removed: desired.removed,
            over: self.failed.is_some(),
        }
    }

    fn retry_delay(&mut self) -> Duration {
        let delay = RETRY.saturating_mul(2_u32.saturating_pow(self.failures.min(10))).min(MAX_RETRY);
        self.failures += 1;
        delay
    }

    async fn syncing(&mut self) -> Duration {
        let observed = match self.core.runtime.cache.inspect(&self.uid).await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::warn!(pod = self.pod.format(), %error, "cannot look at the pod");
                let wanted = self.wanted();
                if wanted.removed || wanted.deletion_grace_s.is_some() {
                    return Duration::from_secs(1);
                }
                return self.retry_delay();
            }
        };
        let mut wanted = self.wanted();
        if wanted == Wanted::default() {
            let status = self.publish(&observed, false).await;
            wanted.over |= matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
            if !wanted.over && !self.admit(&observed, &status) {
                self.publish(&observed, true).await;
                wanted.over = true;
            }
            let deadline = self.deadline(&status);
            if !wanted.over && deadline.is_some_and(|left| left.is_zero()) {
                let message = "Pod was active on the node longer than the specified deadline";
                self.core.events.pod(&self.pod, Kind::Normal, event::DEADLINE_EXCEEDED, message);
                self.failed = Some((event::DEADLINE_EXCEEDED.to_owned(), message.to_owned()));
                self.publish(&observed, false).await;
                wanted.over = true;
            }
        }
        let seen = Seen { running: observed.is_running(), resources_held: true };
        self.state = state::next(self.state, wanted, seen);
        if self.state != WorkerState::Syncing {
            return Duration::ZERO;
        }
        let result = match self.pass(observed).await {
            Interrupt::Stop => return Duration::ZERO,
            Interrupt::Done(result) => result,
        };
        self.after_pass(result).await
    }

    /// One pass over the runtime, given up as soon as the pod is to stop.
    async fn pass(&mut self, observed: Arc<RuntimePod>) -> Interrupt {
        let (core, pod) = (Arc::clone(&self.core), Arc::clone(&self.pod));
        let work = async move { sync_once(&core, &pod, observed).await };
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return Interrupt::Done(result),
                changed = self.desired.changed() => {
                    let stop = {
                        let desired = self.desired.borrow_and_update();
                        desired.removed || desired.pod.metadata.deletion_timestamp.is_some()
                    };
                    if changed.is_err() || stop {
                        return Interrupt::Stop;
                    }
                    // The new spec is looked at right after this pass.
                    self.wake.notify_one();
                }
                _ = self.observed.changed() => {
                    let observed = Arc::clone(&self.observed.borrow_and_update());
                    self.publish(&observed, false).await;
                    // Its containers' probes begin while others are still pulled or started.
                    self.core.probes.ensure(&self.pod);
                    self.wake.notify_one();
                }
            }
        }
    }

    async fn after_pass(&mut self, result: Result<SyncResult, String>) -> Duration {
        let mut delay = self.core.sync_frequency;
        let observed = match self.core.runtime.cache.inspect(&self.uid).await {
            Ok(observed) => observed,
            Err(_) => self.core.runtime.cache.get(&self.uid),
        };
        self.core.probes.ensure(&self.pod);
        match result {
            Ok(result) => {
                for name in &result.started {
                    self.start_errors.remove(name);
                }
                let failed = !result.errors.is_empty() || result.pod_error.is_some();
                let only_back_off = result.pod_error.is_none() && result.errors.iter().all(|e| e.reason.is_back_off());
                if let Some(error) = &result.pod_error {
                    tracing::warn!(pod = self.pod.format(), error, "sync failed, will try again");
                }
                for error in result.errors {
                    self.start_errors.insert(error.container.clone(), error);
                }
                if let Some(after) = result.retry_after {
                    delay = delay.min(after);
                }
                if !failed {
                    self.failures = 0;
                } else if !only_back_off {
                    delay = delay.min(self.retry_delay().max(Duration::from_secs(1)));
                }
            }
            Err(message) => {
                tracing::warn!(pod = self.pod.format(), message, "sync failed, will try again");
                self.core.events.pod(
                    &self.pod,
                    Kind::Warning,
                    event::FAILED_SYNC,
                    format!("error determining status: {message}"),
                );
                delay = self.retry_delay();
            }
        }
        // What runs needs no excuse any more.
        self.start_errors.retain(|name, _| observed.find(name).is_none_or(|c| c.state != ContainerState::Running));
        let status = self.publish(&observed, false).await;
        if let Some(left) = self.deadline(&status) {
            delay = delay.min(left.max(Duration::from_millis(10)));
        }
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return Duration::ZERO;
        }
        // A jitter keeps the pods of a node from looking all at once.
        delay.mul_f64(1.0 + 0.1 * rand::random::<f64>())
    }

    /// What is left of `activeDeadlineSeconds`.
    fn deadline(&self, status: &PodStatus) -> Option<Duration> {
        let limit = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let start = status.start_time.as_ref()?.0;
        let age = Duration::try_from(Timestamp::now().duration_since(start)).unwrap_or(Duration::ZERO);
        Some(Duration::from_secs(u64::try_from(limit).unwrap_or(0)).saturating_sub(age))
    }

    /// The node's own admission, once, and never of what runs already.
    fn admit(&mut self, observed: &RuntimePod, status: &PodStatus) -> bool {
        if self.admitted {
            self.core.admitted().insert(self.uid.clone(), Arc::clone(&self.pod));
            return true;
        }
        let known = self.known || !observed.sandboxes.is_empty() || status.phase.as_deref() != Some("Pending");
        let mut admitted = self.core.admitted();
        if !known {
            let others: Vec<Arc<Pod>> =
                admitted.iter().filter(|(uid, _)| **uid != self.uid).map(|(_, pod)| Arc::clone(pod)).collect();
            if let Err(rejection) = admission::check(&self.pod, &others, &self.core.capacity) {
                drop(admitted);
                self.core.events.pod(&self.pod, Kind::Warning, &rejection.reason, rejection.message.clone());
                self.failed = Some((rejection.reason, rejection.message));
                return false;
            }
        }
        admitted.insert(self.uid.clone(), Arc::clone(&self.pod));
        self.admitted = true;
        true
    }

    async fn terminating(&mut self, mut grace_s: Option<i64>) -> Duration {
        self.core.probes.stop_liveness(&self.uid);
        let observed = match self.core.runtime.cache.inspect(&self.uid).await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::warn!(pod = self.pod.format(), %error, "cannot look at the ending pod");
                return Duration::from_secs(1);
            }
        };
        self.publish(&observed, false).await;
        if observed.is_running() {
            let core = Arc::clone(&self.core);
            let (runtime, pod) = (Arc::clone(&core.runtime), Arc::clone(&self.pod));
            let started = Instant::now();
            let mut kill = Box::pin(runtime.kill_pod(Some(&pod), &observed, grace_s));
            let result = loop {
                tokio::select! {
                    result = &mut kill => break result,
                    changed = self.desired.changed() => {
                        if changed.is_err() {
                            std::future::pending::<()>().await;
                        }
                        let wanted = self.wanted().deletion_grace_s;
                        let current = grace_s.unwrap_or_else(|| pod.grace_period_s());
                        if wanted.is_some_and(|wanted| wanted < current) {
                            grace_s = wanted;
                            self.state = WorkerState::Terminating { grace_s };
                            let used = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
                            let left = wanted.map(|wanted| (wanted - used).max(0));
                            kill = Box::pin(runtime.kill_pod(Some(&pod), &observed, left));
                        }
                    }
                    _ = self.observed.changed() => {
                        let now = Arc::clone(&self.observed.borrow_and_update());
                        self.publish(&now, false).await;
                    }
                }
            };
            drop(kill);
            if let Err(errors) = result {
                let text = errors.join("; ");
                self.core.events.pod(
                    &self.pod,
                    Kind::Warning,
                    event::FAILED_KILL_POD,
                    format!("error killing pod: {text}"),
                );
            }
        }
        let Ok(after) = self.core.runtime.cache.inspect(&self.uid).await else { return Duration::from_secs(1) };
        let seen = Seen { running: after.is_running(), resources_held: true };
        let mut wanted = self.wanted();
        wanted.over = true;
        self.state = state::next(self.state, wanted, seen);
        if self.state != WorkerState::Terminated {
            self.publish(&after, false).await;
            return self.retry_delay().max(Duration::from_secs(1));
        }
        self.failures = 0;
        self.core.probes.remove(&self.uid);
        self.core.admitted().remove(&self.uid);
        self.publish(&after, true).await;
        Duration::ZERO
    }

    async fn terminated(&mut self) -> Duration {
        let observed = self.core.runtime.cache.get(&self.uid);
        self.publish(&observed, true).await;
        let Wanted { deletion_grace_s, removed, .. } = self.wanted();
        if self.resources_held {
            let mut problems: Vec<String> = Vec::new();
            if let Err(errors) = self.core.volumes.unmount_pod(&self.uid).await {
                problems.extend(errors.iter().map(ToString::to_string));
            }
            if let Err(errors) = self.core.containers.destroy_pod(&self.uid).await {
                problems.extend(errors.iter().map(ToString::to_string));
            }
            if !problems.is_empty() {
                tracing::warn!(pod = self.pod.format(), problems = problems.join("; "), "cannot take the pod down yet");
                return self.retry_delay();
            }
            self.resources_held = false;
            self.failures = 0;
        }
        if deletion_grace_s.is_some() {
            self.core.status.deletable(&self.uid);
        }
        let removal = state::next(self.state, Wanted { removed, ..Wanted::default() }, Seen::default());
        if removal != WorkerState::Finished {
            return self.core.sync_frequency;
        }
        if let Err(errors) = self.core.runtime.remove_pod(&observed).await {
            tracing::warn!(
                pod = self.pod.format(),
                errors = errors.join("; "),
                "cannot remove the pod's containers yet"
            );
            let _ = self.core.runtime.cache.inspect(&self.uid).await;
            return self.retry_delay();
        }
        let logs = crate::kuberuntime::config::pod_log_dir(&self.core.runtime.node.pod_logs_dir, &self.pod);
        let _ = tokio::fs::remove_dir_all(&logs).await;
        let _ = self.core.runtime.cache.inspect(&self.uid).await;
        self.core.status.remove(&self.uid);
        self.core.records.remove(&self.uid);
        self.core.runtime.objects.forget_pod(&self.uid);
        self.core.runtime.images.forget_pod(&self.uid);
        self.core.runtime.back_off.forget_prefix(&format!("{}/", self.uid));
        tracing::info!(pod = self.pod.format(), "pod finished");
        self.state = WorkerState::Finished;
        Duration::ZERO
    }

    /// Computes the status, hands it to the status manager and keeps it on disk.
    async fn publish(&mut self, observed: &Arc<RuntimePod>, stopped: bool) -> PodStatus {
        self.read_messages(observed).await;
        let runtime = &self.core.runtime;
        let previous = self
            .core
            .status
            .get(&self.uid)
            .or_else(|| self.record.as_ref().map(|record| record.status.clone()))
            .or_else(|| self.pod.status.clone())
            .unwrap_or_default();
        let ips = if observed.ready_sandbox().is_some() { runtime.pod_ips(&self.pod, observed) } else { Vec::new() };
        let status = compute::compute(&StatusInputs {
            pod: &self.pod,
            observed,
            previous: &previous,
            start_errors: &self.start_errors,
            probes: &*runtime.probes,
            messages: &self.messages,
            runtime_name: &runtime.runtime_name,
            host_ips: &runtime.node.host_ips,
            pod_ips: &ips,
            qos_class: self.core.containers.qos_class(&self.pod).as_str(),
            stopped,
            failed: self.failed.as_ref().map(|(reason, message)| (reason.as_str(), message.as_str())),
            now: now_seconds(),
        });
        if self.core.status.set(&self.pod, status.clone()) {
            tracing::debug!(pod = self.pod.format(), phase = status.phase, "status changed");
        }
        let mut record = Record::new(&self.uid, self.pod.namespace_str(), self.pod.name_str(), status.clone());
        let ids: Vec<String> = observed.alive().map(|c| c.id.clone()).collect();
        record.probes = runtime.probes.of(&ids);
        record.back_off = runtime
            .back_off
            .with_prefix(&format!("{}/", self.uid))
            .into_iter()
            .filter_map(|(key, delay)| Some((key.split_once('/')?.1.to_owned(), delay.as_secs())))
            .collect();
        record.back_off.sort();
        if self.record.as_ref() != Some(&record) {
            self.core.records.save(record.clone());
            self.record = Some(record);
        }
        status
    }

    /// Reads the last words of containers that ended, once each.
    async fn read_messages(&mut self, observed: &Arc<RuntimePod>) {
        let ended: Vec<_> = observed
            .containers
            .iter()
            .filter(|c| c.state == ContainerState::Exited && !self.messages.contains_key(&c.id))
            .cloned()
            .collect();
        if !ended.is_empty() {
            let read = tokio::task::spawn_blocking(move || {
                ended.iter().map(|c| (c.id.clone(), termination_message::read(c))).collect::<BTreeMap<_, _>>()
            });
            self.messages.extend(read.await.unwrap_or_default());
        }
        self.messages.retain(|id, _| observed.containers.iter().any(|c| c.id == *id));
    }
}

/// Everything between the decision to run a pod and the runtime having it.
async fn sync_once(core: &Core, pod: &Arc<Pod>, observed: Arc<RuntimePod>) -> Result<SyncResult, String> {
    let conditions = core.runtime_state.conditions();
    let mut waiting = SyncResult::default();
    if let Some(error) = conditions.network_error.filter(|_| !pod.host_network()) {
        core.events.pod(pod, Kind::Warning, event::NETWORK_NOT_READY, format!("network is not ready: {error}"));
        waiting.pod_error = Some(error);
        return Ok(waiting);
    }
    if let Err(error) = core.containers.ensure_pod(pod).await {
        let message = format!(
            "failed to ensure that the pod: {} cgroups exist and are correctly applied: {error}",
            pod.uid_str()
        );
        core.events.pod(
            pod,
            Kind::Warning,
            event::FAILED_CREATE_POD_CONTAINER,
            format!("unable to ensure pod container exists: {message}"),
        );
        waiting.pod_error = Some(message);
        return Ok(waiting);
    }
    let volumes = match core.volumes.mount_pod(pod).await {
        Ok(volumes) => volumes,
        Err(error) => {
            core.events.pod(pod, Kind::Warning, event::FAILED_MOUNT, error_chain(&error));
            waiting.pod_error = Some(error_chain(&error));
            return Ok(waiting);
        }
    };
    let keyring = pull_secrets(core, pod).await;
    let inputs = SyncInputs { pod, observed, volumes: &volumes, keyring: &keyring };
    Ok(core.runtime.sync_pod(inputs).await)
}

async fn pull_secrets(core: &Core, pod: &Pod) -> Keyring {
    let mut secrets = Vec::new();
    for reference in pod.spec.as_ref().and_then(|s| s.image_pull_secrets.as_deref()).unwrap_or_default() {
        match core.runtime.objects.get_secret(pod.namespace_str(), &reference.name).await {
            Ok(secret) => secrets.push(secret),
            // The image may be public or present: upstream goes on too.
            Err(error) => tracing::warn!(pod = pod.format(), secret = reference.name, %error, "pull secret not read"),
        }
    }
    Keyring::from_secrets(secrets.iter().map(AsRef::as_ref))
}

/// An error with its sources, as users see it.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let part = cause.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = cause.source();
    }
    text
}
