//! delete: preconditions, finalizers, grace.
//!
//! ```text
//! live ──delete──► deletionTimestamp set ──finalizers empty and grace 0──► gone
//!   └────────────── neither finalizers nor grace ─────────────────────────► gone
//! ```

use std::sync::Arc;

use bytes::Bytes;
use orlop_api::status::Status;
use orlop_api::strict;
use serde_json::Value;

use crate::admission::{AdmissionRequest, Operation};
use crate::call::Call;
use crate::storage::object::Stored;
use crate::storage::{ResourceStorage, Written};
use crate::strategy::deletion::{self, Propagation, Verdict};
use crate::wire::query::{Query, dry_run};
use crate::wire::{Body, Response, body, respond};
use crate::{meta, strategy};

const TRIES: usize = 20;

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_s: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    pub(crate) fn parse(call: &Call, bytes: &Bytes) -> Result<Self, Status> {
        let document: Value = if bytes.is_empty() {
            Value::Null
        } else {
            let (document, format) = body::document(&call.headers, bytes)?;
            strict::parse(&document, format).map_err(Status::bad_request)?.0
        };
        Self::from_parts(&document, &call.query)
    }

    pub(crate) fn from_parts(document: &Value, query: &Query) -> Result<Self, Status> {
        let grace_s = match document.get("gracePeriodSeconds").and_then(Value::as_i64) {
            Some(s) => Some(s),
            None => query.int("gracePeriodSeconds")?,
        };
        let policy =
            document.get("propagationPolicy").and_then(Value::as_str).or_else(|| query.text("propagationPolicy"));
        let orphan =
            document.get("orphanDependents").and_then(Value::as_bool).or_else(|| query.flag("orphanDependents"));
        let in_body = document.get("dryRun").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |path: &str| document.pointer(path).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            grace_s,
            propagation: Propagation::parse(policy, orphan)?,
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run: dry_run(in_body.iter().filter_map(Value::as_str).chain(query.all("dryRun")))?,
        })
    }

    fn check(&self, call: &Call, name: &str, object: &Stored) -> Result<(), Status> {
        let value = object.value();
        let uid = meta::uid(&value);
        if let Some(wanted) = self.uid.as_deref().filter(|wanted| *wanted != uid) {
            return Err(Status::conflict_because(
                call.row,
                name,
                format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"),
            ));
        }
        let version = object.revision.to_string();
        if let Some(wanted) = self.resource_version.as_deref().filter(|wanted| *wanted != version) {
            return Err(Status::conflict_because(
                call.row,
                name,
                format!(
                    "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"
                ),
            ));
        }
        Ok(())
    }
}

pub(crate) async fn delete(call: &Call, request_body: Body) -> Result<Response, Status> {
    let bytes = call.read_body(request_body).await?;
    let options = DeleteOptions::parse(call, &bytes)?;
    let (deleted, warnings) = delete_object(call, &call.key(), &call.info.name, &options).await?;
    let mut response = match deleted {
        Deleted::Later(object) => call.respond_object(200, &object),
        Deleted::Now(object) if strategy::deletion::returns_object(call.row) => call.respond_object(200, &object),
        Deleted::Now(object) => {
            let value = object.value();
            respond::value(200, call.accepted, &Status::success_value(call.row, &call.info.name, meta::uid(&value)))
        }
    };
    respond::warn(&mut response, &warnings);
    Ok(response)
}

pub(crate) enum Deleted {
    Now(Arc<Stored>),
    /// Marked; somebody else finishes it.
    Later(Arc<Stored>),
}

pub(crate) async fn delete_object(
    call: &Call,
    key: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<(Deleted, Vec<String>), Status> {
    let storage = call.storage()?;
    let mut current = storage.get(key).await?;
    for _ in 0..TRIES {
        let Some(old) = current else {
            return Err(Status::not_found(call.row, name));
        };
        options.check(call, name, &old)?;
        let warnings = admit(call, storage, name, &old, options).await?;
        match attempt(call, storage, &old, options).await? {
            Attempt::Done(deleted) => return Ok((deleted, warnings)),
            Attempt::Raced(now) => current = now,
        }
    }
    Err(Status::conflict(call.row, name))
}

async fn admit(
    call: &Call,
    storage: &ResourceStorage,
    name: &str,
    old: &Stored,
    options: &DeleteOptions,
) -> Result<Vec<String>, Status> {
    let value = old.value();
    let namespace = meta::namespace(&value);
    let mut request = AdmissionRequest {
        operation: Operation::Delete,
        resource: storage.row,
        subresource: "",
        namespace: Some(namespace).filter(|n| !n.is_empty()),
        name,
        object: None,
        old_object: Some(&value),
        user: call.user.clone(),
        dry_run: options.dry_run,
        warnings: Vec::new(),
    };
    call.app.admission.mutate(&mut request).await?;
    call.app.admission.validate(&mut request).await?;
    Ok(request.warnings)
}

enum Attempt {
    Done(Deleted),
    Raced(Option<Arc<Stored>>),
}

async fn attempt(
    call: &Call,
    storage: &ResourceStorage,
    old: &Arc<Stored>,
    options: &DeleteOptions,
) -> Result<Attempt, Status> {
    let value = old.value();
    match deletion::decide(storage.row, &value, options.grace_s, options.propagation, call.app.now()) {
        Verdict::Unchanged => Ok(Attempt::Done(Deleted::Later(old.clone()))),
        Verdict::Now => {
            if options.dry_run {
                return Ok(Attempt::Done(Deleted::Now(old.clone())));
            }
            match storage.delete(old).await? {
                Written::Done(last) => {
                    if strategy::is_service(storage.row) {
                        call.app.services.release(&value).await;
                    }
                    Ok(Attempt::Done(Deleted::Now(last)))
                }
                Written::Conflict(now) => Ok(Attempt::Raced(now)),
            }
        }
        Verdict::Mark(marked) => {
            if options.dry_run {
                let json = serde_json::to_vec(&marked).unwrap_or_default();
                let object = Stored::new(old.key.clone(), old.revision, old.lease, json.into());
                return Ok(Attempt::Done(Deleted::Later(Arc::new(object))));
            }
            match storage.update(old, &marked).await? {
                Written::Done(object) => Ok(Attempt::Done(Deleted::Later(object))),
                Written::Conflict(now) => Ok(Attempt::Raced(now)),
            }
        }
    }
}
