//! What a Pod says to the scheduler: affinity, tolerations, spreading, gates.

use serde_json::Value;

use super::node::taint_effect;
use super::read::{Errors, child, int, items, set, text};
use super::{content, label_selector, push_messages};
use crate::field::{FieldError, Path};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(affinity: &Value, path: &Path, errs: &mut Errors) {
    if let Some(node) = set(affinity, "nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(required) = set(node, REQUIRED) {
            node_selector(required, &path.child(REQUIRED), errs);
        }
        for (i, preferred) in items(node, PREFERRED).iter().enumerate() {
            let path = path.child(PREFERRED).index(i);
            weight(preferred, &path, errs);
            node_term(child(preferred, "preference"), &path.child("preference"), errs);
        }
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let (pods, path) = (child(affinity, key), path.child(key));
        for (i, term) in items(pods, REQUIRED).iter().enumerate() {
            pod_term(term, &path.child(REQUIRED).index(i), errs);
        }
        for (i, preferred) in items(pods, PREFERRED).iter().enumerate() {
            let path = path.child(PREFERRED).index(i);
            weight(preferred, &path, errs);
            pod_term(child(preferred, "podAffinityTerm"), &path.child("podAffinityTerm"), errs);
        }
    }
}

fn weight(preferred: &Value, path: &Path, errs: &mut Errors) {
    let weight = int(preferred, "weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errs.push(FieldError::invalid(path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn node_selector(selector: &Value, path: &Path, errs: &mut Errors) {
    let path = path.child("nodeSelectorTerms");
    let terms = items(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        errs.push(FieldError::required(&path, "must have at least one node selector term"));
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(term, &path.index(i), errs);
    }
}

fn node_term(term: &Value, path: &Path, errs: &mut Errors) {
    for (i, requirement) in items(term, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let values = items(requirement, "values");
        let at = path.child("values");
        match text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errs.push(FieldError::required(at, "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errs.push(FieldError::forbidden(at, detail));
            }
            "Gt" | "Lt" if values.len() != 1 => {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errs.push(FieldError::required(at, detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errs.push(FieldError::invalid(path.child("operator"), other, "not a valid selector operator")),
        }
        let key = text(requirement, "key");
        push_messages(errs, &path.child("key"), key, content::label_key(key));
    }
    for (i, requirement) in items(term, "matchFields").iter().enumerate() {
        let path = path.child("matchFields").index(i);
        if !matches!(text(requirement, "operator"), "In" | "NotIn") {
            let detail = "not a valid selector operator";
            errs.push(FieldError::invalid(path.child("operator"), text(requirement, "operator"), detail));
        } else if items(requirement, "values").len() != 1 {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errs.push(FieldError::required(path.child("values"), detail));
        }
        if text(requirement, "key") != "metadata.name" {
            let detail = "not a valid field selector key";
            errs.push(FieldError::invalid(path.child("key"), text(requirement, "key"), detail));
        }
    }
}

fn pod_term(term: &Value, path: &Path, errs: &mut Errors) {
    label_selector(child(term, "labelSelector"), &path.child("labelSelector"), errs);
    label_selector(child(term, "namespaceSelector"), &path.child("namespaceSelector"), errs);
    for namespace in items(term, "namespaces").iter().filter_map(Value::as_str) {
        push_messages(errs, &path.child("namespace"), namespace, content::dns1123_label(namespace));
    }
    topology_key(term, path, errs);
}

fn topology_key(object: &Value, path: &Path, errs: &mut Errors) {
    let path = path.child("topologyKey");
    match text(object, "topologyKey") {
        "" => errs.push(FieldError::required(&path, "can not be empty")),
        key => push_messages(errs, &path, key, content::label_key(key)),
    }
}

pub(super) fn gates(spec: &Value, path: &Path, errs: &mut Errors) {
    for (i, gate) in items(spec, "readinessGates").iter().enumerate() {
        let kind = text(gate, "conditionType");
        let path = path.child("readinessGates").index(i).child("conditionType");
        push_messages(errs, &path, kind, content::label_key(kind));
    }
    let gates = items(spec, "schedulingGates");
    for (i, gate) in gates.iter().enumerate() {
        let name = text(gate, "name");
        let at = path.child("schedulingGates").index(i);
        push_messages(errs, &at, name, content::label_key(name));
        if gates[..i].iter().any(|g| text(g, "name") == name) {
            errs.push(FieldError::duplicate(&at, name));
        }
    }
}

pub(super) fn spread_constraints(spec: &Value, path: &Path, errs: &mut Errors) {
    let constraints = items(spec, "topologySpreadConstraints");
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.index(i);
        let skew = int(constraint, "maxSkew").unwrap_or_default();
        if skew <= 0 {
            errs.push(FieldError::invalid(path.child("maxSkew"), skew, "must be greater than zero"));
        }
        topology_key(constraint, &path, errs);
        let action = text(constraint, "whenUnsatisfiable");
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errs.push(FieldError::not_supported(path.child("whenUnsatisfiable"), action, &actions));
        }
        let same = |c: &Value| ["topologyKey", "whenUnsatisfiable"].iter().all(|k| text(c, k) == text(constraint, k));
        if constraints[..i].iter().any(same) {
            let pair = format!("{{{}, {action}}}", text(constraint, "topologyKey"));
            errs.push(FieldError::duplicate(path.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
        label_selector(child(constraint, "labelSelector"), &path.child("labelSelector"), errs);
    }
}

/// `ValidateTolerations`.
pub(super) fn tolerations(list: &[Value], path: &Path, errs: &mut Errors) {
    for (i, toleration) in list.iter().enumerate() {
        let path = path.index(i);
        let field = |key| text(toleration, key);
        let (key, operator, value, effect) = (field("key"), field("operator"), field("value"), field("effect"));
        if !key.is_empty() {
            push_messages(errs, &path.child("key"), key, content::label_key(key));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errs.push(FieldError::invalid(path.child("operator"), operator, detail));
        }
        if set(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errs.push(FieldError::invalid(path.child("effect"), effect, detail));
        }
        match operator {
            "" | "Equal" => {
                let messages = content::label_value(value);
                if !messages.is_empty() {
                    errs.push(FieldError::invalid(path.child("operator"), value, messages.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errs.push(FieldError::invalid(path.child("operator"), value, detail));
            }
            "Exists" => {}
            other => errs.push(FieldError::not_supported(path.child("operator"), other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            taint_effect(effect, &path.child("effect"), errs);
        }
    }
}
