//! The cgroups of pods: the QoS tree, one cgroup per pod, and what each container is granted.
//!
//! ```text
//! <cgroup-root>/kubepods                     node allocatable
//!     pod<uid>                               Guaranteed
//!     burstable/pod<uid>     besteffort/pod<uid>
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

pub mod conversions;
mod grants;
mod manager;
mod names;
mod pod_resources;
mod qos;

pub use conversions::{cpu_quota, cpu_shares, cpu_weight};
pub use grants::{SANDBOX_OOM_SCORE_ADJ, oom_score_adj};
pub use manager::{CgroupError, ContainerManager, for_this_machine};
pub use orlop_host::slices::SliceError;
pub use pod_resources::{PodResources, milli_value, pod_limits, pod_requests, value};
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
    pub root_dir: PathBuf,
}

impl ContainerManagerConfig {
    /// Upstream's defaults.
    pub fn with_defaults(root_dir: PathBuf) -> Self {
        Self {
            cgroup_root: "/".to_owned(),
            driver: CgroupDriver::Cgroupfs,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period_us: conversions::DEFAULT_QUOTA_PERIOD_US,
            pod_pids_limit: -1,
            // evictionHard's default: memory.available<100Mi.
            reserved: BTreeMap::from([("memory".to_owned(), 100 << 20)]),
            enforce_pods: true,
            max_pods: 110,
            root_dir,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(cgroup_root: &str) -> Self {
        Self {
            cgroup_root: cgroup_root.to_owned(),
            enforce_pods: false,
            reserved: BTreeMap::new(),
            ..Self::with_defaults(PathBuf::from("/"))
        }
    }
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
