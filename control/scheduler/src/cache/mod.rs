//! Nodes with the Pods on them, kept up to date from watches, assumed Pods included.

mod node_info;
mod pod_info;
mod resource;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

pub use node_info::{HostPort, NodeInfo};
pub use pod_info::{AffinityTerm, PodInfo, WeightedTerm};
pub use resource::Resource;

use crate::framework::ClusterEvent;

/// The cluster as one scheduling cycle sees it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, NodeInfo>,
    namespaces: HashMap<String, BTreeMap<String, String>>,
    /// On how many nodes each image is, by normalized name.
    image_nodes: HashMap<String, usize>,
}

impl Snapshot {
    /// Nodes that exist, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|n| n.exists())
    }

    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name).filter(|n| n.exists())
    }

    #[must_use]
    pub fn num_nodes(&self) -> usize {
        self.nodes().count()
    }

    /// The same cluster with one node as given: what would be if its Pods were others.
    #[must_use]
    pub fn with_node(&self, node: NodeInfo) -> Self {
        let mut other = self.clone();
        other.nodes.insert(node.name().to_owned(), node);
        other
    }

    /// Labels of a namespace, for selectors of namespaces.
    #[must_use]
    pub fn namespace_labels(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(name)
    }

    /// On how many nodes an image is.
    #[must_use]
    pub fn image_spread(&self, image: &str) -> usize {
        self.image_nodes.get(image).copied().unwrap_or_default()
    }
}

/// The snapshot and where every Pod in it stands.
#[derive(Debug, Default)]
pub struct Cache {
    snapshot: Snapshot,
    /// Node of each Pod, by UID.
    placed: HashMap<String, String>,
    /// UIDs placed by a decision that the API server has not confirmed yet.
    assumed: HashSet<String>,
}

impl Cache {
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    #[must_use]
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.assumed.contains(uid)
    }

    /// A node was added or changed; returns what about it.
    pub fn set_node(&mut self, node: &Node) -> Vec<ClusterEvent> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let entry = self.snapshot.nodes.entry(name).or_default();
        for image in entry.image_sizes.keys() {
            if let Some(count) = self.snapshot.image_nodes.get_mut(image) {
                *count = count.saturating_sub(1);
            }
        }
        let events = entry.set_node(node);
        for image in entry.image_sizes.keys() {
            *self.snapshot.image_nodes.entry(image.clone()).or_default() += 1;
        }
        self.snapshot.image_nodes.retain(|_, count| *count > 0);
        events
    }

    /// A node went away; its Pods stay counted until they go themselves.
    pub fn remove_node(&mut self, name: &str) {
        let Some(entry) = self.snapshot.nodes.get_mut(name) else {
            return;
        };
        for image in entry.image_sizes.keys() {
            if let Some(count) = self.snapshot.image_nodes.get_mut(image) {
                *count = count.saturating_sub(1);
            }
        }
        entry.clear_node();
        if entry.pods().is_empty() {
            self.snapshot.nodes.remove(name);
        }
    }

    /// Nodes that exist with none of these UIDs.
    #[must_use]
    pub fn nodes_not_in(&self, uids: &HashSet<String>) -> Vec<String> {
        self.snapshot.nodes().filter(|n| !uids.contains(n.uid())).map(|n| n.name().to_owned()).collect()
    }

    /// Counts a Pod on a node before the API server knows, so that the next decision sees it.
    pub fn assume(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.place(pod, node);
        self.assumed.insert(pod.uid.clone());
    }

    /// Takes an assumed Pod back. Does nothing once the API server confirmed it.
    pub fn forget(&mut self, uid: &str) {
        if self.assumed.remove(uid) {
            self.displace(uid);
        }
    }

    /// A Pod with a node, as the API server has it; returns whether it is new on that node.
    pub fn set_pod(&mut self, pod: &Arc<PodInfo>) -> bool {
        let node = pod.node_name().to_owned();
        let known = self.placed.get(&pod.uid) == Some(&node);
        self.assumed.remove(&pod.uid);
        self.place(pod, &node);
        !known
    }

    /// A Pod went away; returns whether it had a node.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        self.assumed.remove(uid);
        self.displace(uid)
    }

    /// UIDs of every Pod with a node that the API server knows.
    #[must_use]
    pub fn confirmed_pods(&self) -> Vec<String> {
        self.placed.keys().filter(|uid| !self.assumed.contains(*uid)).cloned().collect()
    }

    pub fn set_namespace(&mut self, name: &str, labels: BTreeMap<String, String>) -> bool {
        let before = self.snapshot.namespaces.insert(name.to_owned(), labels);
        before.as_ref() != self.snapshot.namespaces.get(name)
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.snapshot.namespaces.remove(name);
    }

    fn place(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.displace(&pod.uid);
        self.snapshot.nodes.entry(node.to_owned()).or_default().add_pod(Arc::clone(pod));
        self.placed.insert(pod.uid.clone(), node.to_owned());
    }

    fn displace(&mut self, uid: &str) -> bool {
        let Some(node) = self.placed.remove(uid) else {
            return false;
        };
        if let Some(entry) = self.snapshot.nodes.get_mut(&node) {
            entry.remove_pod(uid);
            if entry.pods().is_empty() && !entry.exists() {
                self.snapshot.nodes.remove(&node);
            }
        }
        true
    }
}
