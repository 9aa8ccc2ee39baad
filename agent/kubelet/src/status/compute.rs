//! A pod's API status from what the runtime shows: pure. Phase, conditions, container statuses.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::kuberuntime::StartError;
use crate::kuberuntime::actions::{ProbeLookup, restart_policy, should_be_restarted};
use crate::kuberuntime::types::{self, RuntimeContainer, RuntimePod};
use crate::pod::{PodExt, ephemeral_as_container, is_sidecar};
use crate::prober::results::{ProbeKind, ProbeResult};
use crate::reasons::WaitingReason;

/// Everything that a status is made from.
pub struct StatusInputs<'a> {
    pub pod: &'a Pod,
    pub observed: &'a RuntimePod,
    /// What was published last: transition times, start time, containers that the runtime lost.
    pub previous: &'a PodStatus,
    pub start_errors: &'a HashMap<String, StartError>,
    pub probes: &'a dyn ProbeLookup,
    /// Termination messages by container id.
    pub messages: &'a HashMap<String, String>,
    pub runtime_name: &'a str,
    pub host_ips: &'a [String],
    pub pod_ips: &'a [String],
    pub qos_class: &'a str,
    /// Nothing of the pod runs any more, for good.
    pub stopped: bool,
    /// A phase decided from outside: rejected by admission, deadline exceeded.
    pub failed: Option<(&'a str, &'a str)>,
    pub now: Timestamp,
}

/// The status.
#[must_use]
pub fn compute(inputs: &StatusInputs<'_>) -> PodStatus {
    let pod = inputs.pod;
    let init = statuses(inputs, pod.init_containers(), inputs.previous.init_container_statuses.as_deref(), true);
    let regular = statuses(inputs, pod.containers(), inputs.previous.container_statuses.as_deref(), false);
    let ephemeral: Vec<Container> = pod.ephemeral_containers().iter().map(ephemeral_as_container).collect();
    let ephemeral: Vec<ContainerStatus> =
        statuses(inputs, &ephemeral, inputs.previous.ephemeral_container_statuses.as_deref(), false)
            .into_iter()
            .map(|mut status| {
                // Upstream shows neither for ephemeral containers.
                status.started = None;
                status
            })
            .collect();
    let mut phase = phase(pod, &init, &regular, inputs.stopped);
    let previous_phase = inputs.previous.phase.as_deref().unwrap_or_else(|| pod.phase());
    if matches!(previous_phase, "Succeeded" | "Failed") {
        // A terminal phase is for good.
        phase = if previous_phase == "Failed" { "Failed" } else { "Succeeded" };
    }
    let (mut reason, mut message) = match previous_phase {
        "Failed" => (inputs.previous.reason.clone(), inputs.previous.message.clone()),
        _ => (None, None),
    };
    if let Some((why, text)) = inputs.failed {
        phase = "Failed";
        (reason, message) = (Some(why.to_owned()), Some(text.to_owned()));
    }
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        start_time: inputs.previous.start_time.clone().or(Some(Time(inputs.now))),
        qos_class: Some(inputs.qos_class.to_owned()),
        observed_generation: pod.metadata.generation,
        host_ip: inputs.host_ips.first().cloned(),
        host_ips: (!inputs.host_ips.is_empty())
            .then(|| inputs.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        container_statuses: Some(regular),
        init_container_statuses: (!init.is_empty()).then_some(init),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        ..Default::default()
    };
    let ips = if inputs.pod_ips.is_empty() && inputs.stopped {
        // What it was reached by stays visible.
        inputs.previous.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect()
    } else {
        inputs.pod_ips.to_vec()
    };
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
    status.conditions = Some(conditions(inputs, &status));
    status
}

fn statuses(
    inputs: &StatusInputs<'_>,
    containers: &[Container],
    previous: Option<&[ContainerStatus]>,
    init: bool,
) -> Vec<ContainerStatus> {
    containers
        .iter()
        .map(|container| {
            let before = previous.unwrap_or_default().iter().find(|s| s.name == container.name);
            container_status(inputs, container, before, init)
        })
        .collect()
}

