//! Wrong input: a message that names the thing and the remedy, a non-zero exit, nothing half-made left.

use std::fs;

use nix::sys::signal::Signal;
use orlop_tests::{Output, Stack, StackOptions, eventually, ready_or_skip};

/// Runs `orlop up` with more flags; it must fail.
fn up_fails(stack: &Stack, more: &[&str]) -> String {
    let flags = stack.flags();
    let mut args = vec!["up"];
    args.extend(flags.iter().map(String::as_str));
    args.extend(more);
    let out: Output = stack.orlop(&args).run();
    assert!(out.code != 0, "should have failed: {out}");
    out.err()
}

fn names(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn flags_and_files() {
    let Some(()) = ready_or_skip("flags_and_files") else { return };
    let stack = Stack::prepare(StackOptions::default());
    names(&up_fails(&stack, &["--no-such-flag"]), &["--no-such-flag"]);
    names(&up_fails(&stack, &["--secure-port=70000"]), &["secure-port", "70000"]);
    names(
        &up_fails(&stack, &["--service-cluster-ip-range=10.96.0.0/33"]),
        &["service-cluster-ip-range", "10.96.0.0/33"],
    );
    names(&up_fails(&stack, &["--service-cluster-ip-range=10.244.0.0/20"]), &["overlap", "--cluster-cidr"]);
    names(&up_fails(&stack, &["--proxy-mode=magic"]), &["--proxy-mode", "magic"]);
    names(&up_fails(&stack, &["--config=/nonexistent.yaml"]), &["/nonexistent.yaml"]);
    let config = stack.dir.path().join("bad.yaml");
    fs::write(&config, "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPodz: 3\n").unwrap();
    names(&up_fails(&stack, &[&format!("--config={}", config.display())]), &["bad.yaml", "maxPodz"]);
    names(&up_fails(&stack, &["--container-runtime-endpoint=unix:///nonexistent.sock"]), &["/nonexistent.sock"]);
    // None of these left a certificate, a store or a route behind.
    for half in ["pki", "store.redb", "admin.kubeconfig"] {
        assert!(!stack.data_dir().join(half).exists(), "{half} was left behind");
    }
    let routes = stack.on_node(&["ip", "route", "show", "type", "unreachable"]).run();
    assert_eq!(routes.stdout.trim(), "");
}

#[test]
fn a_taken_port() {
    let Some(()) = ready_or_skip("a_taken_port") else { return };
    let stack = Stack::prepare(StackOptions::default());
    let holder = stack.on_node(&["busybox", "httpd", "-f", "-p", "6443", "-h", "/tmp"]).spawn();
    eventually("the port's holder", || {
        let out = stack.on_node(&["ss", "-ltn"]).run();
        if out.stdout.contains(":6443") { Ok(()) } else { Err(out.to_string()) }
    });
    names(&up_fails(&stack, &[]), &["6443", "--secure-port"]);
    let mut holder = holder;
    holder.kill().unwrap();
    let _ = holder.wait();
}

#[test]
fn a_missing_runtime() {
    let Some(()) = ready_or_skip("a_missing_runtime") else { return };
    let stack = Stack::prepare(StackOptions::default());
    // A machine without containerd: a device hides the program, in a mount namespace.
    let script =
        "for f in /usr/bin/containerd /bin/containerd; do [ -e $f ] && mount --bind /dev/null $f; done; exec \"$@\"";
    let flags = stack.flags();
    let program = orlop_tests::stack::orlop_bin();
    let mut args = vec!["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", &program, "up"];
    args.extend(flags.iter().map(String::as_str));
    let out = stack.on_node(&args).run();
    names(&out.err(), &["containerd", "--container-runtime-endpoint"]);
}

#[test]
fn a_data_directory_of_a_newer_version() {
    let Some(()) = ready_or_skip("a_data_directory_of_a_newer_version") else { return };
    let mut stack = Stack::up();
    stack.stop(Signal::SIGTERM);
    let version = stack.data_dir().join("VERSION");
    let written = fs::read_to_string(&version).expect("the data directory says its version");
    fs::write(&version, "999\n").unwrap();
    names(&up_fails(&stack, &[]), &["newer", &stack.data_dir().display().to_string()]);
    fs::write(&version, written).unwrap();
    stack.start();
}

#[test]
fn two_on_one_directory() {
    let Some(()) = ready_or_skip("two_on_one_directory") else { return };
    let stack = Stack::up();
    names(&up_fails(&stack, &["--secure-port=7443", "--port=11250"]), &["in use by process", "--data-dir"]);
    assert!(stack.kubectl(&["get", "nodes"]).success());
}

#[test]
fn a_full_disk() {
    let Some(()) = ready_or_skip("a_full_disk") else { return };
    let stack = Stack::prepare(StackOptions::default());
    // A data directory on a disk of 64 KiB.
    let small = stack.dir.path().join("small");
    fs::create_dir(&small).unwrap();
    let script = "mount -t tmpfs -o size=64k none \"$1\" && shift && exec \"$@\"";
    let flags = stack.flags();
    let program = orlop_tests::stack::orlop_bin();
    let small_text = small.display().to_string();
    let data = format!("--data-dir={small_text}");
    let mut args =
        vec!["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", &small_text, &program, "up"];
    args.extend(flags.iter().skip(1).map(String::as_str));
    args.push(&data);
    let out = stack.on_node(&args).run();
    names(&out.err(), &["small"]);
    assert!(out.err().to_lowercase().contains("space"), "{out}");
}

#[test]
fn objects_that_are_wrong() {
    let Some(()) = ready_or_skip("objects_that_are_wrong") else { return };
    let stack = Stack::up();
    let apply = |text: &str| {
        stack.kubectl_of(orlop_tests::Kubectl::V1_36, &["apply", "-f", "-"]).stdin(text.to_owned()).run().err()
    };
    names(
        &apply("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  contaners: []\n"),
        &["unknown field \"spec.contaners\""],
    );
    names(&apply("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {}\n"), &["spec.containers", "Required value"]);
    names(
        &apply("apiVersion: v1\nkind: Pod\nmetadata: {name: Not_A_Name}\nspec:\n  containers: [{name: a, image: b}]\n"),
        &["metadata.name", "Invalid value"],
    );
    names(&apply("apiVersion: v1\nkind: Poddd\nmetadata: {name: x}\n"), &["Poddd"]);
    names(
        &apply("apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 0}]}\n"),
        &["spec.ports[0].port"],
    );
    let strange = stack.kubectl(&["get", "pods", "-n", "default", "--field-selector", "spec.color=red"]);
    names(&strange.err(), &["field label not supported", "spec.color"]);
}
