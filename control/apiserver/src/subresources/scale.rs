//! `scale`: one number of Deployments, ReplicaSets, StatefulSets and ReplicationControllers, as `autoscaling/v1` Scale.

use orlop_api::field::FieldError;
use orlop_api::patch::{self, PatchType};
use orlop_api::registry::Subresource;
use orlop_api::selector::selector_from_object;
use orlop_api::status::Status;
use serde_json::{Value, json};

use super::{admit, modify};
use crate::call::Call;
use crate::meta;
use crate::wire::{Body, Response, body, respond};

pub(super) async fn serve(call: &Call, subresource: &Subresource, request_body: Body) -> Result<Response, Status> {
    let name = &call.info.name;
    let current = || async { call.storage()?.get(&call.key()).await?.ok_or_else(|| Status::not_found(call.row, name)) };
    if call.info.verb == "get" {
        return Ok(answer(call, &current().await?.value()));
    }
    let options = call.write_options()?;
    let mut warnings = Vec::new();
    let mut wanted = if call.info.verb == "patch" {
        let patch_type = PatchType::of_content_type(&body::media_type(&call.headers))
            .filter(|t| *t != PatchType::Apply)
            .ok_or_else(|| Status::unsupported_media_type(&PatchType::ACCEPTED[..3]))?;
        let bytes = call.read_body(request_body).await?;
        let scale = scale_of(&current().await?.value());
        let decoded = patch::apply(patch_type, &scale, &bytes, subresource, options.field_validation)?;
        warnings.extend(decoded.warnings);
        decoded.object
    } else {
        call.decode_subresource(subresource, request_body, &options, &mut warnings).await?
    };
    warnings.append(&mut admit(call, &mut wanted, options.dry_run).await?);
    let replicas = replicas(&wanted, name)?;
    let version = meta::text(&wanted, "resourceVersion").to_owned();
    // A patch is made from what was just read: only a version that the client wrote itself binds it.
    let binding = call.info.verb == "update" && !version.is_empty();
    let updated = modify(call, name, options.dry_run, |object| {
        if binding && meta::text(object, "resourceVersion") != version {
            return Err(Status::conflict(call.row, name));
        }
        meta::child_mut(object, "spec").insert("replicas".into(), json!(replicas));
        Ok(())
    })
    .await?;
    let mut response = answer(call, &updated.value());
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// The scale of an object, as the client asked for it.
fn answer(call: &Call, object: &Value) -> Response {
    respond::value(200, call.accepted, &call.transform().made(("autoscaling", "Scale"), &scale_of(object)))
}

fn replicas(scale: &Value, name: &str) -> Result<i64, Status> {
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    if replicas < 0 {
        let problem = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("Scale", "autoscaling", name, &[problem]));
    }
    Ok(replicas)
}

fn scale_of(object: &Value) -> Value {
    let mut metadata = serde_json::Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let wanted = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    let there = object.pointer("/status/replicas").and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": there});
    if let Some(selector) = selector_text(object) {
        status["selector"] = json!(selector);
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": wanted},
        "status": status,
    })
}

fn selector_text(object: &Value) -> Option<String> {
    let selector = object.pointer("/spec/selector")?;
    if object["kind"] == "ReplicationController" {
        let labels = orlop_api::selector::LabelSelector::from_map(selector.as_object()?);
        return Some(labels.to_string());
    }
    selector_from_object(Some(selector)).ok().map(|s| s.to_string())
}