fn container_status(
    inputs: &StatusInputs<'_>,
    container: &Container,
    before: Option<&ContainerStatus>,
    init: bool,
) -> ContainerStatus {
    let found = inputs.observed.find(&container.name);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        ..Default::default()
    };
    match found {
        Some(found) => from_runtime(inputs, container, found, before, init, &mut status),
        None => unknown_to_runtime(inputs, before, &mut status),
    }
    // A container that is to be started (again) and can't be is waiting, for that reason.
    let to_start = should_be_restarted(inputs.pod, container, found);
    if to_start
        && !inputs.stopped
        && let Some(error) = inputs.start_errors.get(&container.name)
        && status.state.as_ref().is_some_and(|s| s.running.is_none())
    {
        let ended = status.state.take().filter(|s| s.terminated.is_some());
        if ended.is_some() {
            status.last_state = ended;
        }
        status.state = Some(waiting(error.reason.as_str(), Some(error.message.clone())));
    }
    status
}

fn from_runtime(
    inputs: &StatusInputs<'_>,
    container: &Container,
    found: &RuntimeContainer,
    before: Option<&ContainerStatus>,
    init: bool,
    status: &mut ContainerStatus,
) {
    status.container_id = Some(found.kube_id(inputs.runtime_name));
    status.restart_count = found.restart_count;
    if !found.image.is_empty() && !found.image.starts_with("sha256:") {
        status.image.clone_from(&found.image);
    }
    status.image_id.clone_from(&found.image_ref);
    status.user = found.user.clone().map(|(uid, gid, groups)| ContainerUser {
        linux: Some(LinuxContainerUser { uid, gid, supplemental_groups: Some(groups) }),
    });
    status.last_state = inputs
        .observed
        .find_previous(&container.name)
        .filter(|c| c.state == types::ContainerState::Exited)
        .map(|c| terminated(inputs, c))
        .or_else(|| {
            // The runtime removed it; what was published about it stays.
            before.filter(|b| b.restart_count == found.restart_count).and_then(|b| b.last_state.clone())
        });
    let running = found.state == types::ContainerState::Running;
    let startup = container.startup_probe.is_none()
        || inputs.probes.result(ProbeKind::Startup, &found.id) == Some(ProbeResult::Success);
    status.state = Some(match found.state {
        types::ContainerState::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: found.started_at.map(Time) }),
            ..Default::default()
        },
        types::ContainerState::Exited => terminated(inputs, found),
        types::ContainerState::Created | types::ContainerState::Unknown => {
            waiting(WaitingReason::ContainerCreating.as_str(), None)
        }
    });
    status.started = Some(running && startup);
    let ready_probe = container.readiness_probe.is_none()
        || inputs.probes.result(ProbeKind::Readiness, &found.id) == Some(ProbeResult::Success);
    status.ready = if init && !is_sidecar(container) {
        found.state == types::ContainerState::Exited && found.exit_code == 0
    } else {
        running && startup && ready_probe
    };
    if running {
        status.resources = container.resources.clone();
        status.allocated_resources = container.resources.as_ref().and_then(|r| r.requests.clone());
    }
}

fn unknown_to_runtime(inputs: &StatusInputs<'_>, before: Option<&ContainerStatus>, status: &mut ContainerStatus) {
    if let Some(before) = before {
        status.restart_count = before.restart_count;
        status.last_state.clone_from(&before.last_state);
        let ended = before.state.as_ref().and_then(|s| s.terminated.clone());
        if let Some(ended) = ended {
            // An init container that the runtime no longer keeps, or a pod whose containers were removed.
            status.state = Some(ContainerState { terminated: Some(ended), ..Default::default() });
            status.container_id.clone_from(&before.container_id);
            status.image_id.clone_from(&before.image_id);
            status.ready = before.ready;
            return;
        }
        if before.state.as_ref().is_some_and(|s| s.running.is_some()) {
            let lost = lost_container(before.container_id.clone());
            if inputs.stopped {
                status.container_id.clone_from(&before.container_id);
                status.state = Some(lost);
                return;
            }
            status.last_state = Some(lost);
        }
    }
    if inputs.stopped && inputs.failed.is_none() && may_have_started(inputs, &status.name) {
        status.state = Some(lost_container(None));
        return;
    }
    let reason = if inputs.pod.init_containers().is_empty() {
        WaitingReason::ContainerCreating
    } else {
        WaitingReason::PodInitializing
    };
    status.state = Some(waiting(reason.as_str(), None));
}

