//! Tables of phases, conditions and container states.

use orlop_runtime::cri;
use serde_json::json;

use super::*;
use crate::kuberuntime::types::ContainerState as Runtime;

struct NoProbes;

impl ProbeLookup for NoProbes {
    fn result(&self, _: ProbeKind, _: &str) -> Option<ProbeResult> {
        None
    }
}

fn pod(policy: &str, init: bool) -> Pod {
    let mut spec = json!({
        "restartPolicy": policy,
        "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
    });
    if init {
        spec["initContainers"] = json!([{"name": "x", "image": "i"}]);
    }
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u", "generation": 4}, "spec": spec})).unwrap()
}

fn container(name: &str, state: Runtime, exit_code: i32) -> RuntimeContainer {
    let mut found = RuntimeContainer::from_cri("s", &cri::ContainerStatus::default());
    found.id = format!("id-{name}-{exit_code}");
    found.name = name.to_owned();
    found.state = state;
    found.exit_code = exit_code;
    found
}

fn observed(containers: &[(&str, Runtime, i32)]) -> RuntimePod {
    let network = cri::PodSandboxNetworkStatus { ip: "10.0.0.1".into(), ..Default::default() };
    RuntimePod {
        sandboxes: vec![cri::PodSandboxStatus { network: Some(network), ..Default::default() }],
        containers: containers.iter().map(|(name, state, code)| container(name, *state, *code)).collect(),
        ..Default::default()
    }
}

fn status(
    pod: &Pod,
    seen: &RuntimePod,
    previous: &PodStatus,
    stopped: bool,
    errors: &[(&str, WaitingReason)],
) -> PodStatus {
    let errors = errors
        .iter()
        .map(|(name, reason)| {
            let error = StartError { container: (*name).into(), reason: *reason, message: "m".into() };
            ((*name).to_owned(), error)
        })
        .collect();
    compute(&StatusInputs {
        pod,
        observed: seen,
        previous,
        start_errors: &errors,
        probes: &NoProbes,
        messages: &HashMap::new(),
        runtime_name: "containerd",
        host_ips: &["192.0.2.1".to_owned()],
        pod_ips: &seen.ips(),
        qos_class: "BestEffort",
        stopped,
        failed: None,
        now: Timestamp::from_second(1000).unwrap(),
    })
}

fn phase_of(policy: &str, init: bool, seen: &[(&str, Runtime, i32)], stopped: bool) -> String {
    status(&pod(policy, init), &observed(seen), &PodStatus::default(), stopped, &[]).phase.unwrap()
}

use Runtime::{Exited, Running};

#[test]
fn phases() {
    let check = |policy: &str, init: bool, seen: &[(&str, Runtime, i32)], stopped: bool, expect: &str| {
        assert_eq!(phase_of(policy, init, seen, stopped), expect, "{policy} {seen:?} stopped={stopped}");
    };
    check("Always", false, &[], false, "Pending");
    check("Always", false, &[("a", Running, 0)], false, "Running");
    check("Always", false, &[("a", Running, 0), ("b", Running, 0)], false, "Running");
    check("Always", false, &[("a", Exited, 1), ("b", Exited, 1)], false, "Running");
    check("OnFailure", false, &[("a", Exited, 0), ("b", Exited, 1)], false, "Running");
    check("OnFailure", false, &[("a", Exited, 0), ("b", Exited, 0)], false, "Succeeded");
    check("Never", false, &[("a", Exited, 0), ("b", Running, 0)], false, "Running");
    check("Never", false, &[("a", Exited, 0), ("b", Exited, 0)], false, "Succeeded");
    check("Never", false, &[("a", Exited, 0), ("b", Exited, 1)], false, "Failed");
    check("Never", true, &[("x", Running, 0)], false, "Pending");
    check("Never", true, &[("x", Exited, 1)], false, "Failed");
    check("Always", true, &[("x", Exited, 1)], false, "Pending");
    check("Always", true, &[("x", Exited, 0)], false, "Pending");
    check("Always", true, &[("x", Exited, 0), ("a", Running, 0), ("b", Running, 0)], false, "Running");
    // Deleted while it ran: what the containers came to.
    check("Always", false, &[("a", Exited, 143), ("b", Exited, 0)], true, "Failed");
    check("Always", false, &[("a", Exited, 0), ("b", Exited, 0)], true, "Succeeded");
}

