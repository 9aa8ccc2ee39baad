//! `orlop down --purge` leaves the machine as it was; found out by other means than its own check.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;
use orlop_tests::stack::cgroup2_root;
use orlop_tests::{Sh, Stack, ready_or_skip};

use crate::DEMO;

/// Everything outside of the instance's directories that an instance could leave behind.
fn traces(stack: &Stack) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let dir = stack.dir.path().display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|l| l.contains(&dir)).map(|l| format!("mount {l}")));
    for pid in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let line = fs::read(pid.path().join("cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&line).replace('\0', " ");
        if text.contains(&dir) && text.contains("containerd") {
            found.insert(format!("process {text}"));
        }
    }
    for (what, command) in [
        ("route", vec!["ip", "route", "show", "table", "all"]),
        ("route6", vec!["ip", "-6", "route", "show", "table", "all"]),
        ("link", vec!["ip", "-o", "link"]),
        ("iptables", vec!["iptables-save"]),
    ] {
        let out = Sh::new(&command).netns(&stack.namespaces.node()).run();
        // Of iptables the rules and user chains; of routes not those of link-local addresses, which
        // come by themselves a second after an interface does.
        let lines = out.stdout.lines().filter(|l| match what {
            "iptables" => l.starts_with("-A") || (l.starts_with(':') && l.contains(" - [")),
            _ => !l.contains("fe80:") && !l.contains("ff00:"),
        });
        found.extend(lines.map(|l| {
            // Counters and flags of interfaces that are there anyway differ from run to run.
            let key: Vec<&str> = l.split_whitespace().take(if what == "link" { 2 } else { 16 }).collect();
            format!("{what} {}", key.join(" "))
        }));
    }
    for entry in fs::read_dir("/run/netns").into_iter().flatten().filter_map(Result::ok) {
        found.insert(format!("netns {}", entry.file_name().to_string_lossy()));
    }
    pins(&std::path::PathBuf::from("/sys/fs/bpf"), &mut found);
    cgroups(&cgroup2_root(), &mut found, 0);
    found
}

fn pins(dir: &std::path::Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        found.insert(format!("pin {}", entry.path().display()));
        if entry.path().is_dir() {
            pins(&entry.path(), found);
        }
    }
}

fn cgroups(dir: &std::path::Path, found: &mut BTreeSet<String>, depth: u8) {
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        if entry.path().is_dir() && depth < 5 {
            found.insert(format!("cgroup {}", entry.path().display()));
            cgroups(&entry.path(), found, depth + 1);
        }
    }
}

#[test]
fn nothing_is_left_after_a_purge() {
    let Some(()) = ready_or_skip("nothing_is_left_after_a_purge") else { return };
    let mut stack = Stack::prepare(orlop_tests::StackOptions::default());
    let before = traces(&stack);
    stack.start();
    stack.apply(DEMO);
    let _ = stack.ready_pods("demo", "app=web", 3);
    stack.stop(Signal::SIGTERM);
    let data = format!("--data-dir={}", stack.data_dir().display());
    let out = stack.orlop(&["down", "--purge", &data]).run();
    assert!(out.ok().contains("nothing is left"), "{out}");
    let after = traces(&stack);
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "left behind: {new:#?}");
    assert!(!stack.data_dir().exists());
    assert!(!stack.root_dir().join("pods").exists());

    // Again, and on a directory that never was one: nothing to do is no error.
    let again = stack.orlop(&["down", "--purge", &data]).run();
    assert!(again.success(), "{again}");
}

#[test]
fn down_keeps_the_data_and_up_goes_on() {
    let Some(()) = ready_or_skip("down_keeps_the_data_and_up_goes_on") else { return };
    let mut stack = Stack::up();
    stack.apply(DEMO);
    let _ = stack.ready_pods("demo", "app=web", 3);
    // `down` finds the running process by itself.
    let data = format!("--data-dir={}", stack.data_dir().display());
    let _ = stack.orlop(&["down", &data]).run().ok();
    stack.stop(Signal::SIGTERM);
    stack.start();
    let _ = stack.ready_pods("demo", "app=web", 3);
}
