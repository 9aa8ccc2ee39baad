//! One decision: which node suits a Pod, or why none does. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::cache::{NodeInfo, PodInfo, Snapshot};
use crate::framework::{CycleState, Framework, NodeRejections, Nomination, PreFilterResult, Rejection};

/// Below this number of nodes all are scored.
const MIN_FEASIBLE_NODES: usize = 100;
const MIN_FEASIBLE_PERCENTAGE: usize = 5;

/// What a decision may depend on besides Pod and snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// Node to start the search at, so that large clusters are searched in turn.
    pub start: usize,
    /// Picks among nodes with the same score.
    pub tie_break: u64,
    /// 0 adapts to the size of the cluster.
    pub percentage_of_nodes_to_score: u8,
}

/// The chosen node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub node: String,
    pub feasible_nodes: usize,
    /// Nodes that were looked at, for the next search's start.
    pub evaluated_nodes: usize,
    /// Weighted score of each feasible node, by plugin.
    pub scores: BTreeMap<String, BTreeMap<&'static str, i64>>,
}

/// Why no node fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitError {
    pub num_all_nodes: usize,
    /// By node, unless a PreFilter refused the Pod as a whole.
    pub nodes: NodeRejections,
    pub pre_filter: Option<Rejection>,
    /// Nodes that a PreFilter left out, and its reason.
    pub left_out: Option<(usize, Rejection)>,
    /// What came of making room, in words.
    pub post_filter: String,
    pub nomination: Option<Nomination>,
}

impl FitError {
    /// The plugins whose refusal the Pod waits on.
    #[must_use]
    pub fn refused_by(&self) -> BTreeSet<&'static str> {
        let others = self.pre_filter.iter().chain(self.left_out.iter().map(|(_, r)| r));
        self.nodes.values().chain(others).map(|r| r.plugin).collect()
    }
}

