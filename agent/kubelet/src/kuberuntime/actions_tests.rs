//! Tables of `compute_pod_actions`: what is there, and what is to be done.
#![allow(clippy::needless_pass_by_value, reason = "tables read better without references")]

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use orlop_runtime::cri;
use serde_json::json;

use super::actions::{PodActions, ProbeLookup, compute_pod_actions};
use super::labels::container_hash;
use super::types::{ContainerState, RuntimeContainer, RuntimePod};
use crate::pod::PodExt;
use crate::prober::results::{ProbeKind, ProbeResult};

#[derive(Default)]
struct Probes(HashMap<(ProbeKind, String), ProbeResult>);

impl ProbeLookup for Probes {
    fn result(&self, kind: ProbeKind, container_id: &str) -> Option<ProbeResult> {
        self.0.get(&(kind, container_id.to_owned())).copied()
    }
}

/// Regular containers `a` and `b`; `init`: name and whether it is a sidecar.
fn pod(policy: &str, init: &[(&str, bool)]) -> Pod {
    let init: Vec<_> = init
        .iter()
        .map(|(name, sidecar)| {
            let mut container = json!({"name": name, "image": "i"});
            if *sidecar {
                container["restartPolicy"] = json!("Always");
            }
            container
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {
            "restartPolicy": policy,
            "initContainers": init,
            "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
        },
    }))
    .unwrap()
}

fn sandbox(ready: bool) -> cri::PodSandboxStatus {
    cri::PodSandboxStatus {
        id: "s0".into(),
        metadata: Some(cri::PodSandboxMetadata { attempt: 3, ..Default::default() }),
        state: if ready { cri::PodSandboxState::SandboxReady } else { cri::PodSandboxState::SandboxNotready }.into(),
        network: Some(cri::PodSandboxNetworkStatus { ip: "10.0.0.1".into(), ..Default::default() }),
        ..Default::default()
    }
}

fn container(pod: &Pod, name: &str, state: ContainerState, exit_code: i32) -> RuntimeContainer {
    let (_, spec) = pod.find_container(name).unwrap();
    let mut found = RuntimeContainer::from_cri("s0", &cri::ContainerStatus::default());
    found.id = format!("id-{name}");
    found.name = name.to_owned();
    found.state = state;
    found.exit_code = exit_code;
    found.hash = Some(container_hash(&spec));
    found
}

fn observed(pod: &Pod, ready: bool, containers: &[(&str, ContainerState, i32)]) -> RuntimePod {
    RuntimePod {
        uid: "u".into(),
        sandboxes: vec![sandbox(ready)],
        containers: containers.iter().map(|(name, state, code)| container(pod, name, *state, *code)).collect(),
        ..Default::default()
    }
}

use ContainerState::{Created, Exited, Running, Unknown};

/// Kill pod, new sandbox, init to start, regular to start, names to kill.
fn outline(actions: &PodActions) -> (bool, bool, Vec<usize>, Vec<usize>, Vec<&str>) {
    (
        actions.kill_pod,
        actions.create_sandbox,
        actions.init_to_start.clone(),
        actions.to_start.clone(),
        actions.to_kill.iter().map(|kill| kill.name.as_str()).collect(),
    )
}

type Outline<'a> = (bool, bool, Vec<usize>, Vec<usize>, Vec<&'a str>);

fn check(what: &str, pod: &Pod, seen: &RuntimePod, expect: Outline<'_>) {
    let actions = compute_pod_actions(pod, seen, &Probes::default());
    assert_eq!(outline(&actions), expect, "{what}");
}

