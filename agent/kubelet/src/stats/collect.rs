//! One look at everything: blocking reads of cgroup files and `/proc`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use orlop_host::cgroup::{CgroupPath, CgroupVersion, CpuUsage, Hierarchies, MemoryUsage, Pressure};
use orlop_host::file_system::FileSystemStats;

use super::network::{self, InterfaceStats};
use crate::container_manager::ContainerManager;

/// Usage of one cgroup.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu: Option<CpuUsage>,
    pub(super) memory: Option<MemoryUsage>,
    pub(super) processes: Option<u64>,
    /// `cpu`, `memory`, `io`: some and full; cgroup v2 only.
    pub(super) pressure: Vec<(&'static str, Pressure, Pressure)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ContainerUsage {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) image: String,
    pub(super) cgroup: String,
    pub(super) started: Option<Timestamp>,
    pub(super) usage: Usage,
}

#[derive(Clone, Debug, Default)]
pub(super) struct PodUsage {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) cgroup: String,
    pub(super) started: Option<Timestamp>,
    pub(super) usage: Usage,
    pub(super) network: Vec<InterfaceStats>,
    pub(super) containers: Vec<ContainerUsage>,
}

#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) at: Timestamp,
    pub(super) booted: Option<Timestamp>,
    pub(super) node: Usage,
    pub(super) node_network: Vec<InterfaceStats>,
    pub(super) node_fs: Option<FileSystemStats>,
    pub(super) cpus: u64,
    pub(super) memory_bytes: u64,
    pub(super) available_memory_bytes: u64,
    pub(super) max_pids: u64,
    pub(super) running_threads: u64,
    pub(super) pods: Vec<PodUsage>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            at: Timestamp::UNIX_EPOCH,
            booted: None,
            node: Usage::default(),
            node_network: Vec::new(),
            node_fs: None,
            cpus: 0,
            memory_bytes: 0,
            available_memory_bytes: 0,
            max_pids: 0,
            running_threads: 0,
            pods: Vec::new(),
        }
    }
}

pub(super) fn snapshot(manager: &ContainerManager, root_dir: &Path, pods: &[Arc<Pod>]) -> Snapshot {
    let hierarchies = manager.hierarchies();
    let meminfo = std::fs::read_to_string("/proc/meminfo").map(|t| orlop_host::machine::parse_meminfo(&t));
    let meminfo = meminfo.unwrap_or_default();
    let get = |name: &str| meminfo.get(name).copied().unwrap_or(0);
    let mut node = usage(hierarchies, &CgroupPath::default());
    if hierarchies.version() == CgroupVersion::V2 || node.memory.is_none() {
        // The root of the v2 tree has no counters of its own.
        let used = get("MemTotal").saturating_sub(get("MemFree"));
        node.memory = Some(MemoryUsage {
            usage_bytes: used,
            working_set_bytes: used.saturating_sub(get("Inactive(file)")),
            rss_bytes: get("AnonPages"),
            cache_bytes: get("Cached"),
            swap_bytes: get("SwapTotal").saturating_sub(get("SwapFree")),
            ..node.memory.unwrap_or_default()
        });
    }
    let machine = manager.machine_capacity();
    Snapshot {
        at: Timestamp::now(),
        booted: orlop_host::machine::boot_time_s().and_then(|s| Timestamp::from_second(s).ok()),
        node,
        node_network: network::of_node(),
        node_fs: orlop_host::file_system::stats(root_dir).ok(),
        cpus: machine.cpus,
        memory_bytes: machine.memory_bytes,
        available_memory_bytes: get("MemAvailable"),
        max_pids: machine.max_pids,
        running_threads: orlop_host::machine::running_threads().unwrap_or(0),
        pods: pods.iter().filter_map(|pod| pod_usage(manager, pod)).collect(),
    }
}

fn pod_usage(manager: &ContainerManager, pod: &Pod) -> Option<PodUsage> {
    let hierarchies = manager.hierarchies();
    let path = manager.pod_path(pod).filter(|path| hierarchies.exists(path))?;
    let children = hierarchies.children(&path);
    let host_network = pod.spec.as_ref().is_some_and(|s| s.host_network == Some(true));
    let status = pod.status.as_ref();
    let statuses = status.into_iter().flat_map(|s| {
        let lists = [&s.container_statuses, &s.init_container_statuses, &s.ephemeral_container_statuses];
        lists.into_iter().flatten().flatten()
    });
    let network = if host_network {
        Vec::new()
    } else {
        // Any process of the pod is in its network namespace, the sandbox's first of all.
        hierarchies.processes(&path).first().map(|pid| network::of_process(*pid)).unwrap_or_default()
    };
    Some(PodUsage {
        name: pod.metadata.name.clone().unwrap_or_default(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        cgroup: path.to_string(),
        started: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
        usage: usage(hierarchies, &path),
        network,
        containers: statuses.filter_map(|status| container_usage(hierarchies, &path, &children, status)).collect(),
    })
}

fn container_usage(
    hierarchies: &Hierarchies,
    pod: &CgroupPath,
    children: &BTreeSet<String>,
    status: &ContainerStatus,
) -> Option<ContainerUsage> {
    let running = status.state.as_ref()?.running.as_ref()?;
    let id = status.container_id.as_deref()?.split_once("://").map(|(_, id)| id.to_owned())?;
    // cgroupfs: the bare id; systemd: `cri-containerd-<id>.scope`.
    let child = children.iter().find(|name| !id.is_empty() && name.contains(&id))?;
    let path = pod.child(child)?;
    Some(ContainerUsage {
        name: status.name.clone(),
        image: status.image.clone(),
        cgroup: path.to_string(),
        started: running.started_at.as_ref().map(|t| t.0),
        usage: usage(hierarchies, &path),
        id,
    })
}

fn usage(hierarchies: &Hierarchies, path: &CgroupPath) -> Usage {
    Usage {
        cpu: hierarchies.cpu_usage(path),
        memory: hierarchies.memory_usage(path),
        processes: hierarchies.pids_usage(path).map(|(current, _)| current),
        pressure: ["cpu", "memory", "io"]
            .into_iter()
            .filter_map(|resource| hierarchies.pressure(path, resource).map(|(some, full)| (resource, some, full)))
            .collect(),
    }
}
