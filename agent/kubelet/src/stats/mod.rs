//! CPU, memory, network and file system use of the node, its pods and their containers.
//!
//! Everything is read from cgroup files and `/proc` at the moment of asking: nothing polls in the background, and a
//! scrape costs a few file reads per container.

mod collect;
mod network;
mod prometheus;
mod summary;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::container_manager::ContainerManager;
use collect::Snapshot;

/// CPU counters of the last asking, for rates; bounded by what is alive now.
type Counters = HashMap<String, (Timestamp, u64)>;

/// Answers the statistics endpoints.
pub struct StatsSource {
    node_name: String,
    root_dir: PathBuf,
    containers: Arc<ContainerManager>,
    last: Mutex<Counters>,
}

impl StatsSource {
    pub fn new(node_name: String, root_dir: PathBuf, containers: Arc<ContainerManager>) -> Self {
        Self { node_name, root_dir, containers, last: Mutex::default() }
    }

    /// `/stats/summary`: `stats/v1alpha1.Summary`.
    pub async fn summary(&self, pods: Vec<Arc<Pod>>, only_cpu_and_memory: bool) -> Value {
        let snapshot = self.snapshot(pods).await;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, counters) = summary::render(&self.node_name, &snapshot, &last, only_cpu_and_memory);
        *last = counters;
        value
    }

    /// `/metrics/resource`: what metrics-server reads.
    pub async fn resource_metrics(&self, pods: Vec<Arc<Pod>>) -> String {
        prometheus::resource(&self.snapshot(pods).await)
    }

    /// `/metrics/cadvisor`: the families that dashboards are made of.
    pub async fn cadvisor_metrics(&self, pods: Vec<Arc<Pod>>) -> String {
        prometheus::cadvisor(&self.snapshot(pods).await)
    }

    async fn snapshot(&self, pods: Vec<Arc<Pod>>) -> Snapshot {
        let containers = Arc::clone(&self.containers);
        let root_dir = self.root_dir.clone();
        let work = tokio::task::spawn_blocking(move || collect::snapshot(&containers, &root_dir, &pods));
        work.await.unwrap_or_default()
    }
}
