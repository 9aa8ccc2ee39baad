//! Logs go to stderr: on a terminal only what needs attention, else what a service manager should keep.

use std::io::IsTerminal;

use anyhow::{Result, bail};
use tracing_subscriber::EnvFilter;

use crate::cli::CommonArgs;

/// Sets the process's log output up. `ORLOP_LOG` (a tracing filter) wins over flags.
pub(crate) fn start(args: &CommonArgs) -> Result<()> {
    let level = match args.v.as_deref() {
        None if std::io::stderr().is_terminal() => "warn",
        None => "info",
        Some(text) => level(text)?,
    };
    let quiet = "hyper=warn,h2=warn,rustls=warn,tower=warn,kube_client=warn,kube_client::client::builder=off,kube_runtime=warn,aya=warn";
    let filter = match std::env::var("ORLOP_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)?,
        _ => EnvFilter::try_new(format!("{level},{quiet}"))?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.logging_format.as_str() {
        "json" => builder.json().init(),
        "text" => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        other => bail!("--logging-format {other:?} is not known: give text or json"),
    }
    Ok(())
}

/// Upstream's numbers: 0 to 1 are what everybody sees, 2 to 3 changes, 4 and 5 debugging, beyond that all.
fn level(text: &str) -> Result<&'static str> {
    Ok(match text {
        "error" => "error",
        "warn" | "warning" => "warn",
        "info" | "0" | "1" | "2" | "3" => "info",
        "debug" | "4" | "5" => "debug",
        "trace" | "6" | "7" | "8" | "9" | "10" => "trace",
        other => bail!("-v {other:?} is not a log level: give 0 to 10, or error, warn, info, debug, trace"),
    })
}

#[cfg(test)]
mod tests {
    use super::level;

    #[test]
    fn numbers_and_names() {
        assert_eq!(level("2").unwrap(), "info");
        assert_eq!(level("10").unwrap(), "trace");
        assert_eq!(level("warn").unwrap(), "warn");
        assert!(level("loud").unwrap_err().to_string().contains("loud"));
    }
}
