//! Brings one pod's sandbox and containers up to its spec.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use orlop_runtime::cri;

use super::actions::{PodActions, compute_pod_actions};
use super::config::{self, ContainerInputs};
use super::env::{self, EnvContext, EnvError};
use super::types::{RuntimeContainer, RuntimePod};
use super::{RuntimeManager, StartError, SyncResult, dns, hooks};
use crate::backoff::go_duration;
use crate::events::Kind;
use crate::images::credentials::Keyring;
use crate::pod::{ContainerKind, PodExt, ephemeral_as_container};
use crate::reasons::{WaitingReason, event};
use crate::volumes::PodVolumes;

/// What a sync needs beside the pod.
pub(crate) struct SyncInputs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) observed: Arc<RuntimePod>,
    pub(crate) volumes: &'a PodVolumes,
    pub(crate) keyring: &'a Keyring,
}

impl RuntimeManager {
    /// One pass. The caller looks at the pod again afterwards.
    pub(crate) async fn sync_pod(&self, inputs: SyncInputs<'_>) -> SyncResult {
        let pod = inputs.pod;
        let mut result = SyncResult::default();
        let actions = compute_pod_actions(pod, &inputs.observed, &*self.probes);
        tracing::debug!(pod = pod.format(), ?actions, "actions");
        if actions.kill_pod {
            if actions.create_sandbox && actions.sandbox_id.is_some() {
                self.events.pod(
                    pod,
                    Kind::Normal,
                    event::SANDBOX_CHANGED,
                    "Pod sandbox changed, it will be killed and re-created.",
                );
            }
            if let Err(errors) = self.kill_pod(Some(pod), &inputs.observed, None).await {
                let text = errors.join("; ");
                self.events.pod(pod, Kind::Warning, event::FAILED_KILL_POD, format!("error killing pod: {text}"));
                result.pod_error = Some(text);
                return result;
            }
        } else {
            for kill in &actions.to_kill {
                let found = inputs.observed.containers.iter().find(|c| c.id == kill.id);
                let Some(found) = found else { continue };
                let grace = self.probe_grace(pod, kill);
                if let Err(error) = self.kill_container(Some(pod), found, &kill.message, grace).await {
                    result.pod_error = Some(error);
                    return result;
                }
            }
        }
        self.remove_old_containers(pod, &inputs.observed).await;
        let (sandbox_id, config, ips) = match self.sandbox(pod, &actions).await {
            Ok(Some(sandbox)) => sandbox,
            Ok(None) => return result,
            Err(message) => {
                result.pod_error = Some(message);
                return result;
            }
        };
        let run = Run { inputs: &inputs, sandbox_id: &sandbox_id, config: &config, ips: &ips };
        for &index in &actions.ephemeral_to_start {
            let Some(ephemeral) = pod.ephemeral_containers().get(index) else { continue };
            let container = ephemeral_as_container(ephemeral);
            self.start(&run, ContainerKind::Ephemeral, &container, &mut result).await;
        }
        for &index in &actions.init_to_start {
            let Some(container) = pod.init_containers().get(index) else { continue };
            let started = self.start(&run, ContainerKind::Init, container, &mut result).await;
            if !started && !crate::pod::is_sidecar(container) {
                return result;
            }
        }
        for &index in &actions.to_start {
            let Some(container) = pod.containers().get(index) else { continue };
            self.start(&run, ContainerKind::Regular, container, &mut result).await;
        }
        result
    }

    /// The sandbox to work in: made now, or the one that is there. `None`: there is nothing to do.
    async fn sandbox(
        &self,
        pod: &Pod,
        actions: &PodActions,
    ) -> Result<Option<(String, cri::PodSandboxConfig, Vec<String>)>, String> {
        let nothing =
            actions.ephemeral_to_start.is_empty() && actions.init_to_start.is_empty() && actions.to_start.is_empty();
        if !actions.create_sandbox && (actions.kill_pod || nothing) {
            return Ok(None);
        }
        let node_dns = self.node_dns().await;
        let config = config::sandbox_config(
            pod,
            actions.attempt,
            &node_dns,
            &self.node.pod_logs_dir,
            self.containers.pod_cgroup_parent(pod),
            &self.node.seccomp_dir,
        )
        .map_err(|error| error.to_string())?;
        if !actions.create_sandbox {
            let id = actions.sandbox_id.clone().ok_or("the pod has no sandbox")?;
            let observed = self.cache.get(pod.uid_str());
            return Ok(Some((id, config, self.pod_ips(pod, &observed))));
        }
        let log_dir = config::pod_log_dir(&self.node.pod_logs_dir, pod);
        let fail = |message: String| {
            self.events.pod(
                pod,
                Kind::Warning,
                event::FAILED_CREATE_POD_SANDBOX,
                format!("Failed to create pod sandbox: {message}"),
            );
            message
        };
        tokio::fs::create_dir_all(&log_dir)
            .await
            .map_err(|error| fail(format!("create log directory {}: {error}", log_dir.display())))?;
        let handler = "";
        let id = self.runtime.run_pod_sandbox(config.clone(), handler).await.map_err(|error| fail(error.message()))?;
        let observed = self.cache.inspect(pod.uid_str()).await.map_err(|error| error.message())?;
        Ok(Some((id, config, self.pod_ips(pod, &observed))))
    }

