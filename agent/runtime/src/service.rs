//! `RuntimeService`: sandboxes, containers, exec, stats, events and the runtime's own status.

use std::time::Duration;

use k8s_cri::v1 as cri;
use tonic::Streaming;

use crate::client::RuntimeClient;
use crate::error::RuntimeError;

/// Upstream waits this much longer than the grace period for StopContainer and ExecSync to come back.
const GRACE_SLACK: Duration = Duration::from_secs(60);

/// The stream of container events; ends when the runtime goes away.
#[derive(Debug)]
pub struct ContainerEvents(Streaming<cri::ContainerEventResponse>);

impl ContainerEvents {
    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<cri::ContainerEventResponse>, RuntimeError> {
        self.0.message().await.map_err(|status| RuntimeError::call("GetContainerEvents", &status))
    }
}

impl RuntimeClient {
    fn limit(&self) -> Duration {
        self.options.request_timeout
    }

    /// Name and version of the runtime.
    pub async fn version(&self) -> Result<cri::VersionResponse, RuntimeError> {
        let request = cri::VersionRequest { version: "0.1.0".to_owned() };
        self.bounded("Version", self.limit(), self.runtime.clone().version(request)).await
    }

    /// Conditions RuntimeReady and NetworkReady, handlers, features.
    pub async fn status(&self, verbose: bool) -> Result<cri::StatusResponse, RuntimeError> {
        self.bounded("Status", self.limit(), self.runtime.clone().status(cri::StatusRequest { verbose })).await
    }

    /// The cgroup driver that the runtime uses; unimplemented before containerd 2.
    pub async fn runtime_config(&self) -> Result<cri::RuntimeConfigResponse, RuntimeError> {
        self.bounded("RuntimeConfig", self.limit(), self.runtime.clone().runtime_config(cri::RuntimeConfigRequest {}))
            .await
    }

    /// Tells the runtime the pod CIDR (its CNI template may want it).
    pub async fn update_runtime_config(&self, pod_cidr: &str) -> Result<(), RuntimeError> {
        let request = cri::UpdateRuntimeConfigRequest {
            runtime_config: Some(cri::RuntimeConfig {
                network_config: Some(cri::NetworkConfig { pod_cidr: pod_cidr.to_owned() }),
            }),
        };
        self.bounded("UpdateRuntimeConfig", self.limit(), self.runtime.clone().update_runtime_config(request)).await?;
        Ok(())
    }

