//! Why the dataplane could not start.

use std::io;
use std::path::PathBuf;

/// Why the eBPF backend could not start.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The binary carries no programs.
    #[error("built without eBPF programs; run cargo xtask build-ebpf")]
    NotEmbedded,
    /// The kernel or the environment lacks something.
    #[error("this node can't run the eBPF proxy: {0}")]
    Unsupported(String),
    /// A file or folder could not be handled.
    #[error("{operation} failed for {}", path.display())]
    Path {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The object could not be loaded.
    #[error("loading the eBPF object failed")]
    Load(#[source] Box<aya::EbpfError>),
    /// The verifier or the kernel refused a program.
    #[error("loading the eBPF program {program} failed")]
    Program {
        program: &'static str,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// The object is not the one that this build expects.
    #[error("the eBPF object has no {kind} named {name}")]
    Missing { kind: &'static str, name: &'static str },
    /// A map has another shape than this build expects.
    #[error("the eBPF map {name} can't be used")]
    Map {
        name: &'static str,
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// A program could not be attached.
    #[error("attaching {program} to {target} failed")]
    Attach {
        program: &'static str,
        target: String,
        #[source]
        source: io::Error,
    },
    /// A call into the kernel failed.
    #[error("{operation} failed")]
    Kernel {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}
