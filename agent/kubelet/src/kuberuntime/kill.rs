//! Stops containers: hooks, grace, order; and removes what the runtime need not keep.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::actions::{ContainerToKill, KillReason};
use super::types::{RuntimeContainer, RuntimePod};
use super::{RuntimeManager, hooks};
use crate::events::Kind;
use crate::pod::{DEFAULT_GRACE_PERIOD_S, PodExt, is_sidecar};
use crate::reasons::event;

/// Every container gets at least this long, whatever its hook used up.
const MINIMUM_GRACE_S: i64 = 2;

impl RuntimeManager {
    /// A probe may bring its own grace period.
    pub(crate) fn probe_grace(&self, pod: &Pod, kill: &ContainerToKill) -> Option<i64> {
        let (_, container) = pod.find_container(&kill.name)?;
        match kill.reason {
            KillReason::LivenessProbe => container.liveness_probe?.termination_grace_period_seconds,
            KillReason::StartupProbe => container.startup_probe?.termination_grace_period_seconds,
            KillReason::SpecChanged | KillReason::Unknown => None,
        }
    }

    /// Stops one container: `preStop` within the grace period, then the runtime's stop.
    /// Without a pod the grace period comes from the container's annotations.
    pub(crate) async fn kill_container(
        &self,
        pod: Option<&Pod>,
        found: &RuntimeContainer,
        message: &str,
        grace_period_s: Option<i64>,
    ) -> Result<(), String> {
        let mut grace = grace_period_s
            .or_else(|| pod.map(PodExt::grace_period_s))
            .or(found.pod_grace_period_s)
            .unwrap_or(DEFAULT_GRACE_PERIOD_S);
        if let Some(pod) = pod {
            let message =
                if message.is_empty() { format!("Stopping container {}", found.name) } else { message.to_owned() };
            self.events.container(pod, &found.name, Kind::Normal, event::KILLING, message);
            let container = pod.find_container(&found.name).map(|(_, container)| container);
            let hook = container.as_ref().and_then(|c| c.lifecycle.as_ref()?.pre_stop.clone());
            if let (Some(container), Some(hook)) = (&container, hook)
                && grace > 0
            {
                let started = Instant::now();
                let ips = self.pod_ips(pod, &self.cache.get(pod.uid_str()));
                let ip = ips.first().map(String::as_str).unwrap_or_default();
                let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
                let run = hooks::run(&self.runtime, container, &found.id, &hook, ip);
                match tokio::time::timeout(limit, run).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(pod = pod.format(), container = found.name, error, "preStop hook failed");
                        self.events.container(
                            pod,
                            &found.name,
                            Kind::Warning,
                            event::FAILED_PRE_STOP_HOOK,
                            "PreStopHook failed",
                        );
                    }
                    Err(_) => {
                        tracing::info!(
                            pod = pod.format(),
                            container = found.name,
                            "preStop hook used up the grace period"
                        );
                    }
                }
                grace -= i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
            }
        }
        if grace_period_s != Some(0) {
            grace = grace.max(MINIMUM_GRACE_S);
        }
        self.runtime.stop_container(&found.id, grace).await.map_err(|error| error.to_string())
    }

    /// Stops everything of a pod: regular containers at once, then sidecars in reverse order, then sandboxes.
    pub(crate) async fn kill_pod(
        &self,
        pod: Option<&Pod>,
        observed: &RuntimePod,
        grace_period_s: Option<i64>,
    ) -> Result<(), Vec<String>> {
        let started = Instant::now();
        let rank = |found: &RuntimeContainer| {
            pod.and_then(|pod| pod.init_containers().iter().position(|c| c.name == found.name && is_sidecar(c)))
        };
        let (mut sidecars, regular): (Vec<_>, Vec<_>) = observed.alive().partition(|found| rank(found).is_some());
        sidecars.sort_by_key(|found| std::cmp::Reverse(rank(found)));
        let kills = regular.into_iter().map(|found| self.kill_container(pod, found, "", grace_period_s));
        let mut errors: Vec<String> = join_all(kills).await.into_iter().filter_map(Result::err).collect();
        for found in sidecars {
            let whole = grace_period_s.or_else(|| pod.map(PodExt::grace_period_s)).unwrap_or(DEFAULT_GRACE_PERIOD_S);
            let used = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
            let left = if grace_period_s == Some(0) { 0 } else { (whole - used).max(MINIMUM_GRACE_S) };
            errors.extend(self.kill_container(pod, found, "", Some(left)).await.err());
        }
        for sandbox in &observed.sandboxes {
            if let Err(error) = self.runtime.stop_pod_sandbox(&sandbox.id).await {
                errors.push(error.to_string());
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Removes all that the runtime has of a pod, stopped before.
    pub(crate) async fn remove_pod(&self, observed: &RuntimePod) -> Result<(), Vec<String>> {
        let mut errors = Vec::new();
        for container in &observed.containers {
            if let Err(error) = self.runtime.remove_container(&container.id).await {
                errors.push(error.to_string());
            }
        }
        for sandbox in &observed.sandboxes {
            if let Err(error) = self.runtime.remove_pod_sandbox(&sandbox.id).await {
                errors.push(error.to_string());
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Keeps, per container, what runs and one that ended before (`--previous`); sandboxes that are
    /// neither the newest nor hold a container go.
    pub(crate) async fn remove_old_containers(&self, pod: &Pod, observed: &RuntimePod) {
        let mut kept: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
        let mut holding = std::collections::HashSet::new();
        for container in &observed.containers {
            let dead = !matches!(
                container.state,
                super::types::ContainerState::Running | super::types::ContainerState::Unknown
            );
            let kept = kept.entry(&container.name).or_default();
            if dead && *kept >= 1 {
                if let Err(error) = self.runtime.remove_container(&container.id).await {
                    tracing::debug!(pod = pod.format(), %error, "cannot remove a dead container");
                    holding.insert(container.sandbox_id.as_str());
                } else if !container.log_path.is_empty() {
                    let _ = tokio::fs::remove_file(&container.log_path).await;
                }
                continue;
            }
            if dead {
                *kept += 1;
            }
            holding.insert(container.sandbox_id.as_str());
        }
        for sandbox in observed.sandboxes.iter().skip(1) {
            if !holding.contains(sandbox.id.as_str()) {
                let removed = async {
                    self.runtime.stop_pod_sandbox(&sandbox.id).await?;
                    self.runtime.remove_pod_sandbox(&sandbox.id).await
                };
                if let Err(error) = removed.await {
                    tracing::debug!(pod = pod.format(), %error, "cannot remove an old sandbox");
                }
            }
        }
    }
}
