//! Handlers that answer at once: health, pods, configuration, statistics.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::ServerState;
use super::route::{Answer, query_flag, with_type};

const JSON: &str = "application/json";
/// Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn healthz(state: &Arc<ServerState>) -> Answer {
    match state.pods.healthy() {
        Ok(()) => Ok(with_type(StatusCode::OK, "text/plain; charset=utf-8", "ok".into())),
        Err(message) => {
            Err((StatusCode::INTERNAL_SERVER_ERROR, format!("[-]syncloop failed: {message}\nhealthz check failed")))
        }
    }
}

pub(super) fn pods(state: &Arc<ServerState>) -> Answer {
    let items: Vec<Value> = state.pods.pods().iter().map(|pod| item(pod)).collect();
    json_answer(&list(&items))
}

/// Pods that have a container running now, with what identifies them and their containers.
pub(super) fn running_pods(state: &Arc<ServerState>) -> Answer {
    let running = |pod: &k8s_openapi::api::core::v1::Pod| -> Option<Value> {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let containers: Vec<Value> = statuses
            .iter()
            .filter(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()))
            .map(|s| json!({ "name": s.name, "image": s.image_id, "resources": {} }))
            .collect();
        let metadata =
            json!({ "name": pod.metadata.name, "namespace": pod.metadata.namespace, "uid": pod.metadata.uid });
        (!containers.is_empty())
            .then(|| json!({ "metadata": metadata, "spec": { "containers": containers }, "status": {} }))
    };
    let items: Vec<Value> = state.pods.pods().iter().filter_map(|pod| running(pod)).collect();
    json_answer(&list(&items))
}

pub(super) fn configz(state: &Arc<ServerState>) -> Answer {
    json_answer(&json!({ "kubeletconfig": state.configz }))
}

pub(super) fn metrics(state: &Arc<ServerState>) -> Answer {
    Ok(with_type(StatusCode::OK, PROMETHEUS, state.pods.metrics().into()))
}

pub(super) async fn resource_metrics(state: &Arc<ServerState>) -> Answer {
    let text = state.stats.resource_metrics(state.pods.pods()).await;
    Ok(with_type(StatusCode::OK, PROMETHEUS, text.into()))
}

pub(super) async fn cadvisor_metrics(state: &Arc<ServerState>) -> Answer {
    let text = state.stats.cadvisor_metrics(state.pods.pods()).await;
    Ok(with_type(StatusCode::OK, PROMETHEUS, text.into()))
}

pub(super) async fn summary(state: &Arc<ServerState>, query: &str) -> Answer {
    let only_cpu_and_memory = query_flag(query, "only_cpu_and_memory");
    json_answer(&state.stats.summary(state.pods.pods(), only_cpu_and_memory).await)
}

fn item(pod: &k8s_openapi::api::core::v1::Pod) -> Value {
    // Items of a list carry no kind of their own.
    let mut value = serde_json::to_value(pod).unwrap_or(Value::Null);
    if let Some(object) = value.as_object_mut() {
        object.shift_remove("apiVersion");
        object.shift_remove("kind");
    }
    value
}

fn list(items: &[Value]) -> Value {
    json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items })
}

fn json_answer(value: &Value) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => Ok(with_type(StatusCode::OK, JSON, bytes.into())),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
