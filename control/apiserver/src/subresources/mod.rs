//! Subresources, and the resources that are only asked and never stored.

mod binding;
mod component_status;
mod eviction;
mod scale;

use std::sync::Arc;

use orlop_api::registry::Subresource;
use orlop_api::status::Status;
use serde_json::Value;

use crate::admission::{AdmissionRequest, Operation};
use crate::authn::{reviews as authn_reviews, token_request};
use crate::authz::reviews as authz_reviews;
use crate::call::Call;
use crate::meta;
use crate::storage::Written;
use crate::storage::object::Stored;
use crate::verbs::{self, update};
use crate::wire::{Body, Response, respond};

/// Attempts before the client has to retry itself.
const TRIES: usize = 20;

pub(crate) async fn serve(call: &Call, body: Body) -> Result<Response, Status> {
    if call.info.subresource.is_empty() {
        return unstored(call, body).await;
    }
    let subresource = call.row.subresource(&call.info.subresource).ok_or_else(Status::path_not_found)?;
    if !subresource.has_verb(&call.info.verb) {
        return Err(Status::method_not_allowed());
    }
    match (call.row.plural, subresource.name) {
        (_, "scale") => scale::serve(call, subresource, body).await,
        ("pods", "binding") => binding::serve(call, subresource, body).await,
        ("pods", "eviction") => eviction::serve(call, subresource, body).await,
        ("serviceaccounts", "token") => token(call, subresource, body).await,
        // Views of the object itself: the strategy knows which part counts.
        (_, "status" | "approval" | "finalize" | "ephemeralcontainers" | "resize") => view(call, body).await,
        _ => Err(Status::path_not_found()),
    }
}

async fn view(call: &Call, body: Body) -> Result<Response, Status> {
    match call.info.verb.as_str() {
        "get" => verbs::read::get(call).await,
        "update" => update::update(call, body).await,
        "patch" => verbs::patch::patch(call, body).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Reviews, bindings, component statuses.
async fn unstored(call: &Call, body: Body) -> Result<Response, Status> {
    if !call.row.has_verb(&call.info.verb) {
        return Err(Status::method_not_supported(call.row, &call.info.verb));
    }
    if call.row.plural == "componentstatuses" {
        return component_status::serve(call).await;
    }
    let options = call.write_options()?;
    let mut warnings = Vec::new();
    let bytes = call.read_body(body).await?;
    let object = call.decode(&bytes, &options, &mut warnings)?;
    let answer = match call.row.plural {
        "tokenreviews" => authn_reviews::token_review(&call.app.authenticator, &object)?,
        "selfsubjectreviews" => authn_reviews::self_subject_review(&call.user, &object)?,
        "subjectaccessreviews" => authz_reviews::subject_access_review(&call.app.authorizer, &object)?,
        "localsubjectaccessreviews" => {
            authz_reviews::local_subject_access_review(&call.app.authorizer, &call.info.namespace, &object)?
        }
        "selfsubjectaccessreviews" => {
            authz_reviews::self_subject_access_review(&call.app.authorizer, &call.user, &object)?
        }
        "selfsubjectrulesreviews" => {
            authz_reviews::self_subject_rules_review(&call.app.authorizer, &call.user, &object)?
        }
        "bindings" => return binding::legacy(call, &object, options.dry_run).await,
        _ => return Err(Status::path_not_found()),
    };
    let mut response = respond::value(201, call.accepted, &answer);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

async fn token(call: &Call, subresource: &Subresource, body: Body) -> Result<Response, Status> {
    let options = call.write_options()?;
    let mut warnings = Vec::new();
    let mut request = call.decode_subresource(subresource, body, &options, &mut warnings).await?;
    warnings.append(&mut admit(call, &mut request, options.dry_run).await?);
    let answer = token_request::token_request(
        &call.app.tokens,
        call.app.reader.as_ref(),
        &call.user,
        &call.info.namespace,
        &call.info.name,
        &request,
    )?;
    let mut response = respond::value(201, call.accepted, &answer);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// Asks admission about a subresource's own object.
async fn admit(call: &Call, object: &mut Value, dry_run: bool) -> Result<Vec<String>, Status> {
    let mut request = AdmissionRequest {
        operation: if call.info.verb == "create" { Operation::Create } else { Operation::Update },
        resource: call.row,
        subresource: &call.info.subresource,
        namespace: call.namespace(),
        name: &call.info.name,
        object: Some(object),
        old_object: None,
        user: call.user.clone(),
        dry_run,
        warnings: Vec::new(),
    };
    call.app.admission.mutate(&mut request).await?;
    call.app.admission.validate(&mut request).await?;
    Ok(request.warnings)
}

/// Changes a stored object; `change` decides on each version anew.
async fn modify(
    call: &Call,
    name: &str,
    dry_run: bool,
    change: impl Fn(&mut Value) -> Result<(), Status>,
) -> Result<Arc<Stored>, Status> {
    let storage = call.storage()?;
    let key = crate::storage::object_key(call.namespace(), name);
    let mut current = storage.get(&key).await?;
    for _ in 0..TRIES {
        let old = current.ok_or_else(|| Status::not_found(call.row, name))?;
        let old_value = old.value();
        let mut new = old_value.as_ref().clone();
        change(&mut new)?;
        crate::strategy::bump_generation(storage.row, &call.info.subresource, &mut new, &old_value);
        if dry_run {
            meta::set(&mut new, "resourceVersion", old.revision.to_string());
            let json = serde_json::to_vec(&new).unwrap_or_default();
            return Ok(Arc::new(Stored::new(old.key.clone(), old.revision, old.lease, json.into())));
        }
        match storage.update(&old, &new).await? {
            Written::Done(stored) => return Ok(stored),
            Written::Conflict(now) => current = now,
        }
    }
    Err(Status::conflict(call.row, name))
}
