//! `cargo xtask bench`: figures, not verdicts.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::{build, cache, images, setup, step};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Name {
    /// Start to Ready, start to first Pod, idle memory and CPU, binary size
    Skeleton,
}

pub(crate) fn run(name: Name) -> Result<()> {
    match name {
        Name::Skeleton => skeleton(),
    }
}

fn skeleton() -> Result<()> {
    setup::for_run()?;
    setup::for_test()?;
    let full = build::orlop(build::Profile::new(true, false))?;
    let node_only = build::orlop(build::Profile::new(true, true))?;
    images::build()?;
    let mut command = Command::new("cargo");
    command
        .args(["run", "--quiet", "--locked", "--package", "orlop-tests", "--bin", "bench"])
        .current_dir(cache::root())
        .env("ORLOP_BENCH_NODE_ONLY", node_only);
    setup::test_environment(&mut command, &full)?;
    step::run_shown("the skeleton's figures", &mut command)
}
