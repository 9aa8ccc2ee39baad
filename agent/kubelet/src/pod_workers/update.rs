//! Which new versions of a pod a worker has to act on. Pure.
//!
//! Most versions are only the echo of a status that this agent wrote: a pass for each of them would do
//! nothing but count a back-off's event again.

use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::pod::PodExt;

/// Whether `new` asks for something that `old` did not.
#[must_use]
pub(super) fn wakes(old: &Pod, new: &Pod) -> bool {
    if new.metadata.deletion_timestamp.is_some() || old.is_terminal_phase() != new.is_terminal_phase() {
        return true;
    }
    let (before, after) = (&old.metadata, &new.metadata);
    old.spec != new.spec
        || before.generation != after.generation
        || before.labels != after.labels
        || before.annotations != after.annotations
        || gates(old) != gates(new)
}

/// The conditions that others set and readiness depends on.
fn gates(pod: &Pod) -> Vec<(&str, &str)> {
    let wanted = pod.spec.iter().filter_map(|s| s.readiness_gates.as_ref()).flatten();
    let conditions: Vec<&PodCondition> = pod.status.iter().filter_map(|s| s.conditions.as_ref()).flatten().collect();
    wanted
        .filter_map(|gate| conditions.iter().find(|c| c.type_ == gate.condition_type))
        .map(|c| (c.type_.as_str(), c.status.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn only_what_asks_for_something_wakes() {
        let pod = || {
            json!({
                "metadata": {"name": "p", "uid": "u", "resourceVersion": "1", "generation": 1, "labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}], "readinessGates": [{"conditionType": "g"}]},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]},
            })
        };
        let check = |expect: bool, path: &str, value: Value| {
            let mut changed = pod();
            *changed.pointer_mut(path).unwrap() = value;
            let old: Pod = serde_json::from_value(pod()).unwrap();
            let new: Pod = serde_json::from_value(changed).unwrap();
            assert_eq!(wakes(&old, &new), expect, "{path}");
        };
        check(false, "/metadata/resourceVersion", json!("2"));
        check(false, "/status/conditions/0/status", json!("True"));
        check(true, "/status/conditions/0", json!({"type": "g", "status": "True"}));
        check(true, "/status/phase", json!("Failed"));
        check(true, "/spec/containers/0/image", json!("j"));
        check(true, "/metadata/labels/a", json!("c"));
        check(true, "/metadata/generation", json!(2));
        check(true, "/metadata", json!({"name": "p", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
    }
}
