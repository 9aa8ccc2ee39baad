//! `orlop`: one binary for a Kubernetes node, and for a whole small cluster.
//!
//! The only crate that reads flags, files of configuration and the environment; it starts the parts
//! and ties them together. Everything that it decides is in `settings`, everything that it starts in
//! `up`, `agent` and `node`.

mod agent;
mod cli;
#[cfg(feature = "control-plane")]
mod cluster_settings;
mod config;
mod containerd;
mod down;
mod faces;
mod instance;
mod logging;
mod node;
mod notify;
mod preflight;
mod progress;
mod settings;
mod signals;
#[cfg(feature = "control-plane")]
mod up;
mod version;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use crate::cli::{Cli, Command, VersionOutput};

/// A command line that cannot be followed, as clap exits too.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let (args, without_effect) = match faces::command_line(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(error) => {
            report(&error);
            return ExitCode::from(USAGE);
        }
    };
    let cli = Cli::parse_from(args);
    match start(cli.command, &without_effect) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "the last word of a command goes to the terminal, whatever the log level")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

fn start(command: Command, without_effect: &[String]) -> Result<()> {
    // Two threads serve a node's events; what blocks has a pool of its own, with a bound.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .max_blocking_threads(64)
        .thread_name("orlop")
        .enable_all()
        .build()?;
    let result = runtime.block_on(run(command, without_effect));
    // Whatever still blocks after a clean stop must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    result
}

fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 8)
}

async fn run(command: Command, without_effect: &[String]) -> Result<()> {
    if let Some(common) = command.common() {
        logging::start(common)?;
    }
    for flag in without_effect {
        tracing::warn!(flag, "this flag of upstream's has no effect yet");
    }
    match command {
        #[cfg(feature = "control-plane")]
        Command::Up(args) => up::up(args).await,
        #[cfg(feature = "control-plane")]
        Command::Server(args) => up::server(args).await,
        Command::Agent(args) => agent::agent(args, true).await,
        Command::Kubelet(args) => agent::agent(args, false).await,
        Command::Proxy(args) => agent::proxy(args).await,
        Command::Down(args) => down::run(&args).await,
        Command::Explain(_) | Command::Trace(_) | Command::Verify(_) => {
            bail!("this version cannot do that yet; see the table of support in the README")
        }
        Command::Version { output } => {
            print_version(output);
            Ok(())
        }
    }
}

#[allow(clippy::print_stdout, reason = "the output that was asked for")]
fn print_version(output: VersionOutput) {
    match output {
        VersionOutput::Text => println!("orlop {}", version::TEXT),
        VersionOutput::Json => println!(
            "{}",
            serde_json::json!({
                "orlop": version::ORLOP,
                "kubernetes": version::KUBERNETES,
                "controlPlane": cfg!(feature = "control-plane"),
                "ebpfPrograms": orlop_dataplane::is_embedded(),
            })
        ),
    }
}

impl Command {
    fn common(&self) -> Option<&cli::CommonArgs> {
        match self {
            #[cfg(feature = "control-plane")]
            Self::Up(args) => Some(&args.common),
            #[cfg(feature = "control-plane")]
            Self::Server(args) => Some(&args.common),
            Self::Agent(args) | Self::Kubelet(args) => Some(&args.common),
            Self::Proxy(args) => Some(&args.common),
            Self::Down(_) | Self::Explain(_) | Self::Trace(_) | Self::Verify(_) | Self::Version { .. } => None,
        }
    }
}
