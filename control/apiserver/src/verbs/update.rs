//! update, and what every changed object goes through.
//!
//! ```text
//! read ─► make the new version ─► admission, validation ─► write if unchanged since ─┐
//!   ▲                                                                              │
//!   └────────────────── somebody else wrote first, and the client doesn't mind ◄───┘
//! ```

use std::sync::Arc;

use orlop_api::registry::ResourceInfo;
use orlop_api::status::Status;
use serde_json::Value;

use super::WriteOutcome;
use super::create::{create_object, unsaved};
use crate::admission::{AdmissionRequest, Operation};
use crate::allocators::Allocation;
use crate::call::Call;
use crate::storage::object::Stored;
use crate::storage::{ResourceStorage, Written, encoding};
use crate::wire::query::WriteOptions;
use crate::wire::{Body, Response};
use crate::{convert, errors, meta, scheme, strategy};

/// Attempts before the client has to retry itself.
const TRIES: usize = 20;

pub(crate) async fn update(call: &Call, body: Body) -> Result<Response, Status> {
    let options = call.write_options()?;
    let mut warnings = Vec::new();
    let bytes = call.read_body(body).await?;
    let object = call.decode(&bytes, &options, &mut warnings)?;
    check_identity(call, &object)?;
    if meta::resource_version(&object) == 0 && strategy::requires_version(call.row) {
        let problem =
            orlop_api::field::FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
        return Err(errors::invalid(call.row, &call.info.name, &[problem]));
    }
    let make = |_: Option<&Value>| Ok(Some(object.clone()));
    let mut outcome = update_object(call, &options, make).await?;
    outcome.warnings.splice(0..0, warnings);
    Ok(call.respond_written(&outcome))
}

fn check_identity(call: &Call, object: &Value) -> Result<(), Status> {
    let name = meta::name(object);
    if name != call.info.name {
        return Err(Status::bad_request(if name.is_empty() {
            "name must be provided".to_owned()
        } else {
            format!("the name of the object ({name}) does not match the name on the URL ({})", call.info.name)
        }));
    }
    let namespace = meta::namespace(object);
    if call.row.namespaced && !namespace.is_empty() && namespace != call.info.namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the URL ({})",
            call.info.namespace
        )));
    }
    Ok(())
}

/// Changes one object. `make` gets the current version (client's view; `None` where there is none) and
/// returns the new one, or `None` where the object has to exist for it.
pub(crate) async fn update_object<F>(call: &Call, options: &WriteOptions, make: F) -> Result<WriteOutcome, Status>
where
    F: Fn(Option<&Value>) -> Result<Option<Value>, Status>,
{
    let storage = call.storage()?;
    let key = call.key();
    let native = std::ptr::eq(call.row, storage.row);
    let mut current = storage.get_cached(&key).await?;
    let mut from_cache = true;
    for _ in 0..TRIES {
        let Some(old) = current else {
            return create_missing(call, options, &make).await;
        };
        let old_value = old.value();
        let view = if native { old_value.clone() } else { Arc::new(convert::from_storage(call.row, &old_value)) };
        let new = make(Some(&view))?.ok_or_else(|| Status::not_found(call.row, &call.info.name))?;
        let wanted = meta::text(&new, "resourceVersion").to_owned();
        let stale = !wanted.is_empty() && wanted != old.revision.to_string();
        if stale {
            if from_cache {
                // The cache may be behind what this client has seen.
                from_cache = false;
                current = storage.get(&key).await?;
                continue;
            }
            return Err(Status::conflict(call.row, &call.info.name));
        }
        let explicit = !wanted.is_empty() && options_are_put(call);
        match attempt(call, storage, &old, &old_value, new, options).await? {
            Attempt::Done(outcome) => return Ok(outcome),
            Attempt::Raced(_) if explicit => return Err(Status::conflict(call.row, &call.info.name)),
            Attempt::Raced(now) => {
                from_cache = false;
                current = now;
            }
        }
    }
    Err(Status::conflict(call.row, &call.info.name))
}

/// A PUT carries the whole object: made from a version that was since replaced, it must not win.
fn options_are_put(call: &Call) -> bool {
    call.info.verb == "update"
}

async fn create_missing<F>(call: &Call, options: &WriteOptions, make: &F) -> Result<WriteOutcome, Status>
where
    F: Fn(Option<&Value>) -> Result<Option<Value>, Status>,
{
    let missing = || Status::not_found(call.row, &call.info.name);
    let may_create =
        call.info.subresource.is_empty() && (call.info.verb == "patch" || strategy::creates_on_update(call.row));
    if !may_create {
        return Err(missing());
    }
    let mut object = make(None)?.ok_or_else(missing)?;
    // An update of a version that is gone must not bring the object back.
    if meta::resource_version(&object) != 0 {
        return Err(missing());
    }
    if !meta::uid(&object).is_empty() {
        return Err(Status::conflict_because(
            call.row,
            &call.info.name,
            format!("Precondition failed: UID in precondition: {}, UID in object meta: ", meta::uid(&object)),
        ));
    }
    meta::remove(&mut object, "resourceVersion");
    create_object(call, object, options).await
}

