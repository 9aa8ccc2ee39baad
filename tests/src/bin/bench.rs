//! `cargo xtask bench skeleton`: figures of a whole instance, each with what it was measured from.
#![allow(clippy::print_stdout, reason = "figures are printed")]
#![allow(clippy::disallowed_types, reason = "a benchmark measures real time")]

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use orlop_tests::stack::{cgroup2_root, orlop_bin};
use orlop_tests::{Stack, StackOptions, eventually};

fn main() {
    let _ = cgroup2_root();
    size("binary, full", &orlop_bin());
    if let Ok(node_only) = std::env::var("ORLOP_BENCH_NODE_ONLY") {
        size("binary, node only", &node_only);
    }

    let mut stack = Stack::prepare(StackOptions::default());
    let started = Instant::now();
    stack.start();
    row("first start to Ready, containerd included", &millis(started.elapsed()));
    row("  of that after containerd answered", &after_containerd(&stack));
    first_pod(&stack, "first Pod: kubectl create to Running");
    first_pod(&stack, "second Pod: kubectl create to Running");
    idle(&stack, "idle at 0 Pods");

    for round in ["SIGTERM", "SIGKILL"] {
        stack.stop(if round == "SIGTERM" { Signal::SIGTERM } else { Signal::SIGKILL });
        let started = Instant::now();
        stack.start();
        row(&format!("start to Ready after {round}, containerd running"), &millis(started.elapsed()));
    }

    stack.apply(&sleepers(10));
    let started = Instant::now();
    let _ = stack.ready_pods("default", "app=sleeper", 10);
    row("10 Pods: apply to all Ready", &millis(started.elapsed()));
    idle(&stack, "idle at 10 Pods");
}

fn row(what: &str, figure: &str) {
    println!("{what:<52} {figure}");
}

fn millis(elapsed: Duration) -> String {
    format!("{} ms", elapsed.as_millis())
}

fn size(what: &str, path: &str) {
    let bytes = fs::metadata(path).map_or(0, |m| m.len());
    row(what, &format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000));
}

/// From the instance's own progress: the time of `ready` less that of the containerd step.
fn after_containerd(stack: &Stack) -> String {
    let text = fs::read_to_string(stack.dir.path().join("orlop-1.out")).unwrap_or_default();
    let seconds = |line: &str| -> Option<f64> {
        let words: Vec<&str> = line.trim_end_matches(')').split_whitespace().collect();
        words.get(words.len().checked_sub(2)?)?.trim_start_matches('(').parse().ok()
    };
    let ready = text.lines().find(|l| l.starts_with("ready in")).and_then(seconds);
    let runtime = text.lines().find(|l| l.contains("containerd")).and_then(seconds);
    match (ready, runtime) {
        (Some(ready), Some(runtime)) => format!("{:.0} ms", (ready - runtime) * 1000.0),
        _ => format!("not found in {text:?}"),
    }
}

fn first_pod(stack: &Stack, what: &str) {
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: probe}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - \
                    {name: main, image: 'orlop.local/busybox:1.37', command: [sleep, infinity]}\n";
    eventually("the default ServiceAccount", || {
        let found = stack.get(&["serviceaccount", "default"]);
        if found.is_null() { Err("not there") } else { Ok(()) }
    });
    let started = Instant::now();
    stack.apply(manifest);
    let _ = stack.kubectl(&["wait", "pod/probe", "--for=jsonpath={.status.phase}=Running", "--timeout=60s"]).ok();
    row(what, &millis(started.elapsed()));
    let _ = stack.kubectl(&["delete", "pod", "probe", "--force", "--grace-period=0"]);
    eventually(
        "the end of the Pod",
        || if stack.get(&["pod", "probe"]).is_null() { Ok(()) } else { Err("still there") },
    );
}

fn sleepers(count: usize) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: sleeper}}\nspec:\n  replicas: {count}\n  selector: {{matchLabels: {{app: sleeper}}}}\n  \
         template:\n    metadata: {{labels: {{app: sleeper}}}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers:\n      - \
         {{name: main, image: 'orlop.local/busybox:1.37', command: [sleep, infinity]}}\n"
    )
}

/// Memory now and processor time over half a minute, of Orlop's own process.
fn idle(stack: &Stack, what: &str) {
    let pid = stack.orlop_pid();
    std::thread::sleep(Duration::from_secs(5));
    let before = ticks(pid);
    let span = Duration::from_secs(30);
    std::thread::sleep(span);
    let used = ticks(pid) - before;
    row(&format!("{what}: resident memory"), &format!("{} MB", resident_kib(pid) / 1024));
    // A tick is 10 ms: over 30 s one tick is a third of a thousandth of a core.
    row(&format!("{what}: processor"), &format!("{:.4} core", used as f64 / 100.0 / span.as_secs_f64()));
}

fn resident_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// User and system time, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<u64> = rest.split_whitespace().skip(11).take(2).filter_map(|f| f.parse().ok()).collect();
    fields.iter().sum()
}
