//! One probe of one container, over all of the container's restarts.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

use super::action::{self, Outcome};
use super::results::{ProbeKind, ProbeResult};
use super::{ProbeManager, grpc};
use crate::events::Kind;
use crate::kuberuntime::types::{ContainerState, RuntimeContainer, RuntimePod};
use crate::pod::PodExt;
use crate::reasons::event;

/// Attempts when the runtime, not the container, is at fault.
const INTERNAL_RETRIES: usize = 3;

pub(super) struct Worker {
    manager: Arc<ProbeManager>,
    pod: Arc<Pod>,
    container: Container,
    kind: ProbeKind,
    probe: Probe,
    pods: watch::Receiver<Arc<RuntimePod>>,
}

/// Successes or failures in a row.
#[derive(Debug, Default)]
struct Streak {
    last: Option<bool>,
    length: i32,
}

impl Streak {
    /// The new result where a threshold is reached.
    fn count(&mut self, success: bool, probe: &Probe) -> Option<ProbeResult> {
        self.length = if self.last == Some(success) { self.length.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let threshold =
            if success { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        (self.length >= threshold).then_some(if success { ProbeResult::Success } else { ProbeResult::Failure })
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
}

impl Worker {
    pub(super) fn new(
        manager: Arc<ProbeManager>,
        pod: Arc<Pod>,
        container: Container,
        kind: ProbeKind,
        probe: Probe,
    ) -> Self {
        let pods = manager.cache.subscribe(pod.uid_str());
        Self { manager, pod, container, kind, probe, pods }
    }

    /// Never ends by itself.
    pub(super) async fn run(mut self) {
        let mut done: Option<String> = None;
        loop {
            let found = self.next_container(done.as_deref()).await;
            self.probe_container(&found).await;
            done = Some(found.id);
        }
    }

    /// Waits until a container other than `done` runs.
    async fn next_container(&mut self, done: Option<&str>) -> RuntimeContainer {
        loop {
            let found = self.pods.borrow_and_update().find(&self.container.name).cloned();
            if let Some(found) = found
                && found.state == ContainerState::Running
                && done != Some(found.id.as_str())
            {
                return found;
            }
            if self.pods.changed().await.is_err() {
                // The cache lives as long as the kubelet.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Probes one container until it ends, or until the probe has spoken for good.
    async fn probe_container(&mut self, found: &RuntimeContainer) {
        let id = &found.id;
        let first = match self.kind {
            ProbeKind::Readiness => ProbeResult::Failure,
            ProbeKind::Liveness => ProbeResult::Success,
            ProbeKind::Startup => ProbeResult::Unknown,
        };
        self.manager.results.seed(self.kind, id, first);
        if self.kind == ProbeKind::Startup && self.result(id) == Some(ProbeResult::Success) {
            // Known from before the agent restarted.
            return self.until_gone(id).await;
        }
        let mut streak = Streak::default();
        let delay = Duration::from_secs(u64::try_from(self.probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0));
        let running_for = found.started_at.map_or(Duration::ZERO, |at| {
            Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or(Duration::ZERO)
        });
        if !self.wait(id, delay.saturating_sub(running_for)).await {
            return self.leave(id);
        }
        let mut ticks = tokio::time::interval(seconds(self.probe.period_seconds, 10));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.runs(id) {
                return self.leave(id);
            }
            if self.kind != ProbeKind::Startup && !self.startup_done(id) {
                // Looked at again soon after the startup probe succeeds.
                if !self.until_started(id).await {
                    return self.leave(id);
                }
                ticks.reset_immediately();
                continue;
            }
            let Some(outcome) = self.attempt(id).await else { continue };
            let success = !matches!(outcome, Outcome::Failure(_));
            self.report(&outcome);
            let Some(result) = streak.count(success, &self.probe) else { continue };
            if self.manager.results.set(self.kind, id, result) {
                tracing::info!(
                    pod = self.pod.format(),
                    container = self.container.name,
                    probe = self.kind.as_str(),
                    ?result,
                    "probe result changed"
                );
                (self.manager.wake)(self.pod.uid_str());
            }
            let settled = match (self.kind, result) {
                // The container is going to be killed: its successor starts anew.
                (ProbeKind::Liveness | ProbeKind::Startup, ProbeResult::Failure) => true,
                (ProbeKind::Startup, ProbeResult::Success) => true,
                _ => false,
            };
            if settled {
                return self.until_gone(id).await;
            }
        }
    }

    fn result(&self, id: &str) -> Option<ProbeResult> {
        self.manager.results.get(self.kind, id)
    }

    fn startup_done(&self, id: &str) -> bool {
        self.container.startup_probe.is_none()
            || self.manager.results.get(ProbeKind::Startup, id) == Some(ProbeResult::Success)
    }

    fn runs(&self, id: &str) -> bool {
        self.pods.borrow().containers.iter().any(|c| c.id == id && c.state == ContainerState::Running)
    }

    /// Waits; false if the container ended meanwhile.
    async fn wait(&mut self, id: &str, time: Duration) -> bool {
        let end = tokio::time::Instant::now() + time;
        while self.runs(id) {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return true,
                changed = self.pods.changed() => if changed.is_err() { return false },
            }
        }
        false
    }

    async fn until_started(&mut self, id: &str) -> bool {
        while !self.startup_done(id) {
            if !self.wait(id, Duration::from_millis(200)).await {
                return false;
            }
        }
        true
    }

    async fn until_gone(&mut self, id: &str) {
        while self.runs(id) {
            if self.pods.changed().await.is_err() {
                break;
            }
        }
        self.leave(id);
    }

    fn leave(&self, id: &str) {
        self.manager.results.remove(self.kind, id);
    }

    fn report(&self, outcome: &Outcome) {
        let word = self.kind.as_str();
        let name = &self.container.name;
        match outcome {
            Outcome::Success(_) => {}
            Outcome::Warning(text) => self.manager.events.container(
                &self.pod,
                name,
                Kind::Warning,
                event::PROBE_WARNING,
                format!("{word} probe warning: {text}"),
            ),
            Outcome::Failure(text) => self.manager.events.container(
                &self.pod,
                name,
                Kind::Warning,
                event::UNHEALTHY,
                format!("{word} probe failed: {text}"),
            ),
        }
    }

    /// One attempt; `None` where the runtime was at fault, which says nothing about the container.
    async fn attempt(&self, id: &str) -> Option<Outcome> {
        let mut last = String::new();
        for _ in 0..INTERNAL_RETRIES {
            match self.attempt_once(id).await {
                Ok(outcome) => return Some(outcome),
                Err(error) => last = error,
            }
        }
        if self.runs(id) {
            self.manager.events.container(
                &self.pod,
                &self.container.name,
                Kind::Warning,
                event::UNHEALTHY,
                format!("{} probe errored and resulted in unknown state: {last}", self.kind.as_str()),
            );
        }
        None
    }

    async fn attempt_once(&self, id: &str) -> Result<Outcome, String> {
        let limit = seconds(self.probe.timeout_seconds, 1);
        if let Some(exec) = &self.probe.exec {
            return action::exec(&self.manager.runtime, id, exec.command.clone().unwrap_or_default(), limit).await;
        }
        let ip = self.pod_ip();
        if let Some(http) = &self.probe.http_get {
            let request =
                action::HttpRequest::new(http, &self.container, &ip).ok_or("couldn't find the probe's port")?;
            return Ok(action::http_get(&request, limit).await);
        }
        if let Some(tcp) = &self.probe.tcp_socket {
            let port = action::port_number(&tcp.port, &self.container).ok_or("couldn't find the probe's port")?;
            let host = tcp.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&ip);
            return Ok(action::tcp_connect(host, port, limit).await);
        }
        if let Some(wanted) = &self.probe.grpc {
            let port = u16::try_from(wanted.port).map_err(|error| error.to_string())?;
            let service = wanted.service.as_deref().unwrap_or_default();
            return Ok(grpc::check(&ip, port, service, limit).await);
        }
        Err(format!("missing probe handler for {}:{}", self.pod.format(), self.container.name))
    }

    fn pod_ip(&self) -> String {
        let ips = if self.pod.host_network() { self.manager.host_ips.clone() } else { self.pods.borrow().ips() };
        ips.into_iter().next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Default::default() };
        let mut streak = Streak::default();
        let results: Vec<Option<ProbeResult>> = [true, true, false, false, true, false, false, false, false]
            .into_iter()
            .map(|success| streak.count(success, &probe))
            .collect();
        let (s, f) = (Some(ProbeResult::Success), Some(ProbeResult::Failure));
        assert_eq!(results, [None, s, None, None, None, None, None, f, f]);
    }
}
