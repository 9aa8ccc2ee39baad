//! What has to be done so that a pod runs as its spec says: pure, from (spec, observed) to actions.

use k8s_openapi::api::core::v1::{Container, Pod};
use orlop_runtime::cri;

use super::labels::container_hash;
use super::types::{ContainerState, RuntimeContainer, RuntimePod};
use crate::pod::{PodExt, is_sidecar};
use crate::prober::results::{ProbeKind, ProbeResult};

/// Probe results by container id.
pub trait ProbeLookup {
    fn result(&self, kind: ProbeKind, container_id: &str) -> Option<ProbeResult>;
}

/// Why a container is killed while its pod lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    SpecChanged,
    LivenessProbe,
    StartupProbe,
    Unknown,
}

/// A container to kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerToKill {
    pub id: String,
    pub name: String,
    pub message: String,
    pub reason: KillReason,
}

/// What to do, in this order: kill, sandbox, ephemeral, init, regular.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodActions {
    /// Stop everything of the pod (before a new sandbox, or for good).
    pub kill_pod: bool,
    /// Make a sandbox; `attempt` is its number.
    pub create_sandbox: bool,
    pub sandbox_id: Option<String>,
    pub attempt: u32,
    /// Indices into the spec.
    pub init_to_start: Vec<usize>,
    pub to_start: Vec<usize>,
    pub ephemeral_to_start: Vec<usize>,
    pub to_kill: Vec<ContainerToKill>,
}

/// The restart policy that holds for one container.
#[must_use]
pub fn restart_policy<'a>(pod: &'a Pod, container: &'a Container) -> &'a str {
    container.restart_policy.as_deref().unwrap_or_else(|| pod.restart_policy())
}

/// Whether a container that is not running should be started (again). KEP-5307's rules come first.
#[must_use]
pub fn should_be_restarted(pod: &Pod, container: &Container, status: Option<&RuntimeContainer>) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let Some(status) = status else { return true };
    match status.state {
        ContainerState::Running => false,
        // Made but not started, or nobody knows: start it anew.
        ContainerState::Created | ContainerState::Unknown => true,
        ContainerState::Exited => {
            for rule in container.restart_policy_rules.as_deref().unwrap_or_default() {
                let Some(codes) = &rule.exit_codes else { continue };
                let listed = codes.values.as_deref().unwrap_or_default().contains(&status.exit_code);
                if (codes.operator == "In") == listed {
                    return rule.action == "Restart";
                }
            }
            match restart_policy(pod, container) {
                "Never" => false,
                "OnFailure" => status.exit_code != 0,
                _ => true,
            }
        }
    }
}

fn succeeded(pod: &RuntimePod, name: &str) -> bool {
    pod.find(name).is_some_and(|c| c.state == ContainerState::Exited && c.exit_code == 0)
}

fn init_failed(status: &RuntimeContainer) -> bool {
    match status.state {
        ContainerState::Exited => status.exit_code != 0,
        ContainerState::Unknown => true,
        ContainerState::Created | ContainerState::Running => false,
    }
}

/// Whether the pod needs a new sandbox, and which number it has.
#[must_use]
pub fn sandbox_changed(pod: &Pod, status: &RuntimePod) -> (bool, u32, Option<String>) {
    let Some(newest) = status.sandboxes.first() else { return (true, 0, None) };
    let attempt = newest.metadata.as_ref().map_or(0, |m| m.attempt);
    let id = Some(newest.id.clone());
    let ready = status.sandboxes.iter().filter(|s| s.state() == cri::PodSandboxState::SandboxReady).count();
    if ready > 1 || newest.state() != cri::PodSandboxState::SandboxReady {
        return (true, attempt + 1, id);
    }
    let options = newest.linux.as_ref().and_then(|l| l.namespaces.as_ref()?.options.as_ref());
    let network = options.map(cri::NamespaceOption::network);
    let wanted = if pod.host_network() { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod };
    if network.is_some_and(|network| network != wanted) {
        return (true, attempt + 1, None);
    }
    let without_address = newest.network.as_ref().is_none_or(|n| n.ip.is_empty());
    if !pod.host_network() && without_address {
        return (true, attempt + 1, id);
    }
    (false, attempt, id)
}

