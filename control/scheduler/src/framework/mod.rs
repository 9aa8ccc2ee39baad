//! The scheduling framework: extension points as traits, with upstream's names and order.
//!
//! ```text
//! PreEnqueue ─► QueueSort ─► PreFilter ─► Filter ─(none fits)─► PostFilter
//!                                           └► PreScore ─► Score ─► Reserve ─► Bind
//! ```

mod state;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use crate::cache::{NodeInfo, PodInfo, Snapshot};
use crate::queue::QueuedPod;

pub use state::CycleState;

/// Highest score of a node by one plugin, before its weight.
pub const MAX_NODE_SCORE: i64 = 100;

/// Why a node, or the Pod as a whole, was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub plugin: &'static str,
    /// Upstream's words; each counts once per node in the message to the user.
    pub reasons: Vec<String>,
    /// Whether removing Pods from the node could help (upstream `Unschedulable` against
    /// `UnschedulableAndUnresolvable`).
    pub resolvable: bool,
}

impl Rejection {
    /// A refusal that removing other Pods could lift.
    #[must_use]
    pub fn unschedulable(plugin: &'static str, reason: impl Into<String>) -> Self {
        Self { plugin, reasons: vec![reason.into()], resolvable: true }
    }

    /// A refusal that lies in the node itself.
    #[must_use]
    pub fn unresolvable(plugin: &'static str, reason: impl Into<String>) -> Self {
        Self { resolvable: false, ..Self::unschedulable(plugin, reason) }
    }
}

/// What changed in the cluster; waiting Pods are tried again by what refused them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClusterEvent {
    NodeAdd,
    NodeAllocatable,
    NodeLabels,
    NodeTaints,
    /// Anything else of a node that plugins look at (its images, say).
    NodeOther,
    NodeDelete,
    /// A Pod got a node.
    AssignedPodAdd,
    AssignedPodUpdate,
    AssignedPodDelete,
    NamespaceLabels,
}

/// A plugin: a name, and what could change its mind.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// Queueing hint: whether `event` may make a Pod schedulable that this plugin refused.
    fn may_help(&self, event: ClusterEvent) -> bool {
        let _ = event;
        false
    }
}

/// Keeps Pods out of the queue until they are ready for it.
pub trait PreEnqueue: Plugin {
    /// # Errors
    /// Why the Pod has to wait.
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection>;
}

/// The order of the active queue.
pub trait QueueSort: Plugin {
    fn compare(&self, a: &QueuedPod, b: &QueuedPod) -> Ordering;
}

/// What a PreFilter found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreFilterResult {
    /// Every node is to be filtered.
    All,
    /// Only these nodes can fit at all.
    Nodes(BTreeSet<String>),
    /// The plugin has nothing to say on this Pod: its Filter is left out.
    Skip,
}

/// Looks at the Pod once, before any node.
pub trait PreFilter: Plugin {
    /// # Errors
    /// Why no node can fit.
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection>;
}

/// Says whether a node fits.
pub trait Filter: Plugin {
    /// # Errors
    /// Why it does not.
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection>;
}

/// Nodes that refused a Pod, each with the first plugin's refusal.
pub type NodeRejections = std::collections::BTreeMap<String, Rejection>;

/// What a PostFilter proposes when no node fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nomination {
    pub node: String,
    /// Pods to remove from it, lowest priority first.
    pub victims: Vec<Arc<PodInfo>>,
}

/// A proposal, or in words why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostFilterResult {
    pub nomination: Option<Nomination>,
    pub message: String,
}

/// Makes room where no node fits.
pub trait PostFilter: Plugin {
    fn post_filter(
        &self,
        framework: &Framework,
        pod: &PodInfo,
        snapshot: &Snapshot,
        rejections: &NodeRejections,
    ) -> PostFilterResult;
}

/// Looks at the feasible nodes once, before scoring.
pub trait PreScore: Plugin {
    /// Returns false when the plugin has nothing to say: its Score is left out.
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot, nodes: &[&NodeInfo]) -> bool;
}

/// Ranks a node.
pub trait Score: Plugin {
    fn weight(&self) -> i64 {
        1
    }
    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) -> i64;
    /// Brings the raw scores of all feasible nodes to 0..=[`MAX_NODE_SCORE`].
    fn normalize(&self, state: &CycleState, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let _ = (state, nodes, scores);
    }
}

/// Notes what a chosen node is to provide, before the binding.
pub trait Reserve: Plugin {
    /// # Errors
    /// Why the node can't provide it after all.
    fn reserve(&self, pod: &PodInfo, node: &str) -> Result<(), Rejection>;
    /// Undoes [`Reserve::reserve`]; also called when that failed.
    fn unreserve(&self, pod: &PodInfo, node: &str);
}

/// Tells the API server.
#[async_trait]
pub trait Bind: Plugin {
    /// # Errors
    /// What the API server said.
    async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), kube::Error>;
}

/// `0` to the highest raw score becomes `0..=100`, reversed where low is good
/// (upstream `DefaultNormalizeScore`).
pub fn default_normalize(reverse: bool, scores: &mut [i64]) {
    let max = scores.iter().copied().max().unwrap_or_default();
    for score in scores.iter_mut() {
        let scaled = if max == 0 { 0 } else { *score * MAX_NODE_SCORE / max };
        *score = if reverse { MAX_NODE_SCORE - scaled } else { scaled };
    }
}

/// The plugins of a profile, by extension point.
#[derive(Default)]
pub struct Framework {
    pub pre_enqueue: Vec<Arc<dyn PreEnqueue>>,
    pub pre_filter: Vec<Arc<dyn PreFilter>>,
    pub filter: Vec<Arc<dyn Filter>>,
    pub post_filter: Vec<Arc<dyn PostFilter>>,
    pub pre_score: Vec<Arc<dyn PreScore>>,
    pub score: Vec<Arc<dyn Score>>,
    pub reserve: Vec<Arc<dyn Reserve>>,
}

impl Framework {
    /// Whether one of the plugins that refused a Pod could be changed by `event`.
    #[must_use]
    pub fn may_help(&self, event: ClusterEvent, refused_by: &BTreeSet<&'static str>) -> bool {
        let asks = |plugin: &dyn Plugin| refused_by.contains(plugin.name()) && plugin.may_help(event);
        // A failure that is no plugin's is tried again at any change.
        refused_by.is_empty()
            || self.pre_filter.iter().any(|p| asks(&**p))
            || self.filter.iter().any(|p| asks(&**p))
            || self.reserve.iter().any(|p| asks(&**p))
    }
}
