//! Scenarios on real parts: containerd, runc, CNI plugins, kubectl, the kernel. Run by `cargo xtask test scenario`.

mod agent;
mod bad_input;
mod kubectl;
mod main_job;
mod purge;
mod restarts;
mod standalone;
mod static_pods;

/// The manifest of the demo, which `cargo xtask up` applies, too.
const DEMO: &str = include_str!("../manifests/demo.yaml");
