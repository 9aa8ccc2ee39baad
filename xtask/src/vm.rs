//! VM.
use anyhow::Result;
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Options {}
pub(crate) fn run(_: &Options) -> Result<()> {
    Ok(())
}
