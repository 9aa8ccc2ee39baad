//! `cargo xtask bench`: figures, not verdicts.

use anyhow::Result;
use clap::ValueEnum;

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
    Ok(())
}
