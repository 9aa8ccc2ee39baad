//! The cgroups of pods: the QoS tree, one cgroup per pod, and what each container is granted.
//!
//! ```text
//! <cgroup-root>/kubepods                     node allocatable
//!     pod<uid>                               Guaranteed
//!     burstable/pod<uid>     besteffort/pod<uid>
//! ```

use std::collections::BTreeMap;

pub mod conversions;
mod manager;
mod pod_resources;
mod qos;

pub use conversions::{cpu_quota, cpu_shares, cpu_weight};
pub use manager::{CgroupError, ContainerManager};
pub use pod_resources::{milli_value, pod_limits, pod_requests, value};
pub use qos::{QosClass, compute_qos_class, qos_class};

/// Who writes the cgroup tree: `cgroupDriver`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    #[default]
    Cgroupfs,
    Systemd,
}

/// Configuration of the container manager: the upstream fields of the same names.
#[derive(Clone, Debug)]
pub struct ContainerManagerConfig {
    /// `cgroupRoot`: the tree stands below this cgroup; `/` is the root.
    pub cgroup_root: String,
    pub driver: CgroupDriver,
    pub cpu_cfs_quota: bool,
    pub cpu_cfs_quota_period_us: u64,
    /// `podPidsLimit`; -1 is "no limit of our own".
    pub pod_pids_limit: i64,
    /// `kubeReserved` plus `systemReserved` plus hard eviction, per resource, in base units (CPU in milli).
    pub reserved: BTreeMap<String, i64>,
    /// `enforceNodeAllocatable` holds `pods`.
    pub enforce_pods: bool,
    /// `maxPods`.
    pub max_pods: i64,
    /// `--root-dir`, whose file system is the node's ephemeral storage.
    pub root_dir: std::path::PathBuf,
}

/// A container's grants, in CRI's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerResources {
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_shares: i64,
    pub memory_limit_in_bytes: i64,
    pub memory_swap_limit_in_bytes: i64,
    pub oom_score_adj: i64,
    /// Page size as the kernel names it (`2MB`), limit in bytes.
    pub hugepage_limits: Vec<(String, u64)>,
    /// cgroup v2 files by name.
    pub unified: BTreeMap<String, String>,
}
