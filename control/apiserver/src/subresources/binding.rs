//! `pods/binding`: the scheduler's decision. Written once, never changed.

use orlop_api::field::FieldError;
use orlop_api::registry::{self, Subresource};
use orlop_api::status::Status;
use serde_json::{Value, json};

use super::{admit, modify};
use crate::call::Call;
use crate::meta;
use crate::wire::{Body, Response, respond};

pub(super) async fn serve(call: &Call, subresource: &Subresource, body: Body) -> Result<Response, Status> {
    let options = call.write_options()?;
    let mut warnings = Vec::new();
    let mut binding = call.decode_subresource(subresource, body, &options, &mut warnings).await?;
    warnings.append(&mut admit(call, &mut binding, options.dry_run).await?);
    let mut response = bind(call, &call.info.name, &binding, options.dry_run).await?;
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// The old way: `POST bindings` names the pod in its metadata.
pub(super) async fn legacy(call: &Call, binding: &Value, dry_run: bool) -> Result<Response, Status> {
    let pods = registry::find("", "v1", "pods").ok_or_else(Status::path_not_found)?;
    let mut info = call.info.clone();
    info.resource = "pods".to_owned();
    info.subresource = "binding".to_owned();
    meta::name(binding).clone_into(&mut info.name);
    let on_pod = Call {
        app: call.app.clone(),
        info,
        row: pods,
        user: call.user.clone(),
        query: call.query.clone(),
        accepted: call.accepted,
        headers: call.headers.clone(),
    };
    let mut binding = binding.clone();
    admit(&on_pod, &mut binding, dry_run).await?;
    bind(&on_pod, meta::name(&binding), &binding, dry_run).await
}

async fn bind(call: &Call, name: &str, binding: &Value, dry_run: bool) -> Result<Response, Status> {
    let target = binding.get("target").cloned().unwrap_or_default();
    let node = target["name"].as_str().unwrap_or_default().to_owned();
    let kind = target["kind"].as_str().unwrap_or_default();
    let mut problems = Vec::new();
    if !matches!(kind, "" | "Node" | "Minion") {
        problems.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        problems.push(FieldError::required("target.name", ""));
    }
    if !problems.is_empty() {
        return Err(Status::invalid("Binding", "", name, &problems));
    }
    let uid = meta::uid(binding).to_owned();
    let now = meta::time(call.app.now());
    modify(call, name, dry_run, |pod| {
        check(call, name, pod, &uid, &node)?;
        if let Some(annotations) = binding.pointer("/metadata/annotations").and_then(Value::as_object) {
            let slot = meta::metadata_mut(pod).entry("annotations").or_insert_with(|| json!({}));
            if let Some(map) = slot.as_object_mut() {
                map.extend(annotations.clone());
            }
        }
        meta::child_mut(pod, "spec").insert("nodeName".into(), json!(node));
        set_scheduled(pod, &now);
        Ok(())
    })
    .await?;
    let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(respond::value(201, call.accepted, &done))
}

fn check(call: &Call, name: &str, pod: &Value, uid: &str, node: &str) -> Result<(), Status> {
    let conflict = |why: String| Err(Status::conflict_because(call.row, name, why));
    if !uid.is_empty() && uid != meta::uid(pod) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(pod)
        ));
    }
    if meta::is_deleting(pod) {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    match pod.pointer("/spec/nodeName").and_then(Value::as_str) {
        None | Some("") => {}
        Some(assigned) => return conflict(format!("pod {name} is already assigned to node {assigned:?}")),
    }
    let gated = pod.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|g| !g.is_empty());
    if gated {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates, cannot be assigned to {node}"));
    }
    Ok(())
}

fn set_scheduled(pod: &mut Value, now: &str) {
    let status = meta::child_mut(pod, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(list) = conditions.as_array_mut() else { return };
    list.retain(|c| c["type"] != "PodScheduled");
    list.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now
    }));
}