enum Attempt {
    Done(WriteOutcome),
    /// What is there now.
    Raced(Option<Arc<Stored>>),
}

async fn attempt(
    call: &Call,
    storage: &ResourceStorage,
    old: &Arc<Stored>,
    old_value: &Value,
    mut new: Value,
    options: &WriteOptions,
) -> Result<Attempt, Status> {
    let row = storage.row;
    call.check_kind(&mut new)?;
    let uid = meta::uid(&new);
    if !uid.is_empty() && uid != meta::uid(old_value) {
        return Err(Status::conflict_because(
            call.row,
            &call.info.name,
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta::uid(old_value)),
        ));
    }
    scheme::default(call.row, &mut new);
    if !std::ptr::eq(call.row, row) {
        new = convert::to_storage(call.row, &new);
    }
    strategy::prepare_update(row, &call.info.subresource, &mut new, old_value);
    let (warnings, allocation) = admit(call, row, &mut new, old_value, options).await?;
    strategy::bump_generation(row, &call.info.subresource, &mut new, old_value);
    crate::managed::updated(call, &mut new, old_value, options);

    let outcome = write(storage, old, old_value, &new, options).await;
    let stored = !options.dry_run && matches!(outcome, Ok(Written::Done(_)));
    match allocation {
        Some(allocation) if stored => allocation.commit().await,
        Some(allocation) => allocation.rollback().await,
        None => {}
    }
    Ok(match outcome? {
        Written::Done(object) => Attempt::Done(WriteOutcome { object, created: false, warnings }),
        Written::Conflict(now) => Attempt::Raced(now),
    })
}

async fn write(
    storage: &ResourceStorage,
    old: &Arc<Stored>,
    old_value: &Value,
    new: &Value,
    options: &WriteOptions,
) -> Result<Written, Status> {
    let gone = strategy::gone_after_update(storage.row, new);
    if options.dry_run {
        return Ok(Written::Done(unsaved_at(old, new)));
    }
    if gone {
        return Ok(match storage.delete(old).await? {
            Written::Done(_) => Written::Done(unsaved_at(old, new)),
            conflict @ Written::Conflict(_) => conflict,
        });
    }
    // Nothing changed: no new revision, nobody is woken.
    if encoding::encode(new) == encoding::encode(old_value) {
        return Ok(Written::Done(old.clone()));
    }
    storage.update(old, new).await
}

fn unsaved_at(old: &Stored, new: &Value) -> Arc<Stored> {
    let mut new = new.clone();
    meta::set(&mut new, "resourceVersion", old.revision.to_string());
    let json = serde_json::to_vec(&new).unwrap_or_default();
    let unsaved = unsaved(&old.key, &new);
    Arc::new(Stored::new(unsaved.key.clone(), old.revision, old.lease, json.into()))
}

async fn admit(
    call: &Call,
    row: &'static ResourceInfo,
    new: &mut Value,
    old: &Value,
    options: &WriteOptions,
) -> Result<(Vec<String>, Option<Allocation>), Status> {
    let subresource = call.info.subresource.as_str();
    let mut request = admission_request(call, row, new, old, options);
    call.app.admission.mutate(&mut request).await?;
    let mut warnings = std::mem::take(&mut request.warnings);
    scheme::default(row, new);
    strategy::after_mutation(row, new);

    let allocation = if strategy::is_service(row) && subresource.is_empty() {
        Some(call.app.services.allocate(new, Some(old), options.dry_run).await?)
    } else {
        None
    };
    match validate(call, row, new, old, options).await {
        Ok(mut more) => {
            warnings.append(&mut more);
            Ok((warnings, allocation))
        }
        Err(status) => {
            if let Some(allocation) = allocation {
                allocation.rollback().await;
            }
            Err(status)
        }
    }
}

async fn validate(
    call: &Call,
    row: &'static ResourceInfo,
    new: &mut Value,
    old: &Value,
    options: &WriteOptions,
) -> Result<Vec<String>, Status> {
    let problems = strategy::validate_update(row, &call.info.subresource, new, old);
    if !problems.is_empty() {
        return Err(errors::invalid(row, &call.info.name, &problems));
    }
    let mut request = admission_request(call, row, new, old, options);
    call.app.admission.validate(&mut request).await?;
    Ok(request.warnings)
}

fn admission_request<'a>(
    call: &'a Call,
    row: &'static ResourceInfo,
    new: &'a mut Value,
    old: &'a Value,
    options: &WriteOptions,
) -> AdmissionRequest<'a> {
    AdmissionRequest {
        operation: Operation::Update,
        resource: row,
        subresource: &call.info.subresource,
        namespace: call.namespace(),
        name: &call.info.name,
        object: Some(new),
        old_object: Some(old),
        user: call.user.clone(),
        dry_run: options.dry_run,
        warnings: Vec::new(),
    }
}
