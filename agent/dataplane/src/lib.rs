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
