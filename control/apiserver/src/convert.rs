//! Kinds that are served in more than one version or group: what is stored, and what the client sees.
//!
//! Stored: `v1` events, `autoscaling/v2` autoscalers. The other views are `events.k8s.io/v1` and
//! `autoscaling/v1`, whose extra metrics upstream keeps in annotations.

use orlop_api::registry::ResourceInfo;
use serde_json::{Map, Value, json};

const V2_METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const V2_BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn retype(object: &mut Value, api_version: &str) {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), json!(api_version));
    }
}

fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.shift_remove(from) {
        map.insert(to.to_owned(), value);
    }
}

/// Client's version to stored version.
pub(crate) fn to_storage(row: &ResourceInfo, object: &Value) -> Value {
    let mut out = object.clone();
    match (row.group, row.version, row.kind) {
        ("events.k8s.io", "v1", "Event") => {
            retype(&mut out, "v1");
            rename_event(&mut out, false);
        }
        ("autoscaling", "v1", "HorizontalPodAutoscaler") => {
            retype(&mut out, "autoscaling/v2");
            hpa_to_v2(&mut out);
        }
        _ => {}
    }
    out
}

/// Stored version to client's version.
pub(crate) fn from_storage(row: &ResourceInfo, object: &Value) -> Value {
    let mut out = object.clone();
    match (row.group, row.version, row.kind) {
        ("events.k8s.io", "v1", "Event") => {
            retype(&mut out, "events.k8s.io/v1");
            rename_event(&mut out, true);
        }
        ("autoscaling", "v1", "HorizontalPodAutoscaler") => {
            retype(&mut out, "autoscaling/v1");
            hpa_to_v1(&mut out);
        }
        _ => {}
    }
    out
}

/// (core name, events.k8s.io name)
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn rename_event(object: &mut Value, to_events_group: bool) {
    let Some(map) = object.as_object_mut() else { return };
    for (core, events) in EVENT_FIELDS {
        if to_events_group {
            rename(map, core, events);
        } else {
            rename(map, events, core);
        }
    }
}

fn is_cpu_utilization(metric: &Value) -> bool {
    metric.get("type").and_then(Value::as_str) == Some("Resource")
        && metric.pointer("/resource/name").and_then(Value::as_str) == Some("cpu")
        && metric.pointer("/resource/target/averageUtilization").is_some()
}

fn hpa_to_v2(object: &mut Value) {
    let mut extra: Vec<Value> = Vec::new();
    let mut behavior = None;
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        let mut parsed = |name: &str| {
            annotations.shift_remove(name).and_then(|v| v.as_str().and_then(|t| serde_json::from_str::<Value>(t).ok()))
        };
        extra = parsed(V2_METRICS).and_then(|v| v.as_array().cloned()).unwrap_or_default();
        behavior = parsed(V2_BEHAVIOR);
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        if let Some(percent) = spec.shift_remove("targetCPUUtilizationPercentage") {
            extra.insert(
                0,
                json!({"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": percent}}}),
            );
        }
        if !extra.is_empty() {
            spec.insert("metrics".into(), Value::Array(extra));
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut)
        && let Some(percent) = status.shift_remove("currentCPUUtilizationPercentage")
    {
        status.insert(
            "currentMetrics".into(),
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}}]),
        );
    }
}

fn hpa_to_v1(object: &mut Value) {
    let mut annotations = Map::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let metrics = spec.shift_remove("metrics").and_then(|m| m.as_array().cloned()).unwrap_or_default();
        let (cpu, others): (Vec<Value>, Vec<Value>) = metrics.into_iter().partition(is_cpu_utilization);
        if let Some(percent) = cpu.first().and_then(|m| m.pointer("/resource/target/averageUtilization")) {
            spec.insert("targetCPUUtilizationPercentage".into(), percent.clone());
        }
        if !others.is_empty() {
            annotations.insert(V2_METRICS.into(), json!(Value::Array(others).to_string()));
        }
        if let Some(behavior) = spec.shift_remove("behavior") {
            annotations.insert(V2_BEHAVIOR.into(), json!(behavior.to_string()));
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.shift_remove("conditions");
        let metrics = status.shift_remove("currentMetrics").and_then(|m| m.as_array().cloned()).unwrap_or_default();
        let percent = metrics.iter().find_map(|m| m.pointer("/resource/current/averageUtilization").cloned());
        if let Some(percent) = percent {
            status.insert("currentCPUUtilizationPercentage".into(), percent);
        }
    }
    if !annotations.is_empty() {
        let metadata = crate::meta::metadata_mut(object);
        let slot = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(map) = slot.as_object_mut() {
            map.extend(annotations);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orlop_api::registry::find;

    #[test]
    fn autoscalers_go_there_and_back() {
        let v1 = find("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        let object = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "x"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        let stored = to_storage(v1, &object);
        assert_eq!(stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
        assert_eq!(from_storage(v1, &stored), object);
    }

    #[test]
    fn events_go_there_and_back() {
        let row = find("events.k8s.io", "v1", "events").unwrap();
        let object = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "x"},
            "regarding": {"kind": "Pod"}, "note": "hello"});
        let stored = to_storage(row, &object);
        assert_eq!(stored["involvedObject"]["kind"], "Pod");
        assert_eq!(from_storage(row, &stored), object);
    }
}