    /// Addresses that the pod has: its own, or the host's.
    pub(crate) fn pod_ips(&self, pod: &Pod, observed: &RuntimePod) -> Vec<String> {
        if pod.host_network() { self.node.host_ips.clone() } else { observed.ips() }
    }

    async fn node_dns(&self) -> dns::NodeDns {
        let path = &self.node.resolver_config;
        let text = if path.as_os_str().is_empty() {
            String::new()
        } else {
            tokio::fs::read_to_string(path).await.unwrap_or_default()
        };
        dns::NodeDns {
            cluster_dns: self.node.cluster_dns.clone(),
            cluster_domain: self.node.cluster_domain.clone(),
            host: dns::parse_resolv_conf(&text),
        }
    }

    /// Starts a container; errors go into `result`. True where it runs now.
    async fn start(&self, run: &Run<'_>, kind: ContainerKind, container: &Container, result: &mut SyncResult) -> bool {
        let pod = run.inputs.pod;
        let previous = run.inputs.observed.find(&container.name);
        if let Some((remaining, delay)) = self.crash_back_off(pod, run.inputs.observed.find_exited(&container.name)) {
            let key = pod.format();
            let message =
                format!("back-off {} restarting failed container={} pod={key}", go_duration(delay), container.name);
            self.events.container(
                pod,
                &container.name,
                Kind::Warning,
                event::BACK_OFF,
                format!("Back-off restarting failed container {} in pod {key}", container.name),
            );
            result.retry_in(remaining);
            result.errors.push(StartError {
                container: container.name.clone(),
                reason: WaitingReason::CrashLoopBackOff,
                message,
            });
            return false;
        }
        match self.start_container(run, kind, container, previous, result).await {
            Ok(()) => {
                result.started.push(container.name.clone());
                true
            }
            Err((reason, message)) => {
                // About an image, the events before this one said what is wrong.
                let shown = if reason.is_image() { reason.as_str().to_owned() } else { message.clone() };
                if reason != WaitingReason::PostStartHookError {
                    self.events.container(
                        pod,
                        &container.name,
                        Kind::Warning,
                        event::FAILED,
                        format!("Error: {shown}"),
                    );
                }
                result.errors.push(StartError { container: container.name.clone(), reason, message });
                false
            }
        }
    }

    /// Counts a crash back-off on: what is left of it, and its whole length. `None`: start now.
    ///
    /// `exited` is the last one that was seen to end. A container that this pass killed (a failed probe) still
    /// shows as running, so the one before it counts: the first restart is at once, further ones wait.
    fn crash_back_off(&self, pod: &Pod, exited: Option<&RuntimeContainer>) -> Option<(Duration, Duration)> {
        let previous = exited?;
        let key = format!("{}/{}", pod.uid_str(), previous.name);
        let since = previous.finished_at.map_or(Duration::ZERO, |at| {
            Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or(Duration::ZERO)
        });
        let remaining = self.back_off.remaining(&key, since);
        if !remaining.is_zero() {
            return Some((remaining, self.back_off.delay(&key)));
        }
        self.back_off.next(&key, since);
        None
    }

    async fn start_container(
        &self,
        run: &Run<'_>,
        kind: ContainerKind,
        container: &Container,
        previous: Option<&RuntimeContainer>,
        result: &mut SyncResult,
    ) -> Result<(), (WaitingReason, String)> {
        let pod = run.inputs.pod;
        let image_ref = self.images.ensure(pod, container, run.inputs.keyring, run.config).await.map_err(|error| {
            if let Some(delay) = error.retry_after {
                result.retry_in(delay);
            }
            (error.reason, error.message)
        })?;
        let restart_count = previous.map_or(0, |c| c.restart_count + 1);
        let config = self
            .container_config(run, kind, container, restart_count, image_ref)
            .await
            .map_err(|message| (WaitingReason::CreateContainerConfigError, message))?;
        let id = self
            .runtime
            .create_container(run.sandbox_id, config, run.config.clone())
            .await
            .map_err(|error| (WaitingReason::CreateContainerError, error.description()))?;
        self.events.container(pod, &container.name, Kind::Normal, event::CREATED, "Container created");
        self.runtime
            .start_container(&id)
            .await
            .map_err(|error| (WaitingReason::RunContainerError, error.description()))?;
        self.events.container(pod, &container.name, Kind::Normal, event::STARTED, "Container started");
        let post_start = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        if let Some(hook) = post_start {
            // The status must show the container running while its hook runs.
            let _ = self.cache.inspect(pod.uid_str()).await;
            let ip = run.ips.first().map(String::as_str).unwrap_or_default();
            if let Err(error) = hooks::run(&self.runtime, container, &id, hook, ip).await {
                tracing::warn!(pod = pod.format(), container = container.name, error, "postStart hook failed");
                self.events.container(
                    pod,
                    &container.name,
                    Kind::Warning,
                    event::FAILED_POST_START_HOOK,
                    "PostStartHook failed",
                );
                let found = self.cache.inspect(pod.uid_str()).await.ok();
                if let Some(found) = found.as_ref().and_then(|p| p.containers.iter().find(|c| c.id == id)) {
                    let _ = self.kill_container(Some(pod), found, "FailedPostStartHook", None).await;
                }
                return Err((WaitingReason::PostStartHookError, "PostStartHook failed".to_owned()));
            }
        }
        Ok(())
    }

