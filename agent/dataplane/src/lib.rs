//! The eBPF backend of the proxy.
//!
//! ```text
//! backend     plans become map entries; clean-up    readback  what is in the maps
//! ids         numbers of services
//! groups      sets of endpoints, shared and never changed in place
//! tables      the maps, typed          convert   the proxy's words and the maps' bytes
//! loader      programs on pinned maps  attach    control group and interfaces, adopting pinned links
//! bpffs       where pins live          interfaces, netlink   which interfaces, and when they change
//! probe       what this node lacks     sys       calls that no crate wraps
//! ```

mod attach;
mod backend;
mod bpffs;
mod config;
mod convert;
mod error;
mod flows;
mod groups;
mod ids;
mod interfaces;
mod loader;
mod netlink;
mod object;
mod probe;
mod readback;
mod sys;
mod tables;

pub use attach::{PacketRun, TcHook};
pub use backend::EbpfBackend;
pub use config::{DEFAULT_BPFFS_DIR, EbpfConfig, Interfaces, MapSizes, SnatPorts};
pub use error::DataplaneError;
pub use object::is_embedded;
pub use probe::{Capability, cgroup2_root, probe, unsupported};

/// Takes every pin below `bpffs_dir` out of the kernel: programs are detached, maps freed. Loads
/// nothing, so it also works where the programs can't be loaded.
///
/// # Errors
/// One for each pin that could not be removed; the others are gone.
pub fn remove(bpffs_dir: &std::path::Path) -> Result<(), Vec<(std::path::PathBuf, std::io::Error)>> {
    let errors = bpffs::Pins::at(bpffs_dir).remove();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
