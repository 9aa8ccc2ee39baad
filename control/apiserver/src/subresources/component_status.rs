//! `componentstatuses`: the parts of the control plane that this server can ask itself. Scheduler and controllers are
//! clients that it knows nothing about, so the store is the only one.

use orlop_api::status::Status;
use serde_json::{Value, json};

use crate::call::Call;
use crate::health;
use crate::wire::{Response, respond};

/// The name that upstream gives the first etcd server.
const STORE: &str = "etcd-0";

pub(super) async fn serve(call: &Call) -> Result<Response, Status> {
    let healthy = health::store_answers(&call.app).await;
    let value = match call.info.name.as_str() {
        "" => json!({
            "kind": "ComponentStatusList",
            "apiVersion": "v1",
            "metadata": {},
            "items": [component(healthy)],
        }),
        STORE => component(healthy),
        other => return Err(Status::not_found(call.row, other)),
    };
    let kind = (call.row.group, call.row.kind);
    Ok(respond::value(200, call.accepted, &call.transform().made(kind, &value)))
}

fn component(healthy: bool) -> Value {
    let condition = if healthy {
        json!({"type": "Healthy", "status": "True", "message": "ok"})
    } else {
        json!({"type": "Healthy", "status": "False", "error": "the store does not answer"})
    };
    json!({
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": STORE},
        "conditions": [condition],
    })
}
