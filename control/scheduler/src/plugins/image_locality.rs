//! ImageLocality: prefers nodes that have the Pod's images, more so for large ones.

use crate::cache::{NodeInfo, PodInfo, Snapshot};
use crate::framework::{CycleState, MAX_NODE_SCORE, Plugin, Score};

const MEBIBYTE: i64 = 1024 * 1024;
const MIN_THRESHOLD: i64 = 23 * MEBIBYTE;
const MAX_CONTAINER_THRESHOLD: i64 = 1000 * MEBIBYTE;

pub(super) struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }
}

/// The name with `:latest` where there is no tag, as nodes report it.
fn normalized(name: &str) -> String {
    let after = |c| name.rfind(c).map_or(-1, |at| i64::try_from(at).unwrap_or(i64::MAX));
    if after(':') <= after('/') { format!("{name}:latest") } else { name.to_owned() }
}

/// An image counts by the share of nodes that have it, so that not all Pods flock to the first one.
fn scaled(size: i64, nodes_with: usize, nodes: usize) -> i64 {
    let (with, all) = (nodes_with as i128, (nodes as i128).max(1));
    i64::try_from(i128::from(size) * with / all).unwrap_or(i64::MAX)
}

impl Score for ImageLocality {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) -> i64 {
        let Some(spec) = pod.spec() else {
            return 0;
        };
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let images: Vec<String> = containers.filter_map(|c| c.image.as_deref()).map(normalized).collect();
        let nodes = snapshot.num_nodes();
        let sum: i64 = images
            .iter()
            .filter_map(|image| Some(scaled(node.image_size(image)?, snapshot.image_spread(image), nodes)))
            .fold(0, i64::saturating_add);
        let max = MAX_CONTAINER_THRESHOLD * i64::try_from(images.len()).unwrap_or(1).max(1);
        MAX_NODE_SCORE * (sum.clamp(MIN_THRESHOLD, max) - MIN_THRESHOLD) / (max - MIN_THRESHOLD)
    }
}