/// Whether a container of which the runtime shows nothing can have run: not while what comes before it never
/// succeeded, so a pod that ended during its init containers shows the others as waiting, for good.
fn may_have_started(inputs: &StatusInputs<'_>, name: &str) -> bool {
    let before = inputs.previous.init_container_statuses.as_deref().unwrap_or_default();
    inputs.pod.init_containers().iter().take_while(|c| c.name != name).all(|container| {
        let status = before.iter().find(|s| s.name == container.name);
        match inputs.observed.find(&container.name) {
            Some(_) if is_sidecar(container) => true,
            Some(found) => found.state == types::ContainerState::Exited && found.exit_code == 0,
            None => status.is_some_and(|s| s.ready || s.started == Some(true)),
        }
    })
}

fn lost_container(container_id: Option<String>) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            container_id,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..Default::default()
    }
}

fn terminated(inputs: &StatusInputs<'_>, found: &RuntimeContainer) -> ContainerState {
    let written = inputs.messages.get(&found.id).filter(|m| !m.is_empty()).cloned();
    let message = written.or_else(|| (!found.message.is_empty()).then(|| found.message.clone()));
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: found.exit_code,
            reason: (!found.reason.is_empty()).then(|| found.reason.clone()),
            message,
            started_at: found.started_at.map(Time),
            finished_at: found.finished_at.map(Time),
            container_id: Some(found.kube_id(inputs.runtime_name)),
            signal: None,
        }),
        ..Default::default()
    }
}

/// What a container counts as for the phase.
enum Seen {
    Waiting,
    Running,
    Stopped { success: bool },
}

fn seen(status: &ContainerStatus) -> Seen {
    let Some(state) = &status.state else { return Seen::Waiting };
    if state.running.is_some() {
        return Seen::Running;
    }
    if let Some(ended) = &state.terminated {
        return Seen::Stopped { success: ended.exit_code == 0 };
    }
    // In a back-off between two runs it counts as stopped.
    match status.last_state.as_ref().and_then(|s| s.terminated.as_ref()) {
        Some(ended) => Seen::Stopped { success: ended.exit_code == 0 },
        None => Seen::Waiting,
    }
}

fn phase<'a>(pod: &Pod, init: &[ContainerStatus], regular: &[ContainerStatus], stopped: bool) -> &'a str {
    let (mut pending_init, mut failed_init) = (0, 0);
    for (container, status) in pod.init_containers().iter().zip(init) {
        if is_sidecar(container) {
            // A sidecar counts until it started once.
            if !stopped && status.started != Some(true) && matches!(seen(status), Seen::Waiting) {
                pending_init += 1;
            }
            continue;
        }
        match seen(status) {
            Seen::Waiting | Seen::Running => pending_init += 1,
            Seen::Stopped { success: true } => {}
            Seen::Stopped { success: false } if restart_policy(pod, container) == "Never" => failed_init += 1,
            Seen::Stopped { success: false } => pending_init += 1,
        }
    }
    let (mut waiting, mut running, mut stopped_count, mut succeeded, mut restarts) = (0, 0, 0, 0, 0);
    for (container, status) in pod.containers().iter().zip(regular) {
        match seen(status) {
            Seen::Waiting => waiting += 1,
            Seen::Running => running += 1,
            Seen::Stopped { success } => {
                stopped_count += 1;
                succeeded += usize::from(success);
                let again = match restart_policy(pod, container) {
                    "Never" => false,
                    "OnFailure" => !success,
                    _ => true,
                };
                restarts += usize::from(again && !stopped);
            }
        }
    }
    if failed_init > 0 {
        return "Failed";
    }
    let unborn = running == 0 && stopped_count == 0;
    if unborn && (pending_init > 0 || waiting > 0) {
        return "Pending";
    }
    if waiting > 0 && !stopped {
        return if running > 0 || stopped_count > 0 { "Running" } else { "Pending" };
    }
    if running > 0 || restarts > 0 {
        return "Running";
    }
    if stopped_count > 0 && stopped_count + waiting == regular.len() {
        return if succeeded == stopped_count { "Succeeded" } else { "Failed" };
    }
    "Pending"
}