    /// Creates and starts a sandbox; returns its id. Takes twice the usual limit, as upstream's does.
    pub async fn run_pod_sandbox(
        &self,
        config: cri::PodSandboxConfig,
        runtime_handler: &str,
    ) -> Result<String, RuntimeError> {
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: runtime_handler.to_owned() };
        let answer =
            self.bounded("RunPodSandbox", self.limit() * 2, self.runtime.clone().run_pod_sandbox(request)).await?;
        if answer.pod_sandbox_id.is_empty() {
            return Err(RuntimeError::Incomplete { call: "RunPodSandbox", missing: "pod_sandbox_id" });
        }
        Ok(answer.pod_sandbox_id)
    }

    /// Stops a sandbox and what runs in it; one that is gone already is success.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(self.bounded("StopPodSandbox", self.limit(), self.runtime.clone().stop_pod_sandbox(request)).await)
    }

    /// Removes a sandbox; one that is gone already is success.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(
            self.bounded("RemovePodSandbox", self.limit(), self.runtime.clone().remove_pod_sandbox(request)).await,
        )
    }

    /// One sandbox, with its addresses.
    pub async fn pod_sandbox_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<cri::PodSandboxStatusResponse, RuntimeError> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose };
        let answer =
            self.bounded("PodSandboxStatus", self.limit(), self.runtime.clone().pod_sandbox_status(request)).await?;
        if answer.status.is_none() {
            return Err(RuntimeError::Incomplete { call: "PodSandboxStatus", missing: "status" });
        }
        Ok(answer)
    }

    /// Sandboxes that match.
    pub async fn list_pod_sandbox(
        &self,
        filter: Option<cri::PodSandboxFilter>,
    ) -> Result<Vec<cri::PodSandbox>, RuntimeError> {
        let request = cri::ListPodSandboxRequest { filter };
        Ok(self.bounded("ListPodSandbox", self.limit(), self.runtime.clone().list_pod_sandbox(request)).await?.items)
    }

    /// Creates a container in a sandbox; returns its id.
    pub async fn create_container(
        &self,
        sandbox_id: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let answer =
            self.bounded("CreateContainer", self.limit(), self.runtime.clone().create_container(request)).await?;
        if answer.container_id.is_empty() {
            return Err(RuntimeError::Incomplete { call: "CreateContainer", missing: "container_id" });
        }
        Ok(answer.container_id)
    }

    /// Starts a created container.
    pub async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        let request = cri::StartContainerRequest { container_id: id.to_owned() };
        self.bounded("StartContainer", self.limit(), self.runtime.clone().start_container(request)).await?;
        Ok(())
    }

    /// Stops a container, killing it after `grace_period_s`; one that is gone already is success.
    pub async fn stop_container(&self, id: &str, grace_period_s: i64) -> Result<(), RuntimeError> {
        let grace = Duration::from_secs(u64::try_from(grace_period_s).unwrap_or(0));
        let request = cri::StopContainerRequest { container_id: id.to_owned(), timeout: grace_period_s.max(0) };
        gone_is_fine(
            self.bounded(
                "StopContainer",
                grace.saturating_add(self.limit()),
                self.runtime.clone().stop_container(request),
            )
            .await,
        )
    }

    /// Removes a container; one that is gone already is success.
    pub async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        let request = cri::RemoveContainerRequest { container_id: id.to_owned() };
        gone_is_fine(
            self.bounded("RemoveContainer", self.limit(), self.runtime.clone().remove_container(request)).await,
        )
    }

    /// Containers that match.
    pub async fn list_containers(
        &self,
        filter: Option<cri::ContainerFilter>,
    ) -> Result<Vec<cri::Container>, RuntimeError> {
        let request = cri::ListContainersRequest { filter };
        Ok(self
            .bounded("ListContainers", self.limit(), self.runtime.clone().list_containers(request))
            .await?
            .containers)
    }

    /// One container.
    pub async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus, RuntimeError> {
        Ok(self.container_status_verbose(id, false).await?.0)
    }

    /// One container with the runtime's free-form facts about it.
    pub async fn container_status_verbose(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<(cri::ContainerStatus, std::collections::HashMap<String, String>), RuntimeError> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose };
        let answer =
            self.bounded("ContainerStatus", self.limit(), self.runtime.clone().container_status(request)).await?;
        let status = answer.status.ok_or(RuntimeError::Incomplete { call: "ContainerStatus", missing: "status" })?;
        Ok((status, answer.info))
    }

    /// Changes the resources of a running container.
    pub async fn update_container_resources(
        &self,
        id: &str,
        linux: cri::LinuxContainerResources,
    ) -> Result<(), RuntimeError> {
        let request = cri::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            ..Default::default()
        };
        self.bounded(
            "UpdateContainerResources",
            self.limit(),
            self.runtime.clone().update_container_resources(request),
        )
        .await?;
        Ok(())
    }

    /// Makes the runtime open the log file anew, after rotation.
    pub async fn reopen_container_log(&self, id: &str) -> Result<(), RuntimeError> {
        let request = cri::ReopenContainerLogRequest { container_id: id.to_owned() };
        self.bounded("ReopenContainerLog", self.limit(), self.runtime.clone().reopen_container_log(request)).await?;
        Ok(())
    }

    /// Runs a command in a container and waits for it. `limit` zero means the runtime sets no limit.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        limit: Duration,
    ) -> Result<cri::ExecSyncResponse, RuntimeError> {
        let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        let request = cri::ExecSyncRequest { container_id: id.to_owned(), cmd: command, timeout: seconds };
        let ours = if limit.is_zero() { Duration::from_secs(24 * 3600) } else { limit + GRACE_SLACK.min(self.limit()) };
        self.bounded("ExecSync", ours, self.runtime.clone().exec_sync(request)).await
    }

    /// A streaming URL for an interactive command.
    pub async fn exec(&self, request: cri::ExecRequest) -> Result<String, RuntimeError> {
        Ok(self.bounded("Exec", self.limit(), self.runtime.clone().exec(request)).await?.url)
    }

    /// A streaming URL onto the container's main process.
    pub async fn attach(&self, request: cri::AttachRequest) -> Result<String, RuntimeError> {
        Ok(self.bounded("Attach", self.limit(), self.runtime.clone().attach(request)).await?.url)
    }

    /// A streaming URL into the sandbox's network.
    pub async fn port_forward(&self, sandbox_id: &str, port: Vec<i32>) -> Result<String, RuntimeError> {
        let request = cri::PortForwardRequest { pod_sandbox_id: sandbox_id.to_owned(), port };
        Ok(self.bounded("PortForward", self.limit(), self.runtime.clone().port_forward(request)).await?.url)
    }

    /// Usage of one container.
    pub async fn container_stats(&self, id: &str) -> Result<cri::ContainerStats, RuntimeError> {
        let request = cri::ContainerStatsRequest { container_id: id.to_owned() };
        self.bounded("ContainerStats", self.limit(), self.runtime.clone().container_stats(request))
            .await?
            .stats
            .ok_or(RuntimeError::Incomplete { call: "ContainerStats", missing: "stats" })
    }

    /// Usage of the containers that match.
    pub async fn list_container_stats(
        &self,
        filter: Option<cri::ContainerStatsFilter>,
    ) -> Result<Vec<cri::ContainerStats>, RuntimeError> {
        let request = cri::ListContainerStatsRequest { filter };
        Ok(self
            .bounded("ListContainerStats", self.limit(), self.runtime.clone().list_container_stats(request))
            .await?
            .stats)
    }

    /// Usage of one sandbox.
    pub async fn pod_sandbox_stats(&self, id: &str) -> Result<cri::PodSandboxStats, RuntimeError> {
        let request = cri::PodSandboxStatsRequest { pod_sandbox_id: id.to_owned() };
        self.bounded("PodSandboxStats", self.limit(), self.runtime.clone().pod_sandbox_stats(request))
            .await?
            .stats
            .ok_or(RuntimeError::Incomplete { call: "PodSandboxStats", missing: "stats" })
    }

    /// Usage of the sandboxes that match.
    pub async fn list_pod_sandbox_stats(
        &self,
        filter: Option<cri::PodSandboxStatsFilter>,
    ) -> Result<Vec<cri::PodSandboxStats>, RuntimeError> {
        let request = cri::ListPodSandboxStatsRequest { filter };
        Ok(self
            .bounded("ListPodSandboxStats", self.limit(), self.runtime.clone().list_pod_sandbox_stats(request))
            .await?
            .stats)
    }

    /// Checkpoints a container into a file.
    pub async fn checkpoint_container(&self, id: &str, location: &str, limit_s: i64) -> Result<(), RuntimeError> {
        let request = cri::CheckpointContainerRequest {
            container_id: id.to_owned(),
            location: location.to_owned(),
            timeout: limit_s,
        };
        self.bounded("CheckpointContainer", self.limit(), self.runtime.clone().checkpoint_container(request)).await?;
        Ok(())
    }

    /// Subscribes to container events. Runtimes without them (containerd 1.6) answer Unimplemented,
    /// at once or as the first item.
    pub async fn container_events(&self) -> Result<ContainerEvents, RuntimeError> {
        let stream = self
            .bounded(
                "GetContainerEvents",
                self.limit(),
                self.runtime.clone().get_container_events(cri::GetEventsRequest {}),
            )
            .await?;
        Ok(ContainerEvents(stream))
    }
}

fn gone_is_fine<T>(answer: Result<T, RuntimeError>) -> Result<(), RuntimeError> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
