//! What a kubelet is started with. Nothing in this crate reads flags, files of configuration or the environment.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use orlop_runtime::RuntimeOptions;

use crate::container_manager::CgroupDriver;

/// Everything that a kubelet needs to know. Field names follow upstream's configuration.
#[derive(Clone, Debug)]
pub struct KubeletOptions {
    pub node_name: String,
    /// Empty: found from the default route.
    pub node_ips: Vec<IpAddr>,
    /// Pods' directories and volumes (`/var/lib/kubelet`).
    pub root_dir: PathBuf,
    /// Our own records of pods (`/var/lib/orlop/kubelet`).
    pub state_dir: PathBuf,
    /// Static pods; none: no such source.
    pub pod_manifest_path: Option<PathBuf>,
    /// Rescan of the manifests, beside inotify (`fileCheckFrequency`).
    pub file_check_frequency: Duration,
    /// Container logs (`/var/log/pods`).
    pub pod_logs_dir: PathBuf,
    pub runtime: RuntimeOptions,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Host's resolver configuration; empty: pods get none of it.
    pub resolver_config: PathBuf,
    pub cgroup_driver: CgroupDriver,
    /// Pods' cgroups stand below it; `/` for the root.
    pub cgroup_root: String,
    /// Per resource, base units (CPU in milli).
    pub reserved: BTreeMap<String, i64>,
    pub enforce_node_allocatable: bool,
    pub pod_pids_limit: i64,
    pub max_pods: i64,
    /// The server of 10250; none: no server. Port 0 takes a free one.
    pub server_listen: Option<SocketAddr>,
    /// Certificate and key of the server; none: self-signed in memory.
    pub server_tls: Option<(PathBuf, PathBuf)>,
    pub client_ca_file: Option<PathBuf>,
    pub register_node: bool,
    pub node_labels: BTreeMap<String, String>,
    pub register_with_taints: Vec<Taint>,
    pub provider_id: Option<String>,
    pub node_status_update_frequency: Duration,
    pub node_status_report_frequency: Duration,
    pub node_lease_duration_s: i32,
    /// `nodeStatusMaxImages`.
    pub max_images: usize,
    /// Version that the Node object shows.
    pub version: String,
    /// Pulls at once over all pods (`maxParallelImagePulls`; upstream's default is one by one).
    pub max_parallel_image_pulls: usize,
    /// Longest delay between restarts of a crashing container.
    pub max_container_restart_period: Duration,
    /// `eventRecordQPS` per object after `event_burst`.
    pub event_burst: u32,
    /// A directory of localhost seccomp profiles (`<root-dir>/seccomp` if none).
    pub seccomp_dir: Option<PathBuf>,
    /// How often a pod is looked at without any reason (`syncFrequency`).
    pub sync_frequency: Duration,
    /// Relist of the runtime where it has no events.
    pub pleg_relist_period: Duration,
    /// What `/configz` shows.
    pub configz: serde_json::Value,
}

impl KubeletOptions {
    /// Upstream's defaults for a node of that name.
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            node_ips: Vec::new(),
            root_dir: "/var/lib/kubelet".into(),
            state_dir: "/var/lib/orlop/kubelet".into(),
            pod_manifest_path: None,
            file_check_frequency: Duration::from_secs(20),
            pod_logs_dir: "/var/log/pods".into(),
            runtime: RuntimeOptions::default(),
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            resolver_config: "/etc/resolv.conf".into(),
            cgroup_driver: CgroupDriver::default(),
            cgroup_root: "/".to_owned(),
            reserved: BTreeMap::new(),
            enforce_node_allocatable: true,
            pod_pids_limit: -1,
            max_pods: 110,
            server_listen: None,
            server_tls: None,
            client_ca_file: None,
            register_node: true,
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            provider_id: None,
            node_status_update_frequency: Duration::from_secs(10),
            node_status_report_frequency: Duration::from_secs(300),
            node_lease_duration_s: 40,
            max_images: 50,
            version: "v1.36.2+orlop".to_owned(),
            max_parallel_image_pulls: 1,
            max_container_restart_period: crate::backoff::MAX,
            event_burst: 25,
            seccomp_dir: None,
            sync_frequency: Duration::from_secs(60),
            pleg_relist_period: Duration::from_secs(1),
            configz: serde_json::json!({}),
        }
    }
}
