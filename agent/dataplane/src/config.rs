//! What the eBPF backend is told.

use std::net::IpAddr;
use std::path::PathBuf;

/// Where Orlop keeps its pins by default.
pub const DEFAULT_BPFFS_DIR: &str = "/sys/fs/bpf/orlop/default";

/// Configuration of [`crate::EbpfBackend`].
#[derive(Clone, Debug)]
pub struct EbpfConfig {
    /// Control group whose processes use services; `None` for the root of the cgroup2 mount.
    pub cgroup_root: Option<PathBuf>,
    /// Folder for maps and links; on a bpffs, which is mounted where it is missing.
    pub bpffs_dir: PathBuf,
    /// Interfaces where outside traffic arrives.
    pub interfaces: Interfaces,
    /// Interfaces behind which Pods are whose sockets are out of reach (virtual machines).
    pub pod_interfaces: Vec<String>,
    /// The node's addresses; the first of each family is the source of forwarded connections.
    pub node_ips: Vec<IpAddr>,
    /// Ports for those connections.
    pub snat_ports: SnatPorts,
    /// Limits of the maps.
    pub map_sizes: MapSizes,
}

impl Default for EbpfConfig {
    fn default() -> Self {
        Self {
            cgroup_root: None,
            bpffs_dir: PathBuf::from(DEFAULT_BPFFS_DIR),
            interfaces: Interfaces::Auto,
            pod_interfaces: Vec::new(),
            node_ips: Vec::new(),
            snat_ports: SnatPorts::default(),
            map_sizes: MapSizes::default(),
        }
    }
}

/// Which interfaces get the tc programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interfaces {
    /// Those that carry a node address or a default route, followed as they change.
    Auto,
    /// These; the ones that don't exist yet are attached to when they appear.
    List(Vec<String>),
}

/// A range of ports of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnatPorts {
    /// The first port.
    pub first: u16,
    /// How many.
    pub count: u16,
}

impl Default for SnatPorts {
    /// Above Linux' default range for the node's own connections, which ends at 60999.
    fn default() -> Self {
        Self { first: 61_000, count: 4_536 }
    }
}

/// Entries that each map may hold.
///
/// The first four take 16 bytes an entry at start, and about 100 more as entries come. The others are allocated
/// whole at start, and evict what was used least recently. The defaults come to about 16 MB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Frontends.
    pub services: u32,
    /// Endpoints, once per distinct set that frontends use.
    pub slots: u32,
    /// Endpoints of services with session affinity.
    pub members: u32,
    /// Source ranges.
    pub sources: u32,
    /// Clients with session affinity.
    pub affinity: u32,
    /// Translated sockets whose peer can be told by its service address.
    pub sockets: u32,
    /// Flows from outside: two per connection, four where its source is translated.
    pub flows: u32,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            services: 65_536,
            slots: 262_144,
            members: 65_536,
            sources: 16_384,
            affinity: 16_384,
            sockets: 32_768,
            flows: 32_768,
        }
    }
}