#[test]
fn sandboxes() {
    let plain = pod("Always", &[]);
    let none = RuntimePod::default();
    check("nothing there", &plain, &none, (true, true, vec![], vec![0, 1], vec![]));
    assert_eq!(compute_pod_actions(&plain, &none, &Probes::default()).attempt, 0);
    let dead = observed(&plain, false, &[("a", Running, 0), ("b", Exited, 1)]);
    check("sandbox died", &plain, &dead, (true, true, vec![], vec![0, 1], vec![]));
    assert_eq!(compute_pod_actions(&plain, &dead, &Probes::default()).attempt, 4);
    let never = pod("Never", &[]);
    check("sandbox died, Never", &never, &dead, (true, false, vec![], vec![], vec![]));
    let failure = pod("OnFailure", &[]);
    let half = observed(&failure, false, &[("a", Exited, 0), ("b", Exited, 1)]);
    check("sandbox died, OnFailure", &failure, &half, (true, true, vec![], vec![1], vec![]));
    let done = observed(&failure, false, &[("a", Exited, 0), ("b", Exited, 0)]);
    check("sandbox died, all succeeded", &failure, &done, (true, false, vec![], vec![], vec![]));
    let with_init = pod("Always", &[("x", false)]);
    check("init first", &with_init, &none, (true, true, vec![0], vec![], vec![]));
    let mut lost_ip = observed(&plain, true, &[("a", Running, 0), ("b", Running, 0)]);
    lost_ip.sandboxes[0].network = None;
    check("no address", &plain, &lost_ip, (true, true, vec![], vec![0, 1], vec![]));
}

#[test]
fn regular_containers() {
    let case = |what: &str, policy: &str, a: (ContainerState, i32), b: (ContainerState, i32), expect: Outline<'_>| {
        let pod = pod(policy, &[]);
        let seen = observed(&pod, true, &[("a", a.0, a.1), ("b", b.0, b.1)]);
        check(what, &pod, &seen, expect);
    };
    case("all runs", "Always", (Running, 0), (Running, 0), (false, false, vec![], vec![], vec![]));
    case("exit 0, Always", "Always", (Exited, 0), (Running, 0), (false, false, vec![], vec![0], vec![]));
    case("exit 0, OnFailure", "OnFailure", (Exited, 0), (Running, 0), (false, false, vec![], vec![], vec![]));
    case("exit 1, OnFailure", "OnFailure", (Exited, 1), (Running, 0), (false, false, vec![], vec![0], vec![]));
    case("exit 1, Never", "Never", (Exited, 1), (Running, 0), (false, false, vec![], vec![], vec![]));
    case("all ended, Never", "Never", (Exited, 1), (Exited, 0), (true, false, vec![], vec![], vec![]));
    case("made, never started", "Never", (Created, 0), (Running, 0), (false, false, vec![], vec![0], vec![]));
    case("unknown", "Always", (Unknown, 0), (Running, 0), (false, false, vec![], vec![0], vec!["a"]));
    let plain = pod("Never", &[]);
    let mut changed = observed(&plain, true, &[("a", Running, 0), ("b", Running, 0)]);
    changed.containers[0].hash = Some(1);
    check("image changed, even with Never", &plain, &changed, (false, false, vec![], vec![0], vec!["a"]));
    changed.containers[0].hash = None;
    check("made by somebody who left no hash", &plain, &changed, (false, false, vec![], vec![], vec![]));
}

#[test]
fn probes_kill() {
    let case = |policy: &str, kind: ProbeKind, message: &str, restart: bool| {
        let pod = pod(policy, &[]);
        let seen = observed(&pod, true, &[("a", Running, 0), ("b", Running, 0)]);
        let probes = Probes(HashMap::from([((kind, "id-a".to_owned()), ProbeResult::Failure)]));
        let actions = compute_pod_actions(&pod, &seen, &probes);
        assert_eq!(actions.to_kill[0].message, message);
        assert_eq!(actions.to_start.is_empty(), !restart);
    };
    case("Always", ProbeKind::Liveness, "Container a failed liveness probe, will be restarted", true);
    case("Never", ProbeKind::Liveness, "Container a failed liveness probe", false);
    case("OnFailure", ProbeKind::Startup, "Container a failed startup probe, will be restarted", true);
}

