//! `cargo xtask`: everything a developer types besides plain `cargo check`.
//!
//! Each command first sees to what it needs (`setup` installs it and says so), so that any of them
//! works on a machine that never saw this project.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

mod apt;
mod bench;
mod build;
mod cache;
mod cluster;
mod ebpf_toolchain;
mod images;
mod setup;
mod step;
mod testing;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and tests Orlop", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing: Debian packages, kubectl 1.32 and 1.36, the private eBPF toolchain
    Setup,
    /// Compile the kernel programs to target/ebpf/orlop.bpf.o
    BuildEbpf,
    /// Build the `orlop` binary; the last line printed is its path
    Build {
        /// Optimised, static binary at target/release/orlop
        #[arg(long)]
        release: bool,
        /// Without the control plane: kubelet and service proxy only
        #[arg(long)]
        node_only: bool,
    },
    /// Build the OCI image tarballs (pause, busybox demo) under target/images/
    Images,
    /// Build all, start a one-node cluster on this machine and run the demo on it
    Up(cluster::Options),
    /// Stop the cluster that `up` started; --purge also removes its data
    Down {
        #[command(flatten)]
        options: cluster::Options,
        #[arg(long)]
        purge: bool,
    },
    /// Run the tests: everything, or one layer
    Test {
        /// Which layer; all of them where it is left out
        layer: Option<testing::Layer>,
        /// Only the tests whose name contains this
        #[arg(long)]
        filter: Option<String>,
    },
    /// Check the house rules: dependency directions, file sizes, forbidden words, formatting, lints
    Tidy {
        /// Only the rules that need no compiler
        #[arg(long)]
        quick: bool,
    },
    /// Run a benchmark: skeleton
    Bench { name: bench::Name },
    /// Boot a Debian kernel with systemd and cgroup v2 under QEMU and run the VM scenarios there
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup => setup::all(),
        Command::BuildEbpf => build::ebpf().map(|path| println!("{}", path.display())),
        Command::Build { release, node_only } => {
            build::orlop(build::Profile::new(release, node_only)).map(|path| println!("{}", path.display()))
        }
        Command::Images => images::build().map(|paths| paths.iter().for_each(|p| println!("{}", p.display()))),
        Command::Up(options) => cluster::up(&options),
        Command::Down { options, purge } => cluster::down(&options, purge),
        Command::Test { layer, filter } => testing::run(layer, filter.as_deref()),
        Command::Tidy { quick } => tidy::run(quick),
        Command::Bench { name } => bench::run(name),
        Command::Vm(options) => vm::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
