//! What the fake runtime remembers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cri;

/// What an injected fault does to a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this error.
    Fail(tonic::Code, String),
    /// Never answers.
    Hang,
    /// Answers after a while.
    Delay(Duration),
}

/// A sandbox.
#[derive(Clone, Debug)]
pub struct FakeSandbox {
    pub id: String,
    pub config: cri::PodSandboxConfig,
    pub ready: bool,
    pub created_at: i64,
    pub ip: String,
    pub runtime_handler: String,
}

impl FakeSandbox {
    pub(crate) fn state(&self) -> i32 {
        if self.ready { cri::PodSandboxState::SandboxReady } else { cri::PodSandboxState::SandboxNotready }.into()
    }

    pub(crate) fn status(&self) -> cri::PodSandboxStatus {
        let namespaces =
            self.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref()?.namespace_options.clone());
        let host = namespaces.as_ref().is_some_and(|n| n.network == i32::from(cri::NamespaceMode::Node));
        cri::PodSandboxStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state(),
            created_at: self.created_at,
            network: Some(cri::PodSandboxNetworkStatus {
                ip: if host { String::new() } else { self.ip.clone() },
                additional_ips: Vec::new(),
            }),
            linux: Some(cri::LinuxPodSandboxStatus { namespaces: Some(cri::Namespace { options: namespaces }) }),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: self.runtime_handler.clone(),
        }
    }
}

/// A container.
#[derive(Clone, Debug)]
pub struct FakeContainer {
    pub id: String,
    pub sandbox: String,
    pub config: cri::ContainerConfig,
    pub state: cri::ContainerState,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
}

/// Everything.
#[derive(Debug, Default)]
pub struct FakeState {
    pub sandboxes: BTreeMap<String, FakeSandbox>,
    pub containers: BTreeMap<String, FakeContainer>,
    /// References that need no pull.
    pub images: BTreeMap<String, cri::Image>,
    /// References that a registry has; pulling anything else is NotFound.
    pub registry: Vec<String>,
    /// Exit code and stdout of `ExecSync`, by joined command line; anything else exits 0 with no output.
    pub exec: HashMap<String, (i32, String)>,
    /// Commands that `ExecSync` ran.
    pub exec_calls: Vec<(String, Vec<String>)>,
    /// Containers whose process ignores SIGTERM stay until the grace period is over.
    pub stop_takes: Duration,
    pub faults: HashMap<String, VecDeque<Fault>>,
    pub calls: Vec<String>,
    /// Answer `Unimplemented` to GetContainerEvents, as containerd 1.6 does.
    pub no_events: bool,
    /// Condition NetworkReady.
    pub network_down: bool,
    next: u64,
    last_now: i64,
}

impl FakeState {
    /// Nanoseconds; never the same twice, so that creation order is a total order.
    pub(crate) fn tick(&mut self) -> i64 {
        self.last_now = self.now().max(self.last_now + 1);
        self.last_now
    }

    pub(crate) fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        i64::try_from(now).unwrap_or(i64::MAX)
    }

    pub(crate) fn next_id(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{kind}{:060}", self.next)
    }

    pub(crate) fn next_ip(&self) -> String {
        format!("10.88.{}.{}", self.next / 250, self.next % 250 + 2)
    }

    pub(crate) fn exit(&mut self, id: &str, exit_code: i32, reason: &str) {
        let now = self.tick();
        if let Some(container) = self.containers.get_mut(id)
            && container.state != cri::ContainerState::ContainerExited
        {
            container.state = cri::ContainerState::ContainerExited;
            container.finished_at = now;
            container.exit_code = exit_code;
            container.reason = if !reason.is_empty() {
                reason.to_owned()
            } else if exit_code == 0 {
                "Completed".to_owned()
            } else {
                "Error".to_owned()
            };
        }
    }

    /// Makes an image present.
    pub fn add_image(&mut self, reference: &str) {
        let image = cri::Image {
            id: format!("sha256:{reference}"),
            repo_tags: vec![reference.to_owned()],
            repo_digests: vec![format!("{reference}@sha256:0")],
            size: 1,
            ..Default::default()
        };
        self.images.insert(reference.to_owned(), image);
    }

    /// The newest container of that name, whatever its state.
    #[must_use]
    pub fn container_named(&self, name: &str) -> Option<&FakeContainer> {
        self.containers
            .values()
            .filter(|c| c.config.metadata.as_ref().is_some_and(|m| m.name == name))
            .max_by_key(|c| c.created_at)
    }
}
