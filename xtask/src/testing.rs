//! `cargo xtask test`: the four layers, from pure functions to virtual machines.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::{build, cache, images, setup, step, tidy, vm};

/// The layers, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layer {
    /// The rules of the house, formatting, lints
    Tidy,
    /// Pure functions, and components against fakes at their seams
    Unit,
    /// Kernel parts of single crates: eBPF, cgroups, mounts, the store under kill -9
    Component,
    /// The whole program with containerd, runc, CNI and kubectl, in network namespaces
    Scenario,
    /// Virtual machines: systemd, cgroup v2, other kernels
    Vm,
}

const ALL: [Layer; 5] = [Layer::Tidy, Layer::Unit, Layer::Component, Layer::Scenario, Layer::Vm];

pub(crate) fn run(layer: Option<Layer>, filter: Option<&str>) -> Result<()> {
    let layers = layer.map_or(ALL.to_vec(), |l| vec![l]);
    setup::for_build()?;
    if layers.iter().any(|l| *l != Layer::Tidy) {
        setup::for_run()?;
        setup::for_test()?;
    }
    // Built once and before anything that embeds them, so that no layer compiles the programs again.
    if layers.iter().any(|l| matches!(l, Layer::Unit | Layer::Component | Layer::Scenario | Layer::Vm)) {
        build::ebpf()?;
        images::build()?;
    }
    for layer in layers {
        match layer {
            Layer::Tidy => tidy::run(false)?,
            Layer::Unit => unit(filter)?,
            Layer::Component => component(filter)?,
            Layer::Scenario => scenario(filter)?,
            Layer::Vm => vm::run(&vm::Options::default())?,
        }
    }
    step::say("all tests passed");
    Ok(())
}

fn cargo_test(title: &str, args: &[&str], filter: Option<&str>, more: &[&str]) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["test", "--locked"]).args(args).args(filter).current_dir(cache::root());
    if !more.is_empty() {
        command.arg("--").args(more);
    }
    step::run_shown(title, &mut command)
}

fn unit(filter: Option<&str>) -> Result<()> {
    cargo_test("unit tests", &["--workspace", "--exclude", "orlop-tests", "--lib", "--bins"], filter, &[])
}

/// Integration tests of single crates. They use namespaces, mounts and cgroups, so one at a time.
fn component(filter: Option<&str>) -> Result<()> {
    cargo_test(
        "component tests",
        &["--workspace", "--exclude", "orlop-tests", "--test", "*"],
        filter,
        &["--test-threads=1"],
    )
}

fn scenario(filter: Option<&str>) -> Result<()> {
    let orlop = build::orlop(build::Profile::dev())?;
    let mut command = Command::new("cargo");
    command
        .args(["test", "--locked", "--workspace", "--test", "scenarios"])
        .args(filter)
        .args(["--", "--test-threads=1", "--nocapture"])
        .current_dir(cache::root());
    setup::test_environment(&mut command, &orlop)?;
    step::run_shown("scenarios on real parts", &mut command)
}
