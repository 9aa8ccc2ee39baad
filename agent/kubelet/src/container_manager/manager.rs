//! Creates, limits and removes the cgroups of pods.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use orlop_host::cgroup::{CgroupPath, CgroupVersion, Hierarchies, Limits};
use orlop_host::machine::MachineCapacity;
use orlop_host::slices;
use tracing::{debug, info, warn};

use super::names::CgroupNames;
use super::{
    CgroupDriver, ContainerManagerConfig, ContainerResources, QosClass, cpu_shares, grants, pod_requests, qos_class,
};

/// How long the kernel may take to let go of killed processes.
const KILL_WAIT: Duration = Duration::from_secs(10);
const KILL_POLL: Duration = Duration::from_millis(20);

/// What went wrong with a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("failed to {action} cgroup {path}: {source}")]
    Io {
        action: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cgroup {path} still has processes after they were killed: {pids:?}")]
    Busy { path: String, pids: Vec<i32> },
    #[error("cgroupRoot {0:?} is not a cgroup path")]
    Root(String),
    #[error("pod UID {0:?} is not a file name")]
    Uid(String),
    #[error("systemd: {0}")]
    Systemd(#[from] slices::SliceError),
}

/// The node's container manager.
pub struct ContainerManager {
    config: ContainerManagerConfig,
    names: CgroupNames,
    hierarchies: Hierarchies,
    capacity: MachineCapacity,
    /// CPU requests of Burstable pods by UID: what the shares of their tree are made of.
    burstable_milli_cpu: Mutex<BTreeMap<String, i64>>,
    warned: Mutex<BTreeSet<&'static str>>,
    /// What was set last: an unchanged pod costs no writes, and on systemd no process.
    applied: Mutex<BTreeMap<CgroupPath, Limits>>,
}

impl ContainerManager {
    pub fn new(
        config: ContainerManagerConfig,
        hierarchies: Hierarchies,
        capacity: MachineCapacity,
    ) -> Result<Self, CgroupError> {
        let names = CgroupNames::new(config.driver, &config.cgroup_root)
            .ok_or_else(|| CgroupError::Root(config.cgroup_root.clone()))?;
        Ok(Self {
            config,
            names,
            hierarchies,
            capacity,
            burstable_milli_cpu: Mutex::default(),
            warned: Mutex::default(),
            applied: Mutex::default(),
        })
    }

    /// Makes the QoS tree: `/kubepods` with the node's allocatable, and the two classes below it.
    pub async fn setup(&self) -> Result<(), CgroupError> {
        let mut limits = Limits::default();
        if self.config.enforce_pods {
            let allocatable = self.allocatable();
            let get = |name: &str| allocatable.get(name).copied().unwrap_or(0);
            limits.cpu_shares = Some(cpu_shares(get("cpu")));
            // Eviction keeps usage below this; the kernel's limit is the machine less what is reserved for others.
            limits.memory_bytes = Some(get("memory")).filter(|bytes| *bytes > 0);
        }
        self.put(&self.names.kubepods(), &limits).await?;
        let least = Limits { cpu_shares: Some(cpu_shares(0)), ..Limits::default() };
        self.put(&self.names.qos(QosClass::BestEffort), &least).await?;
        self.put(&self.names.qos(QosClass::Burstable), &least).await?;
        info!(version = ?self.hierarchies.version(), driver = ?self.config.driver, root = %self.names.kubepods(), "cgroup tree ready");
        Ok(())
    }

    /// What CRI's `cgroup_parent` is for this pod; empty if its UID is unusable.
    pub fn pod_cgroup_parent(&self, pod: &Pod) -> String {
        self.pod_path(pod).map(|path| self.names.cri_parent(&path)).unwrap_or_default()
    }

    /// The pod's cgroup, as a path below the roots of the hierarchies.
    pub fn pod_path(&self, pod: &Pod) -> Option<CgroupPath> {
        self.names.pod(qos_class(pod), uid_of(pod))
    }

    /// The tree of all pods.
    pub fn kubepods_path(&self) -> CgroupPath {
        self.names.kubepods()
    }

    /// Creates or updates the pod's cgroup, and the shares of its QoS class.
    pub async fn ensure_pod(&self, pod: &Pod) -> Result<(), CgroupError> {
        let path = self.pod_path(pod).ok_or_else(|| CgroupError::Uid(uid_of(pod).to_owned()))?;
        self.put(&path, &grants::pod_grant(pod, &self.config)).await?;
        if qos_class(pod) == QosClass::Burstable {
            let milli = pod_requests(pod).get("cpu").copied().unwrap_or(0);
            self.burstable().insert(uid_of(pod).to_owned(), milli);
            self.update_burstable().await?;
        }
        Ok(())
    }

    /// Kills what is left in the pod's cgroup, then removes it in every hierarchy; goes on past errors.
    pub async fn destroy_pod(&self, uid: &str) -> Result<(), Vec<CgroupError>> {
        let mut errors = Vec::new();
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let Some(path) = self.names.pod(class, uid) else {
                return Err(vec![CgroupError::Uid(uid.to_owned())]);
            };
            if self.hierarchies.exists(&path) {
                errors.extend(self.destroy(&path).await.err());
            }
        }
        if self.burstable().remove(uid).is_some() {
            errors.extend(self.update_burstable().await.err());
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Removes the whole tree, for a purge of the node. Kills what is in it. `cgroupRoot` goes too if nothing else is
    /// in it.
    pub async fn destroy_all(&self) -> Result<(), CgroupError> {
        self.destroy(&self.names.kubepods()).await?;
        let root = self.names.root();
        let empty = self.hierarchies.children(&root).is_empty() && self.hierarchies.processes(&root).is_empty();
        if empty && !root.is_root() { self.destroy(&root).await } else { Ok(()) }
    }

    /// What the container is granted.
    pub fn container_resources(&self, pod: &Pod, container: &Container) -> ContainerResources {
        let v2 = self.hierarchies.version() == CgroupVersion::V2;
        grants::container_grant(pod, container, &self.config, self.memory_capacity(), v2)
    }

    pub fn oom_score_adj(&self, pod: &Pod, container: &Container) -> i64 {
        grants::oom_score_adj(pod, container, self.memory_capacity())
    }

    pub fn qos_class(&self, pod: &Pod) -> QosClass {
        qos_class(pod)
    }

    /// UIDs of all pods that have a cgroup, whether anybody knows them or not.
    pub fn list_pod_cgroups(&self) -> Vec<String> {
        let mut uids = BTreeSet::new();
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let children = self.hierarchies.children(&self.names.qos(class));
            uids.extend(children.iter().filter_map(|name| self.names.uid_of(name)));
        }
        uids.into_iter().collect()
    }

    /// `status.capacity` in base units; CPU in milli.
    pub fn capacity(&self) -> BTreeMap<String, i64> {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let mut capacity = BTreeMap::from([
            ("cpu".to_owned(), signed(self.capacity.cpus).saturating_mul(1000)),
            ("memory".to_owned(), signed(self.capacity.memory_bytes)),
            ("pods".to_owned(), self.config.max_pods),
        ]);
        if let Ok(disk) = orlop_host::file_system::stats(&self.config.root_dir) {
            capacity.insert("ephemeral-storage".to_owned(), signed(disk.capacity_bytes));
        }
        for (size, count) in &self.capacity.huge_pages {
            capacity.insert(huge_page_resource(*size), signed(size.saturating_mul(*count)));
        }
        capacity
    }

    /// `status.allocatable`: capacity less what is reserved; huge pages come out of memory.
    pub fn allocatable(&self) -> BTreeMap<String, i64> {
        let mut allocatable = self.capacity();
        for (name, reserved) in &self.config.reserved {
            if let Some(amount) = allocatable.get_mut(name) {
                *amount = amount.saturating_sub(*reserved).max(0);
            }
        }
        let huge: i64 = allocatable
            .iter()
            .filter(|(n, _)| n.starts_with("hugepages-"))
            .map(|(_, v)| *v)
            .fold(0, i64::saturating_add);
        if let Some(memory) = allocatable.get_mut("memory") {
            *memory = memory.saturating_sub(huge).max(0);
        }
        allocatable
    }

    /// True if `/kubepods` is limited to the node's allocatable.
    pub fn enforces_pods(&self) -> bool {
        self.config.enforce_pods
    }

    pub fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    pub fn machine_capacity(&self) -> &MachineCapacity {
        &self.capacity
    }

    fn memory_capacity(&self) -> i64 {
        i64::try_from(self.capacity.memory_bytes).unwrap_or(i64::MAX)
    }

    fn burstable(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, i64>> {
        self.burstable_milli_cpu.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn update_burstable(&self) -> Result<(), CgroupError> {
        let milli = self.burstable().values().copied().fold(0, i64::saturating_add);
        let limits = Limits { cpu_shares: Some(cpu_shares(milli)), ..Limits::default() };
        self.put(&self.names.qos(QosClass::Burstable), &limits).await
    }

    /// Creates and limits one cgroup. On systemd the slice is systemd's to make.
    async fn put(&self, path: &CgroupPath, limits: &Limits) -> Result<(), CgroupError> {
        if self.applied().get(path) == Some(limits) && self.hierarchies.exists(path) {
            return Ok(());
        }
        if self.config.driver == CgroupDriver::Systemd
            && let Some(unit) = path.components().last()
        {
            slices::start(unit).await?;
            let weight = limits.cpu_shares.map(super::cpu_weight);
            let unified = self.hierarchies.version() == CgroupVersion::V2;
            slices::limit(unit, limits, weight, unified).await?;
        }
        self.hierarchies.create(path).map_err(failed("create", path))?;
        let missing = self.hierarchies.apply(path, limits).map_err(failed("limit", path))?;
        for controller in missing {
            if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(controller) {
                warn!(controller, "this machine has no such cgroup controller: its limits are not enforced");
            }
        }
        self.applied().insert(path.clone(), limits.clone());
        Ok(())
    }

    fn applied(&self) -> std::sync::MutexGuard<'_, BTreeMap<CgroupPath, Limits>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn destroy(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        self.applied().retain(|known, _| !known.components().starts_with(path.components()));
        let deadline = tokio::time::Instant::now() + KILL_WAIT;
        loop {
            let killed = self.hierarchies.kill(path);
            if killed.is_empty() {
                break;
            }
            debug!(%path, processes = killed.len(), "killed what was left in a pod's cgroup");
            if tokio::time::Instant::now() >= deadline {
                return Err(CgroupError::Busy { path: path.to_string(), pids: killed.into_iter().collect() });
            }
            tokio::time::sleep(KILL_POLL).await;
        }
        if self.config.driver == CgroupDriver::Systemd
            && let Some(unit) = path.components().last()
        {
            slices::stop(unit).await?;
        }
        // A zombie holds its cgroup until it is reaped: give its parent a moment.
        loop {
            let Err(errors) = self.hierarchies.remove(path) else { return Ok(()) };
            if tokio::time::Instant::now() >= deadline {
                let Some((dir, source)) = errors.into_iter().next() else { return Ok(()) };
                return Err(CgroupError::Io { action: "remove", path: dir.display().to_string(), source });
            }
            tokio::time::sleep(KILL_POLL).await;
        }
    }
}

/// A manager for this machine.
pub fn for_this_machine(config: ContainerManagerConfig) -> Result<Arc<ContainerManager>, CgroupError> {
    let root = CgroupPath::default();
    let hierarchies = Hierarchies::discover().map_err(failed("find the", &root))?;
    let capacity = orlop_host::machine::capacity().map_err(failed("measure the machine for the", &root))?;
    Ok(Arc::new(ContainerManager::new(config, hierarchies, capacity)?))
}

fn failed<'a>(action: &'static str, path: &'a CgroupPath) -> impl FnOnce(io::Error) -> CgroupError + 'a {
    move |source| CgroupError::Io { action, path: path.to_string(), source }
}

fn uid_of(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// `hugepages-2Mi`.
fn huge_page_resource(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("hugepages-{}{name}", bytes / unit);
        }
    }
    format!("hugepages-{bytes}")
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
