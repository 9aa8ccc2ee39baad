//! The eBPF backend in a real kernel: network namespaces, and a control group of the test's own.
//!
//! Needs root, a kernel with BPF, and a build with the programs; says `SKIP reason` without them (a failure
//! where `CI=true`). This is a program of its own because clients must be processes: `worker` is one.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test runner")]
#![allow(clippy::disallowed_types, reason = "what is timed and waited for happens in the kernel")]

mod net;
mod scenarios;
mod worker;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "worker") {
        return match arguments.get(1).map(|cgroup| worker::worker_main(Path::new(cgroup))) {
            Some(Ok(())) => ExitCode::SUCCESS,
            other => {
                eprintln!("worker: {other:?}");
                ExitCode::FAILURE
            }
        };
    }
    let list = arguments.iter().any(|argument| argument == "--list");
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    if let Some(reason) = orlop_dataplane::unsupported() {
        if !list {
            println!("SKIP kernel tests: {reason}");
        }
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        return if in_ci && !list { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let mut failed = 0;
    for (name, scenario) in scenarios::ALL {
        if !name.contains(filter.as_str()) {
            continue;
        }
        if list {
            println!("{name}: test");
            continue;
        }
        let start = Instant::now();
        let result = std::panic::catch_unwind(scenario);
        let took = start.elapsed();
        match result {
            Ok(Ok(())) => println!("test {name} ... ok ({took:.1?})"),
            Ok(Err(error)) => {
                failed += 1;
                println!("test {name} ... FAILED: {error:#}");
            }
            Err(_) => {
                failed += 1;
                println!("test {name} ... FAILED: panicked");
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
