//! Matching nodes against node selectors.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::cache::NodeInfo;

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |v: &str| values.iter().any(|x| x == v);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" | "Lt" => {
            let left = value.and_then(|v| v.parse::<i64>().ok());
            let right = values.first().and_then(|v| v.parse::<i64>().ok());
            match (left, right) {
                (Some(l), Some(r)) if requirement.operator == "Gt" => l > r,
                (Some(l), Some(r)) => l < r,
                _ => false,
            }
        }
        _ => false,
    }
}

/// Whether a term means the node; a term without requirements means none.
pub(super) fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|r| requirement_matches(r, node.label(&r.key)))
        && fields.iter().all(|r| r.key == "metadata.name" && requirement_matches(r, Some(node.name())))
}

/// The required part of a Pod's node affinity.
pub(super) fn required(spec: &PodSpec) -> Option<&NodeSelector> {
    let node = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    node.required_during_scheduling_ignored_during_execution.as_ref()
}

/// Whether `nodeSelector` and required node affinity allow the node.
pub(super) fn pod_allows_node(spec: Option<&PodSpec>, node: &NodeInfo) -> bool {
    let Some(spec) = spec else {
        return true;
    };
    let by_labels = spec.node_selector.iter().flatten().all(|(key, value)| node.label(key) == Some(value.as_str()));
    by_labels && required(spec).is_none_or(|s| s.node_selector_terms.iter().any(|t| term_matches(t, node)))
}