/// The actions.
#[must_use]
pub fn compute_pod_actions(pod: &Pod, status: &RuntimePod, probes: &dyn ProbeLookup) -> PodActions {
    let (create, attempt, sandbox_id) = sandbox_changed(pod, status);
    let mut actions =
        PodActions { kill_pod: create, create_sandbox: create, attempt, sandbox_id, ..Default::default() };
    if create {
        from_a_new_sandbox(pod, status, &mut actions);
        return actions;
    }
    for (index, container) in pod.ephemeral_containers().iter().enumerate() {
        // Ephemeral containers are never restarted.
        if status.find(&container.name).is_none() {
            actions.ephemeral_to_start.push(index);
        }
    }
    let initialized = init_actions(pod, status, probes, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    let mut keep = 0;
    for (index, container) in pod.containers().iter().enumerate() {
        let Some(found) = status.find(&container.name).filter(|c| c.state == ContainerState::Running) else {
            let found = status.find(&container.name);
            if should_be_restarted(pod, container, found) {
                actions.to_start.push(index);
                if let Some(unknown) = found.filter(|c| c.state == ContainerState::Unknown) {
                    actions.to_kill.push(unknown_to_kill(unknown, "Container"));
                }
            }
            continue;
        };
        let Some((mut message, reason, restart)) = why_kill(pod, container, found, probes) else {
            keep += 1;
            continue;
        };
        if restart {
            message.push_str(", will be restarted");
            actions.to_start.push(index);
        }
        actions.to_kill.push(ContainerToKill { id: found.id.clone(), name: found.name.clone(), message, reason });
    }
    if keep == 0 && actions.to_start.is_empty() {
        // Nothing is left but sidecars, which must not keep the pod alive.
        actions.kill_pod = true;
        actions.init_to_start.clear();
    }
    actions
}

/// With a new sandbox everything starts from the beginning.
fn from_a_new_sandbox(pod: &Pod, status: &RuntimePod, actions: &mut PodActions) {
    let restarts = pod.restart_policy() != "Never"
        || pod.containers().iter().any(|c| c.restart_policy.as_deref().is_some_and(|p| p != "Never"));
    if !restarts && actions.attempt != 0 && !status.containers.is_empty() {
        actions.create_sandbox = false;
        return;
    }
    let to_start: Vec<usize> = (0..pod.containers().len())
        .filter(|&index| {
            let container = &pod.containers()[index];
            restart_policy(pod, container) != "OnFailure" || !succeeded(status, &container.name)
        })
        .collect();
    let initialized = pod.containers().iter().any(|c| status.find(&c.name).is_some());
    if to_start.is_empty() && initialized {
        actions.create_sandbox = false;
        return;
    }
    if pod.init_containers().is_empty() {
        actions.to_start = to_start;
    } else {
        actions.init_to_start = vec![0];
    }
}

fn why_kill(
    pod: &Pod,
    container: &Container,
    found: &RuntimeContainer,
    probes: &dyn ProbeLookup,
) -> Option<(String, KillReason, bool)> {
    let name = &container.name;
    let restarts = restart_policy(pod, container) != "Never";
    if changed(container, found) {
        return Some((format!("Container {name} definition changed"), KillReason::SpecChanged, true));
    }
    if probes.result(ProbeKind::Liveness, &found.id) == Some(ProbeResult::Failure) {
        return Some((format!("Container {name} failed liveness probe"), KillReason::LivenessProbe, restarts));
    }
    if probes.result(ProbeKind::Startup, &found.id) == Some(ProbeResult::Failure) {
        return Some((format!("Container {name} failed startup probe"), KillReason::StartupProbe, restarts));
    }
    None
}

fn changed(container: &Container, found: &RuntimeContainer) -> bool {
    found.hash.is_some_and(|hash| hash != container_hash(container))
}

fn unknown_to_kill(found: &RuntimeContainer, kind: &str) -> ContainerToKill {
    ContainerToKill {
        id: found.id.clone(),
        name: found.name.clone(),
        message: format!("{kind} is in \"unknown\" state, try killing it before restart"),
        reason: KillReason::Unknown,
    }
}

/// Init containers: from the last that the runtime knows of, backwards. Returns whether initialization is done.
fn init_actions(pod: &Pod, status: &RuntimePod, probes: &dyn ProbeLookup, actions: &mut PodActions) -> bool {
    let init = pod.init_containers();
    if init.is_empty() {
        return true;
    }
    // A regular container that runs proves that all init containers ran, even where the runtime lost them.
    let mut initialized = pod.containers().iter().any(|c| {
        status.find(&c.name).is_some_and(|c| matches!(c.state, ContainerState::Created | ContainerState::Running))
    });
    let mut later_seen = initialized;
    let last = init.len() - 1;
    let mut start = Vec::new();
    for (index, container) in init.iter().enumerate().rev() {
        let Some(found) = status.find(&container.name) else {
            if later_seen && is_sidecar(container) {
                start.push(index);
            }
            continue;
        };
        if later_seen && !is_sidecar(container) {
            continue;
        }
        let done = match found.state {
            ContainerState::Created => {
                // Made but never started: the runtime failed between the two.
                start.push(index);
                false
            }
            ContainerState::Running if is_sidecar(container) => {
                sidecar_started(container, found, probes, actions, &mut start, index)
            }
            ContainerState::Running => false,
            ContainerState::Exited if is_sidecar(container) => {
                start.push(index);
                false
            }
            ContainerState::Exited if !init_failed(found) => true,
            ContainerState::Exited | ContainerState::Unknown => {
                let again = is_sidecar(container)
                    || if found.state == ContainerState::Unknown {
                        restart_policy(pod, container) != "Never"
                    } else {
                        should_be_restarted(pod, container, Some(found))
                    };
                if !again {
                    actions.kill_pod = true;
                    actions.init_to_start.clear();
                    return false;
                }
                if found.state == ContainerState::Unknown {
                    actions.to_kill.push(unknown_to_kill(found, "Init container"));
                }
                start.push(index);
                false
            }
        };
        if done {
            if index == last {
                initialized = true;
            } else if !later_seen {
                start.push(index + 1);
            }
        }
        later_seen = true;
    }
    if !later_seen {
        start.push(0);
    }
    start.sort_unstable();
    start.dedup();
    actions.init_to_start = start;
    initialized
}

/// A running sidecar: whether the next container may start; kills it where its spec or a probe says so.
fn sidecar_started(
    container: &Container,
    found: &RuntimeContainer,
    probes: &dyn ProbeLookup,
    actions: &mut PodActions,
    start: &mut Vec<usize>,
    index: usize,
) -> bool {
    let name = &container.name;
    let mut kill = |message: String, reason: KillReason| {
        actions.to_kill.push(ContainerToKill { id: found.id.clone(), name: name.clone(), message, reason });
        start.push(index);
    };
    if container.startup_probe.is_some() {
        match probes.result(ProbeKind::Startup, &found.id) {
            Some(ProbeResult::Success) => {}
            Some(ProbeResult::Failure) => {
                kill(format!("Init container {name} failed startup probe"), KillReason::StartupProbe);
                return false;
            }
            _ => return false,
        }
    }
    if changed(container, found) {
        kill(format!("Init container {name} definition changed"), KillReason::SpecChanged);
    } else if container.liveness_probe.is_some()
        && probes.result(ProbeKind::Liveness, &found.id) == Some(ProbeResult::Failure)
    {
        kill(format!("Init container {name} failed liveness probe"), KillReason::LivenessProbe);
    }
    true
}