#[test]
fn a_terminal_phase_stays() {
    let previous = PodStatus { phase: Some("Failed".into()), reason: Some("Evicted".into()), ..Default::default() };
    let now = status(&pod("Always", false), &observed(&[("a", Running, 0), ("b", Running, 0)]), &previous, false, &[]);
    assert_eq!((now.phase.as_deref(), now.reason.as_deref()), (Some("Failed"), Some("Evicted")));
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.as_ref().unwrap().iter().find(|c| c.type_ == kind).unwrap()
}

#[test]
fn conditions_keep_their_times() {
    let pod = pod("Always", true);
    let first = status(&pod, &observed(&[("x", Running, 0)]), &PodStatus::default(), false, &[]);
    let initialized = condition(&first, "Initialized");
    assert_eq!(initialized.reason.as_deref(), Some("ContainersNotInitialized"));
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [x]"));
    assert_eq!(condition(&first, "Ready").message.as_deref(), Some("containers with unready status: [a b]"));
    assert_eq!(condition(&first, "PodReadyToStartContainers").status, "True");
    let mut earlier = first.clone();
    for condition in earlier.conditions.as_mut().unwrap() {
        condition.last_transition_time = Some(Time(Timestamp::from_second(7).unwrap()));
    }
    let ready = observed(&[("x", Exited, 0), ("a", Running, 0), ("b", Running, 0)]);
    let second = status(&pod, &ready, &earlier, false, &[]);
    assert_eq!(condition(&second, "Ready").status, "True");
    assert_eq!(condition(&second, "Ready").last_transition_time.as_ref().unwrap().0.as_second(), 1000);
    assert_eq!(condition(&second, "PodScheduled").last_transition_time.as_ref().unwrap().0.as_second(), 7);
    assert_eq!(condition(&second, "Ready").observed_generation, Some(4));
    assert_eq!(second.observed_generation, Some(4));
    let done = observed(&[("x", Exited, 0), ("a", Exited, 0), ("b", Exited, 0)]);
    let third = status(&super::tests::pod("Never", true), &done, &second, false, &[]);
    assert_eq!(condition(&third, "Ready").reason.as_deref(), Some("PodCompleted"));
    assert_eq!(condition(&third, "Initialized").reason.as_deref(), Some("PodCompleted"));
}

#[test]
fn waiting_containers_say_why() {
    let pod = pod("Always", false);
    let seen = observed(&[("a", Exited, 3)]);
    let errors = [("a", WaitingReason::CrashLoopBackOff), ("b", WaitingReason::ErrImagePull)];
    let now = status(&pod, &seen, &PodStatus::default(), false, &errors);
    let containers = now.container_statuses.unwrap();
    let reason = |index: usize| {
        containers[index].state.as_ref().and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.clone()).unwrap()
    };
    assert_eq!((reason(0).as_str(), reason(1).as_str()), ("CrashLoopBackOff", "ErrImagePull"));
    let last = containers[0].last_state.as_ref().and_then(|s| s.terminated.as_ref()).unwrap();
    assert_eq!(last.exit_code, 3);
    assert_eq!(now.phase.as_deref(), Some("Running"));
}

#[test]
fn a_lost_container_is_not_forgotten() {
    let pod = pod("Never", false);
    let before = status(&pod, &observed(&[("a", Running, 0), ("b", Running, 0)]), &PodStatus::default(), false, &[]);
    let after = status(&pod, &observed(&[("b", Exited, 0)]), &before, true, &[]);
    let lost = after.container_statuses.as_ref().unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((lost.exit_code, lost.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!(after.phase.as_deref(), Some("Failed"));
}

#[test]
fn containers_behind_a_failed_init_container_never_ran() {
    let pod = pod("Never", true);
    let before = status(&pod, &observed(&[("x", Running, 0)]), &PodStatus::default(), false, &[]);
    let after = status(&pod, &observed(&[("x", Exited, 5)]), &before, true, &[]);
    assert_eq!(after.phase.as_deref(), Some("Failed"));
    assert_eq!(condition(&after, "Initialized").status, "False");
    let waiting = after.container_statuses.as_ref().unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
    // Past it, what is missing was lost.
    let after = status(&pod, &observed(&[("x", Exited, 0), ("b", Exited, 0)]), &before, true, &[]);
    let lost = after.container_statuses.as_ref().unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!(lost.reason.as_deref(), Some("ContainerStatusUnknown"));
}
