//! One node: what it offers, what is on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use super::{PodInfo, Resource};
use crate::framework::ClusterEvent;

/// A port of the host that a Pod takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `0.0.0.0` for all addresses.
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// Whether both can't be on one node.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ANY || other.ip == ANY)
    }
}

/// A node and its Pods. A node that was removed stays while Pods are counted on it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    name: String,
    uid: String,
    exists: bool,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    unschedulable: bool,
    allocatable: Resource,
    /// Bytes of each image on the node, by normalized name.
    pub(super) image_sizes: HashMap<String, i64>,
    pods: Vec<Arc<PodInfo>>,
    requested: Resource,
    /// As `requested`, with upstream's least amounts for containers that ask for nothing.
    non_zero_milli_cpu: i64,
    non_zero_memory: i64,
}

impl NodeInfo {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The node object's UID, its name where it has none.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }
    #[must_use]
    pub fn exists(&self) -> bool {
        self.exists
    }
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
    #[must_use]
    pub fn taints(&self) -> &[Taint] {
        &self.taints
    }
    /// `spec.unschedulable`: the node is cordoned.
    #[must_use]
    pub fn unschedulable(&self) -> bool {
        self.unschedulable
    }
    #[must_use]
    pub fn allocatable(&self) -> &Resource {
        &self.allocatable
    }
    #[must_use]
    pub fn pods(&self) -> &[Arc<PodInfo>] {
        &self.pods
    }
    #[must_use]
    pub fn requested(&self) -> &Resource {
        &self.requested
    }
    #[must_use]
    pub fn non_zero_requested(&self) -> (i64, i64) {
        (self.non_zero_milli_cpu, self.non_zero_memory)
    }
    #[must_use]
    pub fn image_size(&self, image: &str) -> Option<i64> {
        self.image_sizes.get(image).copied()
    }

    /// Takes over a node object; returns what changed.
    pub(super) fn set_node(&mut self, node: &Node) -> Vec<ClusterEvent> {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let spec = node.spec.as_ref();
        let taints = spec.and_then(|s| s.taints.clone()).unwrap_or_default();
        let unschedulable = spec.and_then(|s| s.unschedulable).unwrap_or_default();
        let status = node.status.as_ref();
        let allocatable = Resource::from_api(status.and_then(|s| s.allocatable.as_ref()));
        let image_sizes = image_sizes(node);
        let mut events = Vec::new();
        if !self.exists {
            events.push(ClusterEvent::NodeAdd);
        } else {
            if self.labels != labels {
                events.push(ClusterEvent::NodeLabels);
            }
            if self.taints != taints || self.unschedulable != unschedulable {
                events.push(ClusterEvent::NodeTaints);
            }
            if self.allocatable != allocatable {
                events.push(ClusterEvent::NodeAllocatable);
            }
            if self.image_sizes != image_sizes {
                events.push(ClusterEvent::NodeOther);
            }
        }
        self.name = node.metadata.name.clone().unwrap_or_default();
        self.uid = node.metadata.uid.clone().unwrap_or_else(|| self.name.clone());
        self.exists = true;
        self.labels = labels;
        self.taints = taints;
        self.unschedulable = unschedulable;
        self.allocatable = allocatable;
        self.image_sizes = image_sizes;
        events
    }

    pub(super) fn clear_node(&mut self) {
        self.exists = false;
        self.labels.clear();
        self.taints.clear();
        self.image_sizes.clear();
        self.allocatable = Resource::default();
    }

    pub(crate) fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.non_zero_milli_cpu += pod.non_zero_milli_cpu;
        self.non_zero_memory += pod.non_zero_memory;
        self.pods.push(pod);
    }

    pub(crate) fn remove_pod(&mut self, uid: &str) {
        if let Some(at) = self.pods.iter().position(|p| p.uid == uid) {
            let pod = self.pods.swap_remove(at);
            self.requested.subtract(&pod.requests);
            self.non_zero_milli_cpu -= pod.non_zero_milli_cpu;
            self.non_zero_memory -= pod.non_zero_memory;
        }
    }
}

fn image_sizes(node: &Node) -> HashMap<String, i64> {
    let images = node.status.as_ref().and_then(|s| s.images.as_ref());
    let mut sizes = HashMap::new();
    for image in images.into_iter().flatten() {
        for name in image.names.iter().flatten() {
            sizes.insert(name.clone(), image.size_bytes.unwrap_or_default());
        }
    }
    sizes
}