fn conditions(inputs: &StatusInputs<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let pod = inputs.pod;
    let phase = status.phase.as_deref().unwrap_or_default();
    let regular = status.container_statuses.as_deref().unwrap_or_default();
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let make = |kind: &str, value: bool, reason: Option<&str>, message: Option<String>| {
        let mut condition = PodCondition {
            type_: kind.to_owned(),
            status: if value { "True" } else { "False" }.to_owned(),
            reason: reason.map(str::to_owned),
            message,
            observed_generation: pod.metadata.generation,
            ..Default::default()
        };
        let before = inputs
            .previous
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == kind && c.status == condition.status)
            .and_then(|c| c.last_transition_time.clone());
        condition.last_transition_time = before.or(Some(Time(inputs.now)));
        condition
    };
    let ended = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ => None,
    };
    let mut list = Vec::new();
    let has_sandbox =
        inputs.observed.ready_sandbox().is_some() && (pod.host_network() || !inputs.observed.ips().is_empty());
    list.push(make("PodReadyToStartContainers", has_sandbox, None, None));
    // Initialized
    let unfinished: Vec<&str> = pod
        .init_containers()
        .iter()
        .zip(init)
        .filter(|(container, status)| if is_sidecar(container) { status.started != Some(true) } else { !status.ready })
        .map(|(container, _)| container.name.as_str())
        .collect();
    let any_started = regular.iter().any(|s| !matches!(seen(s), Seen::Waiting));
    if unfinished.is_empty() || any_started || (phase == "Succeeded") {
        let reason = if phase == "Succeeded" { Some("PodCompleted") } else { None };
        list.push(make("Initialized", true, reason, None));
    } else {
        let message = format!("containers with incomplete status: [{}]", unfinished.join(" "));
        list.push(make("Initialized", false, Some("ContainersNotInitialized"), Some(message)));
    }
    let unready: Vec<&str> = pod
        .init_containers()
        .iter()
        .zip(init)
        .filter(|(container, status)| is_sidecar(container) && !status.ready)
        .map(|(container, _)| container.name.as_str())
        .chain(regular.iter().filter(|s| !s.ready).map(|s| s.name.as_str()))
        .collect();
    let containers_ready = ended.is_none() && unready.is_empty();
    let not_ready = (!unready.is_empty()).then(|| format!("containers with unready status: [{}]", unready.join(" ")));
    let reason = ended.or((!unready.is_empty()).then_some("ContainersNotReady"));
    let message = if ended.is_some() { None } else { not_ready };
    let missing_gates: Vec<String> = pod
        .spec
        .as_ref()
        .and_then(|s| s.readiness_gates.as_deref())
        .unwrap_or_default()
        .iter()
        .filter(|gate| {
            !pod.status
                .as_ref()
                .and_then(|s| s.conditions.as_ref())
                .into_iter()
                .flatten()
                .any(|c| c.type_ == gate.condition_type && c.status == "True")
        })
        .map(|gate| {
            format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist or is not \"True\".",
                gate.condition_type
            )
        })
        .collect();
    if containers_ready && !missing_gates.is_empty() {
        list.push(make("Ready", false, Some("ReadinessGatesNotReady"), Some(missing_gates.join(", "))));
    } else {
        list.push(make("Ready", containers_ready, reason, message.clone()));
    }
    list.push(make("ContainersReady", containers_ready, reason, message));
    // What others set (DisruptionTarget) stays with them: patches merge conditions by type.
    list.push(make("PodScheduled", true, None, None));
    list
}

#[cfg(test)]
#[path = "compute_tests.rs"]
mod tests;
