//! The fake's two gRPC services over its state.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{FakeContainer, FakeSandbox, Fault, Shared};
use crate::cri;

#[derive(Clone, Debug)]
pub(crate) struct FakeService {
    pub(crate) shared: Arc<Shared>,
}

type Answer<T> = Result<Response<T>, Status>;

impl FakeService {
    async fn enter(&self, call: &str) -> Result<(), Status> {
        let fault = {
            let mut state = self.shared.lock();
            state.calls.push(call.to_owned());
            state.faults.get_mut(call).and_then(std::collections::VecDeque::pop_front)
        };
        match fault {
            None => Ok(()),
            Some(Fault::Fail(code, message)) => Err(Status::new(code, message)),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
        }
    }
}

fn has_labels(
    have: &std::collections::HashMap<String, String>,
    want: &std::collections::HashMap<String, String>,
) -> bool {
    want.iter().all(|(key, value)| have.get(key) == Some(value))
}

fn container_status(container: &FakeContainer) -> cri::ContainerStatus {
    let image = container.config.image.clone().unwrap_or_default();
    cri::ContainerStatus {
        id: container.id.clone(),
        metadata: container.config.metadata.clone(),
        state: container.state.into(),
        created_at: container.created_at,
        started_at: container.started_at,
        finished_at: container.finished_at,
        exit_code: container.exit_code,
        image_ref: image.image.clone(),
        image_id: image.image.clone(),
        image: Some(image),
        reason: container.reason.clone(),
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        mounts: container.config.mounts.clone(),
        log_path: container.config.log_path.clone(),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl cri::runtime_service_server::RuntimeService for FakeService {
    async fn version(&self, _: Request<cri::VersionRequest>) -> Answer<cri::VersionResponse> {
        self.enter("Version").await?;
        Ok(Response::new(cri::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "1.0.0".into(),
            runtime_api_version: "v1".into(),
        }))
    }

    async fn run_pod_sandbox(&self, request: Request<cri::RunPodSandboxRequest>) -> Answer<cri::RunPodSandboxResponse> {
        self.enter("RunPodSandbox").await?;
        let request = request.into_inner();
        let config = request.config.ok_or_else(|| Status::invalid_argument("no config"))?;
        let mut state = self.shared.lock();
        let taken = state.sandboxes.values().any(|s| s.config.metadata == config.metadata);
        if taken {
            return Err(Status::already_exists(format!("name {:?} is reserved", config.metadata)));
        }
        let id = state.next_id("sandbox");
        let (created_at, ip) = (state.tick(), state.next_ip());
        state.sandboxes.insert(
            id.clone(),
            FakeSandbox {
                id: id.clone(),
                config,
                ready: true,
                created_at,
                ip,
                runtime_handler: request.runtime_handler,
            },
        );
        Ok(Response::new(cri::RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<cri::StopPodSandboxRequest>,
    ) -> Answer<cri::StopPodSandboxResponse> {
        self.enter("StopPodSandbox").await?;
        let id = request.into_inner().pod_sandbox_id;
        let mut state = self.shared.lock();
        let running: Vec<String> =
            state.containers.values().filter(|c| c.sandbox == id).map(|c| c.id.clone()).collect();
        for container in running {
            state.exit(&container, 137, "");
        }
        if let Some(sandbox) = state.sandboxes.get_mut(&id) {
            sandbox.ready = false;
        }
        Ok(Response::new(cri::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<cri::RemovePodSandboxRequest>,
    ) -> Answer<cri::RemovePodSandboxResponse> {
        self.enter("RemovePodSandbox").await?;
        let id = request.into_inner().pod_sandbox_id;
        let mut state = self.shared.lock();
        if state.sandboxes.get(&id).is_some_and(|s| s.ready) {
            return Err(Status::failed_precondition("sandbox is ready"));
        }
        state.containers.retain(|_, c| c.sandbox != id);
        state.sandboxes.remove(&id);
        Ok(Response::new(cri::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<cri::PodSandboxStatusRequest>,
    ) -> Answer<cri::PodSandboxStatusResponse> {
        self.enter("PodSandboxStatus").await?;
        let id = request.into_inner().pod_sandbox_id;
        let state = self.shared.lock();
        let sandbox = state.sandboxes.get(&id).ok_or_else(|| Status::not_found("no such sandbox"))?;
        Ok(Response::new(cri::PodSandboxStatusResponse { status: Some(sandbox.status()), ..Default::default() }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<cri::ListPodSandboxRequest>,
    ) -> Answer<cri::ListPodSandboxResponse> {
        self.enter("ListPodSandbox").await?;
        let filter = request.into_inner().filter.unwrap_or_default();
        let state = self.shared.lock();
        let items = state
            .sandboxes
            .values()
            .filter(|s| filter.id.is_empty() || s.id == filter.id)
            .filter(|s| filter.state.as_ref().is_none_or(|wanted| wanted.state == s.state()))
            .filter(|s| has_labels(&s.config.labels, &filter.label_selector))
            .map(|s| cri::PodSandbox {
                id: s.id.clone(),
                metadata: s.config.metadata.clone(),
                state: s.state(),
                created_at: s.created_at,
                labels: s.config.labels.clone(),
                annotations: s.config.annotations.clone(),
                runtime_handler: s.runtime_handler.clone(),
            })
            .collect();
        Ok(Response::new(cri::ListPodSandboxResponse { items }))
    }

    async fn create_container(
        &self,
        request: Request<cri::CreateContainerRequest>,
    ) -> Answer<cri::CreateContainerResponse> {
        self.enter("CreateContainer").await?;
        let request = request.into_inner();
        let config = request.config.ok_or_else(|| Status::invalid_argument("no config"))?;
        let id = {
            let mut state = self.shared.lock();
            if !state.sandboxes.get(&request.pod_sandbox_id).is_some_and(|s| s.ready) {
                return Err(Status::failed_precondition("sandbox container is not running"));
            }
            let taken = state
                .containers
                .values()
                .any(|c| c.sandbox == request.pod_sandbox_id && c.config.metadata == config.metadata);
            if taken {
                return Err(Status::already_exists(format!("name {:?} is reserved", config.metadata)));
            }
            let id = state.next_id("container");
            let created_at = state.tick();
            state.containers.insert(
                id.clone(),
                FakeContainer {
                    id: id.clone(),
                    sandbox: request.pod_sandbox_id,
                    config,
                    state: cri::ContainerState::ContainerCreated,
                    created_at,
                    started_at: 0,
                    finished_at: 0,
                    exit_code: 0,
                    reason: String::new(),
                },
            );
            id
        };
        self.shared.emit(&id, cri::ContainerEventType::ContainerCreatedEvent);
        Ok(Response::new(cri::CreateContainerResponse { container_id: id }))
    }

    async fn start_container(
        &self,
        request: Request<cri::StartContainerRequest>,
    ) -> Answer<cri::StartContainerResponse> {
        self.enter("StartContainer").await?;
        let id = request.into_inner().container_id;
        {
            let mut state = self.shared.lock();
            let now = state.tick();
            let container = state.containers.get_mut(&id).ok_or_else(|| Status::not_found("no such container"))?;
            if container.state != cri::ContainerState::ContainerCreated {
                return Err(Status::failed_precondition("container is not in created state"));
            }
            container.state = cri::ContainerState::ContainerRunning;
            container.started_at = now;
        }
        self.shared.emit(&id, cri::ContainerEventType::ContainerStartedEvent);
        Ok(Response::new(cri::StartContainerResponse {}))
    }

    async fn stop_container(&self, request: Request<cri::StopContainerRequest>) -> Answer<cri::StopContainerResponse> {
        self.enter("StopContainer").await?;
        let request = request.into_inner();
        let (takes, known) = {
            let state = self.shared.lock();
            (state.stop_takes, state.containers.contains_key(&request.container_id))
        };
        if !known {
            return Err(Status::not_found("no such container"));
        }
        let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        tokio::time::sleep(takes.min(grace)).await;
        let code = if takes > grace { 137 } else { 143 };
        self.shared.lock().exit(&request.container_id, code, "");
        self.shared.emit(&request.container_id, cri::ContainerEventType::ContainerStoppedEvent);
        Ok(Response::new(cri::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<cri::RemoveContainerRequest>,
    ) -> Answer<cri::RemoveContainerResponse> {
        self.enter("RemoveContainer").await?;
        let id = request.into_inner().container_id;
        self.shared.lock().containers.remove(&id);
        Ok(Response::new(cri::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<cri::ListContainersRequest>,
    ) -> Answer<cri::ListContainersResponse> {
        self.enter("ListContainers").await?;
        let filter = request.into_inner().filter.unwrap_or_default();
        let state = self.shared.lock();
        let containers = state
            .containers
            .values()
            .filter(|c| filter.id.is_empty() || c.id == filter.id)
            .filter(|c| filter.pod_sandbox_id.is_empty() || c.sandbox == filter.pod_sandbox_id)
            .filter(|c| filter.state.as_ref().is_none_or(|wanted| wanted.state == i32::from(c.state)))
            .filter(|c| has_labels(&c.config.labels, &filter.label_selector))
            .map(|c| cri::Container {
                id: c.id.clone(),
                pod_sandbox_id: c.sandbox.clone(),
                metadata: c.config.metadata.clone(),
                image: c.config.image.clone(),
                image_ref: c.config.image.clone().unwrap_or_default().image,
                state: c.state.into(),
                created_at: c.created_at,
                labels: c.config.labels.clone(),
                annotations: c.config.annotations.clone(),
                image_id: c.config.image.clone().unwrap_or_default().image,
            })
            .collect();
        Ok(Response::new(cri::ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<cri::ContainerStatusRequest>,
    ) -> Answer<cri::ContainerStatusResponse> {
        self.enter("ContainerStatus").await?;
        let id = request.into_inner().container_id;
        let state = self.shared.lock();
        let container = state.containers.get(&id).ok_or_else(|| Status::not_found("no such container"))?;
        Ok(Response::new(cri::ContainerStatusResponse {
            status: Some(container_status(container)),
            ..Default::default()
        }))
    }

    async fn update_container_resources(
        &self,
        _: Request<cri::UpdateContainerResourcesRequest>,
    ) -> Answer<cri::UpdateContainerResourcesResponse> {
        self.enter("UpdateContainerResources").await?;
        Ok(Response::new(cri::UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        _: Request<cri::ReopenContainerLogRequest>,
    ) -> Answer<cri::ReopenContainerLogResponse> {
        self.enter("ReopenContainerLog").await?;
        Ok(Response::new(cri::ReopenContainerLogResponse {}))
    }

    async fn exec_sync(&self, request: Request<cri::ExecSyncRequest>) -> Answer<cri::ExecSyncResponse> {
        self.enter("ExecSync").await?;
        let request = request.into_inner();
        let mut state = self.shared.lock();
        let running = state
            .containers
            .get(&request.container_id)
            .is_some_and(|c| c.state == cri::ContainerState::ContainerRunning);
        if !running {
            return Err(Status::failed_precondition("container is not running"));
        }
        let line = request.cmd.join(" ");
        state.exec_calls.push((request.container_id, request.cmd));
        let (exit_code, stdout) = state.exec.get(&line).cloned().unwrap_or_default();
        Ok(Response::new(cri::ExecSyncResponse { stdout: stdout.into_bytes(), stderr: Vec::new(), exit_code }))
    }

    async fn exec(&self, _: Request<cri::ExecRequest>) -> Answer<cri::ExecResponse> {
        self.enter("Exec").await?;
        Ok(Response::new(cri::ExecResponse { url: "http://127.0.0.1:1/exec".into() }))
    }

    async fn attach(&self, _: Request<cri::AttachRequest>) -> Answer<cri::AttachResponse> {
        self.enter("Attach").await?;
        Ok(Response::new(cri::AttachResponse { url: "http://127.0.0.1:1/attach".into() }))
    }

    async fn port_forward(&self, _: Request<cri::PortForwardRequest>) -> Answer<cri::PortForwardResponse> {
        self.enter("PortForward").await?;
        Ok(Response::new(cri::PortForwardResponse { url: "http://127.0.0.1:1/portforward".into() }))
    }

    async fn container_stats(&self, _: Request<cri::ContainerStatsRequest>) -> Answer<cri::ContainerStatsResponse> {
        self.enter("ContainerStats").await?;
        Err(Status::unimplemented("no stats"))
    }

    async fn list_container_stats(
        &self,
        _: Request<cri::ListContainerStatsRequest>,
    ) -> Answer<cri::ListContainerStatsResponse> {
        self.enter("ListContainerStats").await?;
        Ok(Response::new(cri::ListContainerStatsResponse { stats: Vec::new() }))
    }

    async fn pod_sandbox_stats(&self, _: Request<cri::PodSandboxStatsRequest>) -> Answer<cri::PodSandboxStatsResponse> {
        self.enter("PodSandboxStats").await?;
        Err(Status::unimplemented("no stats"))
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: Request<cri::ListPodSandboxStatsRequest>,
    ) -> Answer<cri::ListPodSandboxStatsResponse> {
        self.enter("ListPodSandboxStats").await?;
        Ok(Response::new(cri::ListPodSandboxStatsResponse { stats: Vec::new() }))
    }

    async fn update_runtime_config(
        &self,
        _: Request<cri::UpdateRuntimeConfigRequest>,
    ) -> Answer<cri::UpdateRuntimeConfigResponse> {
        self.enter("UpdateRuntimeConfig").await?;
        Ok(Response::new(cri::UpdateRuntimeConfigResponse {}))
    }

    async fn status(&self, _: Request<cri::StatusRequest>) -> Answer<cri::StatusResponse> {
        self.enter("Status").await?;
        let network = !self.shared.lock().network_down;
        let condition =
            |kind: &str, status: bool| cri::RuntimeCondition { r#type: kind.to_owned(), status, ..Default::default() };
        Ok(Response::new(cri::StatusResponse {
            status: Some(cri::RuntimeStatus {
                conditions: vec![condition("RuntimeReady", true), condition("NetworkReady", network)],
            }),
            ..Default::default()
        }))
    }

    async fn checkpoint_container(
        &self,
        _: Request<cri::CheckpointContainerRequest>,
    ) -> Answer<cri::CheckpointContainerResponse> {
        self.enter("CheckpointContainer").await?;
        Err(Status::unimplemented("no checkpoints"))
    }

    type GetContainerEventsStream = Pin<Box<dyn Stream<Item = Result<cri::ContainerEventResponse, Status>> + Send>>;

    async fn get_container_events(&self, _: Request<cri::GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        self.enter("GetContainerEvents").await?;
        if self.shared.lock().no_events {
            return Err(Status::unimplemented("no events"));
        }
        let stream = BroadcastStream::new(self.shared.events.subscribe())
            .map(|event| event.map_err(|error| Status::data_loss(error.to_string())));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<cri::ListMetricDescriptorsRequest>,
    ) -> Answer<cri::ListMetricDescriptorsResponse> {
        Err(Status::unimplemented("no metrics"))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<cri::ListPodSandboxMetricsRequest>,
    ) -> Answer<cri::ListPodSandboxMetricsResponse> {
        Err(Status::unimplemented("no metrics"))
    }

    async fn runtime_config(&self, _: Request<cri::RuntimeConfigRequest>) -> Answer<cri::RuntimeConfigResponse> {
        self.enter("RuntimeConfig").await?;
        Err(Status::unimplemented("no runtime config"))
    }
}

#[tonic::async_trait]
impl cri::image_service_server::ImageService for FakeService {
    async fn list_images(&self, _: Request<cri::ListImagesRequest>) -> Answer<cri::ListImagesResponse> {
        self.enter("ListImages").await?;
        let images = self.shared.lock().images.values().cloned().collect();
        Ok(Response::new(cri::ListImagesResponse { images }))
    }

    async fn image_status(&self, request: Request<cri::ImageStatusRequest>) -> Answer<cri::ImageStatusResponse> {
        self.enter("ImageStatus").await?;
        let name = request.into_inner().image.unwrap_or_default().image;
        let state = self.shared.lock();
        let image = state.images.values().find(|i| i.id == name || i.repo_tags.contains(&name)).cloned();
        Ok(Response::new(cri::ImageStatusResponse { image, ..Default::default() }))
    }

    async fn pull_image(&self, request: Request<cri::PullImageRequest>) -> Answer<cri::PullImageResponse> {
        self.enter("PullImage").await?;
        let name = request.into_inner().image.unwrap_or_default().image;
        let mut state = self.shared.lock();
        if !state.registry.contains(&name) {
            return Err(Status::not_found(format!("failed to resolve reference {name:?}: not found")));
        }
        state.add_image(&name);
        Ok(Response::new(cri::PullImageResponse { image_ref: format!("sha256:{name}") }))
    }

    async fn remove_image(&self, request: Request<cri::RemoveImageRequest>) -> Answer<cri::RemoveImageResponse> {
        self.enter("RemoveImage").await?;
        let name = request.into_inner().image.unwrap_or_default().image;
        self.shared.lock().images.retain(|_, i| i.id != name && !i.repo_tags.contains(&name));
        Ok(Response::new(cri::RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _: Request<cri::ImageFsInfoRequest>) -> Answer<cri::ImageFsInfoResponse> {
        self.enter("ImageFsInfo").await?;
        Ok(Response::new(cri::ImageFsInfoResponse::default()))
    }
}
