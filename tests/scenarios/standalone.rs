//! Without any API server: `orlop agent` runs the static manifests.

use std::fs;

use nix::sys::signal::Signal;
use orlop_tests::{Stack, StackOptions, eventually, ready_or_skip};

/// Marks the container's process, to find it from outside.
const SLEEP: &str = "86417";

fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter_map(|e| {
            let pid = e.file_name().into_string().ok()?.parse().ok()?;
            let line = fs::read(e.path().join("cmdline")).ok()?;
            let args: Vec<&[u8]> = line.split(|b| *b == 0).collect();
            (args.len() > 1 && args[0] == b"sleep" && args[1] == SLEEP.as_bytes()).then_some(pid)
        })
        .collect()
}

#[test]
fn static_pods_need_no_api_server() {
    let Some(()) = ready_or_skip("static_pods_need_no_api_server") else { return };
    let options = StackOptions { command: "agent", more: vec!["--pod-cidr=10.244.7.0/24".to_owned()] };
    let mut stack = Stack::prepare(options);
    fs::write(
        stack.manifests_dir().join("sleeper.yaml"),
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: sleeper}}\nspec:\n  containers:\n  - name: main\n    \
             image: orlop.local/busybox:1.37\n    command: [sleep, '{SLEEP}']\n"
        ),
    )
    .unwrap();
    stack.start();
    let first = eventually("the container's process", || pids().first().copied().ok_or_else(|| stack.errors()));

    // The agent goes and comes; the Pod doesn't notice.
    stack.stop(Signal::SIGKILL);
    assert_eq!(pids(), [first]);
    stack.start();
    assert_eq!(pids(), [first]);

    // A crash is repaired without any API server.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), Signal::SIGKILL).unwrap();
    eventually("another process", || match pids()[..] {
        [pid] if pid != first => Ok(()),
        ref other => Err(format!("{other:?}\n{}", stack.errors())),
    });
    fs::remove_file(stack.manifests_dir().join("sleeper.yaml")).unwrap();
    eventually("no process", || if pids().is_empty() { Ok(()) } else { Err(stack.errors()) });
}