    async fn container_config(
        &self,
        run: &Run<'_>,
        kind: ContainerKind,
        container: &Container,
        restart_count: i32,
        image_ref: String,
    ) -> Result<cri::ContainerConfig, String> {
        let pod = run.inputs.pod;
        let services = if pod.is_static() { self.services.current(pod) } else { self.services.synced(pod).await };
        let services = services.ok_or_else(|| EnvError::ServicesNotSynced.to_string())?;
        let context = EnvContext {
            pod,
            node_name: &self.node.node_name,
            host_ips: &self.node.host_ips,
            pod_ips: run.ips,
            services: &services,
            node_allocatable: &self.node.allocatable,
        };
        let env = env::resolve(&context, container, &self.objects).await.map_err(|error| error.to_string())?;
        let mounts =
            run.inputs.volumes.container_mounts(container, &|name| env.get(name)).map_err(|error| error.to_string())?;
        let image = self.runtime.image_status(&image_ref).await.ok().flatten();
        let hosts_file = self.hosts_file(pod, run.ips).await?;
        let termination_file = self.termination_file(pod, container).await?;
        let log_dir = config::pod_log_dir(&self.node.pod_logs_dir, pod).join(&container.name);
        tokio::fs::create_dir_all(&log_dir).await.map_err(|error| {
            format!("create container log directory for container {} failed: {error}", container.name)
        })?;
        let target_id = if kind == ContainerKind::Ephemeral {
            let target = pod
                .ephemeral_containers()
                .iter()
                .find(|c| c.name == container.name)
                .and_then(|c| c.target_container_name.clone());
            match target {
                Some(name) => Some(
                    run.inputs
                        .observed
                        .find(&name)
                        .map(|c| c.id.clone())
                        .ok_or_else(|| format!("unable to find target container {name}"))?,
                ),
                None => None,
            }
        } else {
            None
        };
        config::container_config(ContainerInputs {
            pod,
            container,
            restart_count,
            image_ref,
            image: image.as_ref(),
            env: &env,
            mounts,
            hosts_file: Some(hosts_file),
            termination_file,
            resources: self.containers.container_resources(pod, container),
            seccomp_dir: &self.node.seccomp_dir,
            target_id,
        })
        .map_err(|error| error.to_string())
    }

    fn pod_dir(&self, pod: &Pod) -> PathBuf {
        self.node.root_dir.join("pods").join(pod.uid_str())
    }

    /// `<root-dir>/pods/UID/etc-hosts`.
    async fn hosts_file(&self, pod: &Pod, ips: &[String]) -> Result<PathBuf, String> {
        let path = self.pod_dir(pod).join("etc-hosts");
        let (hostname, domain) = dns::hostname(pod, &self.node.cluster_domain);
        let text = if pod.host_network() {
            let host = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
            dns::host_hosts_file(pod, &host)
        } else {
            dns::hosts_file(pod, ips, &hostname, &domain)
        };
        write_file(&path, text.as_bytes(), 0o644).await?;
        Ok(path)
    }

    /// A fresh file for the termination message: `<root-dir>/pods/UID/containers/NAME/XXXXXXXX`.
    async fn termination_file(&self, pod: &Pod, container: &Container) -> Result<Option<PathBuf>, String> {
        if container.termination_message_path.as_deref().is_none_or(str::is_empty) {
            return Ok(None);
        }
        let name = format!("{:08x}", rand::random::<u32>());
        let path = self.pod_dir(pod).join("containers").join(&container.name).join(name);
        write_file(&path, b"", 0o666).await?;
        Ok(Some(path))
    }
}

async fn write_file(path: &std::path::Path, content: &[u8], mode: u32) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let describe = |error: std::io::Error| format!("write {}: {error}", path.display());
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await.map_err(describe)?;
    }
    // In place: the file may be mounted into a container already.
    tokio::fs::write(path, content).await.map_err(describe)?;
    tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).await.map_err(describe)
}

/// One pass in one sandbox.
struct Run<'a> {
    inputs: &'a SyncInputs<'a>,
    sandbox_id: &'a str,
    config: &'a cri::PodSandboxConfig,
    ips: &'a [String],
}