#[test]
fn init_containers() {
    let case =
        |what: &str, policy: &str, init: &[(&str, bool)], seen: &[(&str, ContainerState, i32)], expect: Outline<'_>| {
            let pod = pod(policy, init);
            check(what, &pod, &observed(&pod, true, seen), expect);
        };
    let two = [("x", false), ("y", false)];
    case("first", "Always", &two, &[], (false, false, vec![0], vec![], vec![]));
    case("first runs", "Always", &two, &[("x", Running, 0)], (false, false, vec![], vec![], vec![]));
    case("second", "Always", &two, &[("x", Exited, 0)], (false, false, vec![1], vec![], vec![]));
    case("failed", "Always", &two, &[("x", Exited, 1)], (false, false, vec![0], vec![], vec![]));
    case("failed, Never", "Never", &two, &[("x", Exited, 1)], (true, false, vec![], vec![], vec![]));
    case("all done", "Always", &two, &[("x", Exited, 0), ("y", Exited, 0)], (false, false, vec![], vec![0, 1], vec![]));
    case(
        "the runtime lost the first ones",
        "Always",
        &two,
        &[("y", Exited, 0), ("a", Running, 0), ("b", Running, 0)],
        (false, false, vec![], vec![], vec![]),
    );
    case(
        "the runtime lost them all",
        "Always",
        &two,
        &[("a", Running, 0), ("b", Exited, 1)],
        (false, false, vec![], vec![1], vec![]),
    );
}

#[test]
fn sidecars() {
    let case = |what: &str, policy: &str, seen: &[(&str, ContainerState, i32)], expect: Outline<'_>| {
        let pod = pod(policy, &[("s", true), ("x", false)]);
        check(what, &pod, &observed(&pod, true, seen), expect);
    };
    case("sidecar first", "Never", &[], (false, false, vec![0], vec![], vec![]));
    case("then init", "Never", &[("s", Running, 0)], (false, false, vec![1], vec![], vec![]));
    case(
        "sidecar died while init runs",
        "Never",
        &[("s", Exited, 1), ("x", Running, 0)],
        (false, false, vec![0], vec![], vec![]),
    );
    case(
        "sidecar died beside regular ones",
        "Never",
        &[("s", Exited, 1), ("x", Exited, 0), ("a", Running, 0), ("b", Running, 0)],
        (false, false, vec![0], vec![], vec![]),
    );
    case(
        "a sidecar does not keep a finished pod",
        "Never",
        &[("s", Running, 0), ("x", Exited, 0), ("a", Exited, 0), ("b", Exited, 0)],
        (true, false, vec![], vec![], vec![]),
    );
    let mut pod = pod("Always", &[("s", true), ("x", false)]);
    pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0].startup_probe = Some(Default::default());
    let seen = observed(&pod, true, &[("s", Running, 0)]);
    check("waits for the startup probe", &pod, &seen, (false, false, vec![], vec![], vec![]));
    let probes = Probes(HashMap::from([((ProbeKind::Startup, "id-s".to_owned()), ProbeResult::Success)]));
    assert_eq!(compute_pod_actions(&pod, &seen, &probes).init_to_start, [1]);
}

#[test]
fn restart_rules() {
    let mut pod = pod("Never", &[]);
    pod.spec.as_mut().unwrap().containers[0].restart_policy_rules = serde_json::from_value(json!([
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    ]))
    .unwrap();
    let start = |code: i32| {
        compute_pod_actions(&pod, &observed(&pod, true, &[("a", Exited, code), ("b", Running, 0)]), &Probes::default())
            .to_start
    };
    assert_eq!(start(42), [0]);
    assert_eq!(start(1), [0; 0]);
}

#[test]
fn ephemeral_containers_start_once() {
    let mut pod = pod("Always", &[]);
    pod.spec.as_mut().unwrap().ephemeral_containers =
        serde_json::from_value(json!([{"name": "debug", "image": "i"}])).unwrap();
    let seen = observed(&pod, true, &[("a", Running, 0), ("b", Running, 0)]);
    assert_eq!(compute_pod_actions(&pod, &seen, &Probes::default()).ephemeral_to_start, [0]);
    let seen = observed(&pod, true, &[("a", Running, 0), ("b", Running, 0), ("debug", Exited, 1)]);
    assert!(compute_pod_actions(&pod, &seen, &Probes::default()).ephemeral_to_start.is_empty());
}
