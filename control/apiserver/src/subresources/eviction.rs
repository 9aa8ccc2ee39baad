//! `pods/eviction`: a delete that asks the PodDisruptionBudgets first.

use orlop_api::registry::Subresource;
use orlop_api::selector::selector_from_object;
use orlop_api::status::{Status, StatusCause};
use serde_json::{Value, json};

use super::admit;
use crate::call::Call;
use crate::meta;
use crate::storage::Written;
use crate::verbs::delete::{DeleteOptions, delete_object};
use crate::wire::{Body, Response, respond};

const TRIES: usize = 10;
/// Upstream's bound on pods that a budget remembers as evicted.
const MAX_DISRUPTED_PODS: usize = 2000;

pub(super) async fn serve(call: &Call, subresource: &Subresource, body: Body) -> Result<Response, Status> {
    let options = call.write_options()?;
    let mut warnings = Vec::new();
    let mut eviction = call.decode_subresource(subresource, body, &options, &mut warnings).await?;
    let name = &call.info.name;
    let wanted = meta::name(&eviction);
    if !wanted.is_empty() && wanted != name {
        return Err(Status::bad_request(format!(
            "name in URL does not match name in Eviction object: {name} != {wanted}"
        )));
    }
    warnings.append(&mut admit(call, &mut eviction, options.dry_run).await?);
    let mut delete = DeleteOptions::from_parts(&eviction["deleteOptions"], &call.query)?;
    delete.dry_run |= options.dry_run;

    let pod = call.storage()?.get(&call.key()).await?.ok_or_else(|| Status::not_found(call.row, name))?;
    let pod = pod.value();
    if needs_budget(&pod) {
        take_from_budget(call, &pod, delete.dry_run).await?;
    }
    delete_object(call, &call.key(), name, &delete).await?;
    let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let mut response = respond::value(201, call.accepted, &done);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// Pods that serve nobody may always go.
fn needs_budget(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    !meta::is_deleting(pod) && !matches!(phase, "Pending" | "Succeeded" | "Failed")
}

fn is_ready(pod: &Value) -> bool {
    pod.pointer("/status/conditions")
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = budget.pointer("/spec/selector");
    selector_from_object(selector).is_ok_and(|s| s.matches(pod))
}

async fn take_from_budget(call: &Call, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let budgets = call.app.reader.list("policy", "poddisruptionbudgets", call.namespace());
    let covering: Vec<_> = budgets.into_iter().filter(|b| covers(b, pod)).collect();
    let budget = match covering.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let storage = call.app.storages.find("policy", "poddisruptionbudgets").ok_or_else(Status::path_not_found)?;
    let key = crate::storage::object_key(call.namespace(), meta::name(budget));
    for _ in 0..TRIES {
        let Some(current) = storage.get(&key).await? else { return Ok(()) };
        let mut budget = current.value().as_ref().clone();
        if !is_ready(pod) && may_go_unready(&budget) {
            return Ok(());
        }
        take_one(&mut budget, pod, &meta::time(call.app.now()))?;
        if dry_run {
            return Ok(());
        }
        if let Written::Done(_) = storage.update(&current, &budget).await? {
            return Ok(());
        }
    }
    Err(too_many(meta::name(budget), "The budget changed while it was asked.", 10))
}

fn number(budget: &Value, field: &str) -> i64 {
    budget.pointer(&format!("/status/{field}")).and_then(Value::as_i64).unwrap_or(0)
}

/// `unhealthyPodEvictionPolicy`: a pod that isn't ready doesn't count for the budget.
fn may_go_unready(budget: &Value) -> bool {
    match budget.pointer("/spec/unhealthyPodEvictionPolicy").and_then(Value::as_str) {
        Some("AlwaysAllow") => true,
        _ => {
            number(budget, "currentHealthy") >= number(budget, "desiredHealthy") && number(budget, "desiredHealthy") > 0
        }
    }
}

fn take_one(budget: &mut Value, pod: &Value, now: &str) -> Result<(), Status> {
    let name = meta::name(budget).to_owned();
    if number(budget, "observedGeneration") < meta::generation(budget) {
        return Err(too_many(
            &name,
            &format!("The disruption budget {name} is still being processed by the server."),
            10,
        ));
    }
    let allowed = number(budget, "disruptionsAllowed");
    if allowed <= 0 {
        let message = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number(budget, "desiredHealthy"),
            number(budget, "currentHealthy"),
        );
        return Err(too_many(&name, &message, 0));
    }
    let status = meta::child_mut(budget, "status");
    status.insert("disruptionsAllowed".into(), json!(allowed - 1));
    let disrupted = status.entry("disruptedPods").or_insert_with(|| json!({}));
    if let Some(map) = disrupted.as_object_mut() {
        if map.len() >= MAX_DISRUPTED_PODS {
            return Err(too_many(
                &name,
                "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
                0,
            ));
        }
        map.insert(meta::name(pod).to_owned(), json!(now));
    }
    Ok(())
}

fn too_many(budget: &str, why: &str, retry_after_s: i32) -> Status {
    tracing::debug!(budget, why, "eviction refused");
    Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", retry_after_s)
        .with_cause(StatusCause { reason: "DisruptionBudget".into(), message: why.to_owned(), field: String::new() })
}