impl fmt::Display for FitError {
    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s).`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.num_all_nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.num_all_nodes)?;
        match &self.pre_filter {
            Some(rejection) => write!(f, " {}.", rejection.reasons.join(", "))?,
            None => self.write_histogram(f)?,
        }
        if self.post_filter.is_empty() { Ok(()) } else { write!(f, " {}", self.post_filter) }
    }
}

impl FitError {
    fn write_histogram(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.nodes.values().flat_map(|r| &r.reasons) {
            *counts.entry(reason).or_default() += 1;
        }
        if let Some((nodes, rejection)) = &self.left_out {
            for reason in &rejection.reasons {
                *counts.entry(reason).or_default() += nodes;
            }
        }
        let mut parts: Vec<String> = counts.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        parts.sort_unstable();
        if parts.is_empty() { Ok(()) } else { write!(f, " {}.", parts.join(", ")) }
    }
}

impl std::error::Error for FitError {}

/// Decides.
///
/// # Errors
/// Why no node fits, node by node.
pub fn schedule(
    framework: &Framework,
    pod: &PodInfo,
    snapshot: &Snapshot,
    choice: Choice,
) -> Result<Decision, Box<FitError>> {
    let num_all_nodes = snapshot.num_nodes();
    let mut error = Box::new(FitError {
        num_all_nodes,
        nodes: NodeRejections::new(),
        pre_filter: None,
        left_out: None,
        post_filter: String::new(),
        nomination: None,
    });
    if num_all_nodes == 0 {
        return Err(error);
    }
    let mut state = CycleState::default();
    let only = match pre_filter(framework, &mut state, pod, snapshot) {
        Ok(only) => only,
        Err(rejection) => {
            error.pre_filter = Some(rejection);
            return Err(error);
        }
    };
    let candidates: Vec<&NodeInfo> =
        snapshot.nodes().filter(|n| only.as_ref().is_none_or(|(names, _)| names.contains(n.name()))).collect();
    if let Some((_, plugin)) = only {
        let left_out = num_all_nodes - candidates.len();
        if left_out > 0 {
            let reason = "node(s) didn't satisfy plugin(s) [".to_owned() + plugin + "]";
            error.left_out = Some((left_out, Rejection::unresolvable(plugin, reason)));
        }
    }
    let wanted = nodes_to_find(choice.percentage_of_nodes_to_score, num_all_nodes);
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    let mut evaluated = 0;
    for offset in 0..candidates.len() {
        let node = candidates[(choice.start + offset) % candidates.len()];
        evaluated += 1;
        match filter(framework, &state, pod, node) {
            Ok(()) => feasible.push(node),
            Err(rejection) => {
                error.nodes.insert(node.name().to_owned(), rejection);
            }
        }
        if feasible.len() >= wanted {
            break;
        }
    }
    match feasible.as_slice() {
        [] => {
            for plugin in &framework.post_filter {
                let result = plugin.post_filter(framework, pod, snapshot, &error.nodes);
                error.post_filter = result.message;
                error.nomination = result.nomination;
            }
            Err(error)
        }
        [only] => Ok(Decision {
            node: only.name().to_owned(),
            feasible_nodes: 1,
            evaluated_nodes: evaluated,
            scores: BTreeMap::new(),
        }),
        _ => {
            let scores = score(framework, &mut state, pod, snapshot, &feasible);
            Ok(Decision {
                node: best(&scores, choice.tie_break),
                feasible_nodes: feasible.len(),
                evaluated_nodes: evaluated,
                scores,
            })
        }
    }
}

type OnlyNodes = Option<(BTreeSet<String>, &'static str)>;

/// Runs every PreFilter; returns the nodes to look at where not all are.
fn pre_filter(
    framework: &Framework,
    state: &mut CycleState,
    pod: &PodInfo,
    snapshot: &Snapshot,
) -> Result<OnlyNodes, Rejection> {
    let mut only: OnlyNodes = None;
    for plugin in &framework.pre_filter {
        match plugin.pre_filter(state, pod, snapshot)? {
            PreFilterResult::All => {}
            PreFilterResult::Skip => {
                state.skip_filter.insert(plugin.name());
            }
            PreFilterResult::Nodes(names) => {
                only = Some(match only {
                    None => (names, plugin.name()),
                    Some((before, _)) => (before.intersection(&names).cloned().collect(), plugin.name()),
                });
            }
        }
    }
    Ok(only)
}

/// The first refusal of a node.
pub(crate) fn filter(
    framework: &Framework,
    state: &CycleState,
    pod: &PodInfo,
    node: &NodeInfo,
) -> Result<(), Rejection> {
    let plugins = framework.filter.iter().filter(|p| !state.skip_filter.contains(p.name()));
    plugins.into_iter().try_for_each(|p| p.filter(state, pod, node))
}

/// Whether a node would take the Pod in this snapshot.
pub(crate) fn fits(framework: &Framework, pod: &PodInfo, snapshot: &Snapshot, node: &NodeInfo) -> bool {
    let mut state = CycleState::default();
    pre_filter(framework, &mut state, pod, snapshot).is_ok() && filter(framework, &state, pod, node).is_ok()
}

/// `numFeasibleNodesToFind`.
fn nodes_to_find(percentage: u8, nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE_NODES {
        return nodes;
    }
    let percentage = match percentage {
        0 => 50_usize.saturating_sub(nodes / 125).max(MIN_FEASIBLE_PERCENTAGE),
        some => usize::from(some.min(100)),
    };
    (nodes * percentage / 100).max(MIN_FEASIBLE_NODES)
}

fn score(
    framework: &Framework,
    state: &mut CycleState,
    pod: &PodInfo,
    snapshot: &Snapshot,
    nodes: &[&NodeInfo],
) -> BTreeMap<String, BTreeMap<&'static str, i64>> {
    for plugin in &framework.pre_score {
        if !plugin.pre_score(state, pod, snapshot, nodes) {
            state.skip_score.insert(plugin.name());
        }
    }
    let mut all: BTreeMap<String, BTreeMap<&'static str, i64>> =
        nodes.iter().map(|n| (n.name().to_owned(), BTreeMap::new())).collect();
    for plugin in framework.score.iter().filter(|p| !state.skip_score.contains(p.name())) {
        let mut scores: Vec<i64> = nodes.iter().map(|n| plugin.score(state, pod, n, snapshot)).collect();
        plugin.normalize(state, nodes, &mut scores);
        for (node, score) in nodes.iter().zip(scores) {
            if let Some(entry) = all.get_mut(node.name()) {
                entry.insert(plugin.name(), score * plugin.weight());
            }
        }
    }
    all
}

/// A node with the highest sum.
fn best(scores: &BTreeMap<String, BTreeMap<&'static str, i64>>, tie_break: u64) -> String {
    let sums: Vec<(&String, i64)> = scores.iter().map(|(node, s)| (node, s.values().sum())).collect();
    let top = sums.iter().map(|(_, sum)| *sum).max().unwrap_or_default();
    let tied: Vec<&String> = sums.iter().filter(|(_, sum)| *sum == top).map(|(node, _)| *node).collect();
    let count = u64::try_from(tied.len()).unwrap_or(1).max(1);
    let index = usize::try_from(tie_break % count).unwrap_or_default();
    tied.get(index).map(|n| (*n).clone()).unwrap_or_default()
}
