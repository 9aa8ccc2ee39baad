//! What the runtime says of one pod: its sandboxes and containers, newest first.

use k8s_openapi::jiff::Timestamp;
use orlop_runtime::cri;

use super::labels;
use crate::pod::timestamp_from_nanos;

/// State of a container's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    Unknown,
}

impl From<cri::ContainerState> for ContainerState {
    fn from(state: cri::ContainerState) -> Self {
        match state {
            cri::ContainerState::ContainerCreated => Self::Created,
            cri::ContainerState::ContainerRunning => Self::Running,
            cri::ContainerState::ContainerExited => Self::Exited,
            cri::ContainerState::ContainerUnknown => Self::Unknown,
        }
    }
}

/// One container as the runtime has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeContainer {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    pub state: ContainerState,
    /// Nanoseconds; orders containers of one name.
    pub created_at_ns: i64,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    /// What the user asked for.
    pub image: String,
    /// What the runtime runs.
    pub image_id: String,
    pub image_ref: String,
    pub hash: Option<u32>,
    pub restart_count: i32,
    pub log_path: String,
    pub termination_message_path: String,
    pub termination_message_policy: String,
    /// Host file behind `termination_message_path`.
    pub termination_message_file: Option<String>,
    pub pod_name: String,
    pub pod_namespace: String,
    pub pod_grace_period_s: Option<i64>,
    pub user: Option<(i64, i64, Vec<i64>)>,
}

impl RuntimeContainer {
    /// From the two answers that together hold everything.
    #[must_use]
    pub fn from_cri(sandbox_id: &str, status: &cri::ContainerStatus) -> Self {
        let label = |key: &str| status.labels.get(key).cloned().unwrap_or_default();
        let annotation = |key: &str| status.annotations.get(key).map(String::as_str);
        let path = annotation(labels::TERMINATION_MESSAGE_PATH).unwrap_or_default().to_owned();
        let user = status.user.as_ref().and_then(|u| u.linux.as_ref());
        Self {
            id: status.id.clone(),
            name: status.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default(),
            sandbox_id: sandbox_id.to_owned(),
            state: status.state().into(),
            created_at_ns: status.created_at,
            started_at: timestamp_from_nanos(status.started_at),
            finished_at: timestamp_from_nanos(status.finished_at),
            exit_code: status.exit_code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            image: status.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
            image_id: status.image_id.clone(),
            image_ref: status.image_ref.clone(),
            hash: annotation(labels::HASH).and_then(|hash| u32::from_str_radix(hash, 16).ok()),
            restart_count: annotation(labels::RESTART_COUNT).and_then(|n| n.parse().ok()).unwrap_or(0),
            log_path: status.log_path.clone(),
            termination_message_file: (!path.is_empty())
                .then(|| status.mounts.iter().find(|m| m.container_path == path).map(|m| m.host_path.clone()))
                .flatten(),
            termination_message_path: path,
            termination_message_policy: annotation(labels::TERMINATION_MESSAGE_POLICY).unwrap_or_default().to_owned(),
            pod_name: label(labels::POD_NAME),
            pod_namespace: label(labels::POD_NAMESPACE),
            pod_grace_period_s: annotation(labels::POD_TERMINATION_GRACE_PERIOD)
                .or(annotation(labels::POD_DELETION_GRACE_PERIOD))
                .and_then(|n| n.parse().ok()),
            user: user.map(|u| (u.uid, u.gid, u.supplemental_groups.clone())),
        }
    }

    /// `containerd://<id>`.
    #[must_use]
    pub fn kube_id(&self, runtime: &str) -> String {
        format!("{runtime}://{}", self.id)
    }
}

/// One pod as the runtime has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimePod {
    pub uid: String,
    pub name: String,
    pub namespace: String,
    /// Newest first.
    pub sandboxes: Vec<cri::PodSandboxStatus>,
    /// Newest first.
    pub containers: Vec<RuntimeContainer>,
    /// Order of the look that this comes from; a later look has a higher number.
    pub observed: u64,
}

impl RuntimePod {
    /// The newest container of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&RuntimeContainer> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The one before the newest.
    #[must_use]
    pub fn find_previous(&self, name: &str) -> Option<&RuntimeContainer> {
        self.containers.iter().filter(|c| c.name == name).nth(1)
    }

    /// The newest container of that name that ended.
    #[must_use]
    pub fn find_exited(&self, name: &str) -> Option<&RuntimeContainer> {
        self.containers.iter().find(|c| c.name == name && c.state == ContainerState::Exited)
    }

    /// The newest sandbox, if it is ready.
    #[must_use]
    pub fn ready_sandbox(&self) -> Option<&cri::PodSandboxStatus> {
        self.sandboxes.first().filter(|s| s.state() == cri::PodSandboxState::SandboxReady)
    }

    /// Addresses of the ready sandbox; none for a pod in the host's network.
    #[must_use]
    pub fn ips(&self) -> Vec<String> {
        let Some(network) = self.ready_sandbox().and_then(|s| s.network.as_ref()) else { return Vec::new() };
        std::iter::once(&network.ip)
            .chain(network.additional_ips.iter().map(|ip| &ip.ip))
            .filter(|ip| !ip.is_empty())
            .cloned()
            .collect()
    }

    /// Containers that run or may run.
    pub fn alive(&self) -> impl Iterator<Item = &RuntimeContainer> {
        self.containers.iter().filter(|c| matches!(c.state, ContainerState::Running | ContainerState::Unknown))
    }

    /// Something of the pod still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.alive().next().is_some() || self.sandboxes.iter().any(|s| s.state() == cri::PodSandboxState::SandboxReady)
    }
}
