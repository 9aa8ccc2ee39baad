//! What the HTTP server sees of the kubelet.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use orlop_runtime::{RuntimeClient, cri};

use crate::kuberuntime::types::{ContainerState, RuntimeContainer};
use crate::pleg::PodCache;
use crate::pod::PodExt;
use crate::pod_manager::PodManager;
use crate::server::{PodProvider, StreamRequest, StreamingRuntime};
use crate::status::StatusManager;

/// Pods for the server.
pub(crate) struct Provider {
    pub(crate) pods: Arc<PodManager>,
    pub(crate) status: Arc<StatusManager>,
    pub(crate) cache: Arc<PodCache>,
}

impl Provider {
    fn with_status(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        match self.status.get(pod.uid_str()) {
            Some(status) => {
                let mut pod = Pod::clone(pod);
                pod.status = Some(status);
                Arc::new(pod)
            }
            None => Arc::clone(pod),
        }
    }

    fn container(&self, pod_uid: &str, container: &str, previous: bool) -> Option<RuntimeContainer> {
        let uid = self.runtime_uid(pod_uid);
        let pod = self.cache.get(&uid);
        if previous { pod.find_previous(container).cloned() } else { pod.find(container).cloned() }
    }

    /// A client may name a static pod by its mirror's UID.
    fn runtime_uid(&self, uid: &str) -> String {
        self.pods
            .mirrors()
            .iter()
            .find(|mirror| mirror.uid_str() == uid)
            .and_then(|mirror| self.pods.by_name(mirror.namespace_str(), mirror.name_str()))
            .map_or_else(|| uid.to_owned(), |pod| pod.uid_str().to_owned())
    }
}

impl PodProvider for Provider {
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.pods().iter().map(|pod| self.with_status(pod)).collect()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.by_name(namespace, name).map(|pod| self.with_status(&pod))
    }

    fn container_id(&self, pod_uid: &str, container: &str, previous: bool) -> Option<String> {
        self.container(pod_uid, container, previous).map(|c| c.id)
    }

    fn sandbox_id(&self, pod_uid: &str) -> Option<String> {
        self.cache.get(&self.runtime_uid(pod_uid)).ready_sandbox().map(|s| s.id.clone())
    }

    fn log_path(&self, pod_uid: &str, container: &str, previous: bool) -> Option<PathBuf> {
        let found = self.container(pod_uid, container, previous)?;
        (!found.log_path.is_empty()).then(|| PathBuf::from(found.log_path))
    }

    fn metrics(&self) -> String {
        let known = self.cache.known();
        let running_pods = known.iter().filter(|pod| pod.ready_sandbox().is_some()).count();
        let mut states =
            std::collections::BTreeMap::from([("created", 0), ("exited", 0), ("running", 0), ("unknown", 0)]);
        for container in known.iter().flat_map(|pod| &pod.containers) {
            let state = match container.state {
                ContainerState::Created => "created",
                ContainerState::Running => "running",
                ContainerState::Exited => "exited",
                ContainerState::Unknown => "unknown",
            };
            *states.entry(state).or_insert(0) += 1;
        }
        let mut text = String::from(
            "# HELP kubelet_running_containers [ALPHA] Number of containers currently running\n# TYPE kubelet_running_containers gauge\n",
        );
        for (state, count) in states {
            text.push_str(&format!("kubelet_running_containers{{container_state=\"{state}\"}} {count}\n"));
        }
        text.push_str(&format!(
            "# HELP kubelet_running_pods [ALPHA] Number of pods that have a running pod sandbox\n# TYPE kubelet_running_pods gauge\nkubelet_running_pods {running_pods}\n"
        ));
        text
    }

    fn healthy(&self) -> Result<(), String> {
        self.cache.unhealthy().map_or(Ok(()), Err)
    }
}

/// Streaming calls for the server.
pub(crate) struct Streaming(pub(crate) RuntimeClient);

#[async_trait::async_trait]
impl StreamingRuntime for Streaming {
    async fn exec_url(&self, request: StreamRequest) -> Result<String, String> {
        let call = cri::ExecRequest {
            container_id: request.container_id,
            cmd: request.command,
            tty: request.tty,
            stdin: request.stdin,
            stdout: request.stdout,
            // With a terminal there is one stream.
            stderr: request.stderr && !request.tty,
        };
        self.0.exec(call).await.map_err(|error| error.message())
    }

    async fn attach_url(&self, request: StreamRequest) -> Result<String, String> {
        let call = cri::AttachRequest {
            container_id: request.container_id,
            stdin: request.stdin,
            tty: request.tty,
            stdout: request.stdout,
            stderr: request.stderr && !request.tty,
        };
        self.0.attach(call).await.map_err(|error| error.message())
    }

    async fn port_forward_url(&self, sandbox_id: &str, ports: Vec<i32>) -> Result<String, String> {
        self.0.port_forward(sandbox_id, ports).await.map_err(|error| error.message())
    }

    async fn exec_sync(
        &self,
        container_id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<(i32, Vec<u8>), String> {
        let answer = self.0.exec_sync(container_id, command, timeout).await.map_err(|error| error.message())?;
        let mut output = answer.stdout;
        output.extend_from_slice(&answer.stderr);
        Ok((answer.exit_code, output))
    }
}
