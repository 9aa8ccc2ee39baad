//! Things die: a container, Orlop, containerd. What runs goes on, and the record of it is right.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orlop_tests::wait::always;
use orlop_tests::{Stack, eventually, ready_or_skip};
use serde_json::Value;

use crate::DEMO;

/// Of each Pod: uid, container, restarts, since when it is Ready.
fn identity(pods: &[Value]) -> Vec<String> {
    let mut list: Vec<String> = pods
        .iter()
        .map(|p| {
            let status = &p["status"]["containerStatuses"][0];
            let conditions = p["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().find(|c| c["type"] == "Ready").cloned().unwrap_or_default();
            format!(
                "{} {} {} {} {}",
                p["metadata"]["uid"],
                status["containerID"],
                status["restartCount"],
                ready["status"],
                ready["lastTransitionTime"]
            )
        })
        .collect();
    list.sort();
    list
}

fn pods(stack: &Stack) -> Vec<Value> {
    stack.get(&["pods", "-n", "demo", "-l", "app=web"])["items"].as_array().cloned().unwrap_or_default()
}

#[test]
fn the_pods_outlive_orlop() {
    let Some(()) = ready_or_skip("the_pods_outlive_orlop") else { return };
    let mut stack = Stack::up();
    stack.apply(DEMO);
    let before = identity(&stack.ready_pods("demo", "app=web", 3));
    let url =
        format!("http://{}/", stack.get(&["service", "web", "-n", "demo"])["spec"]["clusterIP"].as_str().unwrap());
    let served = |stack: &Stack| {
        let out = stack.on_node(&["curl", "-s", "-m", "2", &url]).run();
        if out.success() { Ok(()) } else { Err(out.to_string()) }
    };
    eventually("the Service", || served(&stack));

    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // `stop` itself bounds the time; a clean stop must also end well.
        let code = stack.stop(signal);
        if signal == Signal::SIGTERM {
            assert_eq!(code, Some(0), "{}", stack.errors());
        }
        always(Duration::from_secs(2), "the Service without Orlop", || served(&stack));
        stack.start();
        always(Duration::from_secs(5), "the same Pods after a restart", || {
            let now = identity(&pods(&stack));
            if now == before { Ok(()) } else { Err(format!("before {before:#?}\nnow {now:#?}\n{}", stack.errors())) }
        });
        served(&stack).unwrap();
    }
}

#[test]
fn a_killed_container_comes_back_with_a_record() {
    let Some(()) = ready_or_skip("a_killed_container_comes_back_with_a_record") else { return };
    let stack = Stack::up();
    stack.apply(DEMO);
    let pod = stack.ready_pods("demo", "app=web", 3).remove(0);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let hostname_file = stack.kubectl(&["exec", "-n", "demo", name, "--", "cat", "/proc/1/cmdline"]);
    assert!(hostname_file.ok().contains("httpd"));
    for round in 1..=2_i64 {
        let pid = container_pid(&stack, name);
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        eventually(&format!("restart {round}"), || {
            let now = stack.get(&["pod", name, "-n", "demo"]);
            let status = &now["status"]["containerStatuses"][0];
            let right = status["restartCount"] == round
                && status["lastState"]["terminated"]["exitCode"] == 137
                && status["lastState"]["terminated"]["reason"] == "Error"
                && status["ready"] == true
                && now["metadata"]["uid"] == pod["metadata"]["uid"];
            if right { Ok(()) } else { Err(format!("{status}\n{}", stack.errors())) }
        });
    }
    // The second restart had to wait: its back-off is said on the Pod.
    let events =
        stack.kubectl(&["get", "events", "-n", "demo", "--field-selector", &format!("involvedObject.name={name}")]);
    assert!(events.ok().contains("BackOff"), "{events}");
    let previous = stack.kubectl(&["logs", "-n", "demo", name, "--previous"]);
    assert!(previous.ok().contains("serving on 8080"), "{previous}");
}

/// The process on the host that is PID 1 of the container: the one whose cgroup names the container.
fn container_pid(stack: &Stack, pod: &str) -> i32 {
    let object = stack.get(&["pod", pod, "-n", "demo"]);
    let id = object["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let id = id.rsplit('/').next().unwrap().to_owned();
    let entries = std::fs::read_dir("/proc").unwrap();
    let mut pids: Vec<i32> = entries
        .filter_map(Result::ok)
        .filter_map(|e| e.file_name().into_string().ok()?.parse().ok())
        .filter(|pid| {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let first = status.lines().any(|l| l.starts_with("NSpid:") && l.split_whitespace().last() == Some("1"));
            groups.contains(&id) && first
        })
        .collect();
    pids.sort_unstable();
    *pids.first().unwrap_or_else(|| panic!("no process of container {id}"))
}

#[test]
fn containerd_comes_back_under_running_pods() {
    let Some(()) = ready_or_skip("containerd_comes_back_under_running_pods") else { return };
    let stack = Stack::up();
    stack.apply(DEMO);
    let before = identity(&stack.ready_pods("demo", "app=web", 3));
    let pid_file = stack.data_dir().join("run/containerd.pid");
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("another containerd", || {
        let now = std::fs::read_to_string(&pid_file).unwrap_or_default();
        let changed = now.trim() != pid.to_string() && !now.trim().is_empty();
        if changed { Ok(()) } else { Err(stack.errors()) }
    });
    let _ = stack.kubectl(&["scale", "-n", "demo", "deployment/web", "--replicas=4"]).ok();
    let after = identity(&stack.ready_pods("demo", "app=web", 4));
    assert!(before.iter().all(|b| after.contains(b)), "before {before:#?}\nafter {after:#?}");
}
