//! `cargo xtask up` and `down`.
use anyhow::Result;

#[derive(clap::Args, Debug)]
pub(crate) struct Options {}
pub(crate) fn up(_: &Options) -> Result<()> {
    Ok(())
}
pub(crate) fn down(_: &Options, _purge: bool) -> Result<()> {
    Ok(())
}
