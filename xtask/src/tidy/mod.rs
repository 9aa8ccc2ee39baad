//! `cargo xtask tidy`: the rules of the house that a compiler does not check, and those it does.

mod layering;
mod licences;
mod text;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{cache, step};

/// One broken rule: where, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub place: String,
    pub message: String,
}

/// Checks everything; `quick` leaves formatting and lints out.
pub(crate) fn run(quick: bool) -> Result<()> {
    step::say("checking the rules of the house");
    let mut findings = layering::check()?;
    let files = tracked_files()?;
    findings.extend(text::check(&files));
    findings.extend(licences::check()?);
    for finding in &findings {
        eprintln!("{}: {}", finding.place, finding.message);
    }
    if !findings.is_empty() {
        bail!("{} rules of the house are broken", findings.len());
    }
    if quick {
        return Ok(());
    }
    step::run(
        "checking the formatting",
        Command::new("cargo").args(["fmt", "--all", "--check"]).current_dir(cache::root()),
    )?;
    for (title, selection) in [
        ("running the lints (clippy, warnings are errors)", &["--workspace", "--all-targets"][..]),
        ("running the lints on the node-only binary", &["--package", "orlop", "--no-default-features"][..]),
    ] {
        let mut clippy = Command::new("cargo");
        clippy.args(["clippy", "--locked"]).args(selection).args(["--", "-D", "warnings"]).current_dir(cache::root());
        step::run(title, &mut clippy)?;
    }
    Ok(())
}

/// The files of the repository that exist, whether committed yet or not.
fn tracked_files() -> Result<Vec<PathBuf>> {
    let list = step::output(
        Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(cache::root()),
    )?;
    Ok(list.lines().map(PathBuf::from).filter(|f| cache::root().join(f).is_file()).collect())
}
