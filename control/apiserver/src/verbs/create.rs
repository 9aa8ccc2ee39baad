//! create, and what every new object goes through.

use std::sync::Arc;

use orlop_api::registry::ResourceInfo;
use orlop_api::status::Status;
use serde_json::Value;

use super::WriteOutcome;
use crate::admission::{AdmissionRequest, Operation};
use crate::allocators::Allocation;
use crate::call::Call;
use crate::storage::object::Stored;
use crate::storage::{ResourceStorage, Written, encoding, object_key};
use crate::wire::query::WriteOptions;
use crate::wire::{Body, Response};
use crate::{convert, errors, meta, scheme, strategy};

/// Upstream's alphabet: no vowels, so that no words come out.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
const MAX_BASE: usize = 63 - SUFFIX;
const NAME_TRIES: usize = 8;

pub(crate) async fn create(call: &Call, body: Body) -> Result<Response, Status> {
    let options = call.write_options()?;
    let mut warnings = Vec::new();
    let bytes = call.read_body(body).await?;
    let object = call.decode(&bytes, &options, &mut warnings)?;
    let mut outcome = create_object(call, object, &options).await?;
    outcome.warnings.splice(0..0, warnings);
    Ok(call.respond_written(&outcome))
}

/// Takes an object of the client's version through naming, defaulting, admission and validation into the store.
pub(crate) async fn create_object(
    call: &Call,
    mut object: Value,
    options: &WriteOptions,
) -> Result<WriteOutcome, Status> {
    let storage = call.storage()?;
    if !meta::text(&object, "resourceVersion").is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    scheme::default(call.row, &mut object);
    if !std::ptr::eq(call.row, storage.row) {
        object = convert::to_storage(call.row, &object);
    }
    set_identity(call, &mut object)?;
    strategy::prepare_create(storage.row, &mut object, call.app.now());
    crate::managed::created(call, &mut object, options);

    let (warnings, allocation) = admit(call, storage.row, &mut object, options).await?;
    let stored = match store(call, storage, &mut object, options).await {
        Ok(stored) => {
            finish(allocation, !options.dry_run).await;
            stored
        }
        Err(status) => {
            finish(allocation, false).await;
            return Err(status);
        }
    };
    Ok(WriteOutcome { object: stored, created: true, warnings })
}

async fn finish(allocation: Option<Allocation>, stored: bool) {
    match allocation {
        Some(allocation) if stored => allocation.commit().await,
        Some(allocation) => allocation.rollback().await,
        None => {}
    }
}

/// Mutating admission, allocation, validation, validating admission.
async fn admit(
    call: &Call,
    row: &'static ResourceInfo,
    object: &mut Value,
    options: &WriteOptions,
) -> Result<(Vec<String>, Option<Allocation>), Status> {
    let name = meta::name(object).to_owned();
    let namespace = meta::namespace(object).to_owned();
    let mut request = AdmissionRequest {
        operation: Operation::Create,
        resource: row,
        subresource: "",
        namespace: Some(namespace.as_str()).filter(|n| !n.is_empty()),
        name: &name,
        object: Some(&mut *object),
        old_object: None,
        user: call.user.clone(),
        dry_run: options.dry_run,
        warnings: Vec::new(),
    };
    call.app.admission.mutate(&mut request).await?;
    let mut warnings = std::mem::take(&mut request.warnings);
    scheme::default(row, object);
    strategy::complete_create(row, object);
    strategy::after_mutation(row, object);

    let allocation = if strategy::is_service(row) {
        Some(call.app.services.allocate(object, None, options.dry_run).await?)
    } else {
        None
    };
    let outcome = validate(call, row, object, &name, &namespace, options, &mut warnings).await;
    match outcome {
        Ok(()) => Ok((warnings, allocation)),
        Err(status) => {
            finish(allocation, false).await;
            Err(status)
        }
    }
}

async fn validate(
    call: &Call,
    row: &'static ResourceInfo,
    object: &mut Value,
    name: &str,
    namespace: &str,
    options: &WriteOptions,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let problems = scheme::validate_create(row, object);
    if !problems.is_empty() {
        return Err(errors::invalid(row, name, &problems));
    }
    let mut request = AdmissionRequest {
        operation: Operation::Create,
        resource: row,
        subresource: "",
        namespace: Some(namespace).filter(|n| !n.is_empty()),
        name,
        object: Some(object),
        old_object: None,
        user: call.user.clone(),
        dry_run: options.dry_run,
        warnings: Vec::new(),
    };
    call.app.admission.validate(&mut request).await?;
    warnings.append(&mut request.warnings);
    Ok(())
}

/// Name and namespace, from the object and the path.
fn set_identity(call: &Call, object: &mut Value) -> Result<(), Status> {
    if call.row.namespaced {
        let wanted = call.info.namespace.as_str();
        match meta::namespace(object) {
            "" => meta::set(object, "namespace", wanted),
            same if same == wanted => {}
            _ => {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
        }
    } else {
        meta::remove(object, "namespace");
    }
    // PUT and apply create under the name of the path.
    if !call.info.name.is_empty() && !is_token(call) {
        match meta::name(object) {
            "" => meta::set(object, "name", call.info.name.as_str()),
            same if same == call.info.name => {}
            other => {
                return Err(Status::bad_request(format!(
                    "the name of the object ({other}) does not match the name on the URL ({})",
                    call.info.name
                )));
            }
        }
    }
    if meta::name(object).is_empty() {
        let base = meta::text(object, "generateName").to_owned();
        if base.is_empty() {
            let problem = orlop_api::field::FieldError::required("metadata.name", "name or generateName is required");
            return Err(errors::invalid(call.row, "", &[problem]));
        }
        meta::set(object, "name", generate_name(&base));
    }
    Ok(())
}

fn is_token(call: &Call) -> bool {
    call.info.subresource == "token"
}

pub(crate) fn generate_name(base: &str) -> String {
    let mut name: String = base.chars().take(MAX_BASE).collect();
    for _ in 0..SUFFIX {
        let i = usize::from(rand::random::<u8>()) % NAME_ALPHABET.len();
        name.push(char::from(NAME_ALPHABET[i]));
    }
    name
}

async fn store(
    call: &Call,
    storage: &ResourceStorage,
    object: &mut Value,
    options: &WriteOptions,
) -> Result<Arc<Stored>, Status> {
    let generated = !meta::text(object, "generateName").is_empty() && call.info.name.is_empty();
    for _ in 0..NAME_TRIES {
        let key = object_key(Some(meta::namespace(object)), meta::name(object));
        if options.dry_run {
            if storage.get_cached(&key).await?.is_none() {
                return Ok(unsaved(&key, object));
            }
        } else {
            let lease = call.app.event_leases.for_new(storage.row, &call.app.store).await?;
            if let Written::Done(stored) = storage.create(&key, object, lease).await? {
                return Ok(stored);
            }
        }
        if !generated {
            break;
        }
        let base = meta::text(object, "generateName").to_owned();
        meta::set(object, "name", generate_name(&base));
    }
    if generated {
        return Err(Status::generate_name_conflict(call.row, meta::name(object), 1));
    }
    Err(Status::already_exists(call.row, meta::name(object)))
}

/// A dry run's object: as it would be stored, without a version.
pub(crate) fn unsaved(key: &str, object: &Value) -> Arc<Stored> {
    Arc::new(Stored::new(Arc::from(key), 0, 0, encoding::encode(object)))
}
