//! The verbs, generic over all resources.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod delete_collection;
pub(crate) mod patch;
pub(crate) mod read;
pub(crate) mod update;
pub(crate) mod watch;

use std::sync::Arc;

use bytes::Bytes;
use orlop_api::registry::Subresource;
use orlop_api::status::Status;
use orlop_api::strict;
use serde_json::Value;

use crate::call::Call;
use crate::storage::object::Stored;
use crate::transform::{IncludeObject, Transform};
use crate::wire::query::WriteOptions;
use crate::wire::{Body, Response, body, respond};

/// What writes answer with: the object, and warnings for the client.
pub(crate) struct WriteOutcome {
    pub(crate) object: Arc<Stored>,
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
}

impl Call {
    pub(crate) fn transform(&self) -> Transform {
        Transform {
            row: self.row,
            stored_row: self.storage().map_or(self.row, |s| s.row),
            shape: self.accepted.shape,
            include: IncludeObject::parse(self.query.get("includeObject")),
            now: self.app.now(),
        }
    }

    /// One object as the client asked for it.
    pub(crate) fn respond_object(&self, code: u16, object: &Stored) -> Response {
        respond::json(code, self.accepted, &self.transform().one(object))
    }

    pub(crate) fn respond_written(&self, outcome: &WriteOutcome) -> Response {
        let mut response = self.respond_object(if outcome.created { 201 } else { 200 }, &outcome.object);
        respond::warn(&mut response, &outcome.warnings);
        response
    }

    pub(crate) async fn read_body(&self, request_body: Body) -> Result<Bytes, Status> {
        body::read(request_body, &self.headers, self.app.config.limits.max_body_bytes).await
    }

    pub(crate) fn write_options(&self) -> Result<WriteOptions, Status> {
        WriteOptions::parse(&self.query, self.user_agent())
    }

    /// The body as an object of this resource, in the client's version.
    pub(crate) fn decode(
        &self,
        bytes: &Bytes,
        options: &WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let (document, format) = body::document(&self.headers, bytes)?;
        let mut decoded = strict::decode(&document, format, self.row, options.field_validation)?;
        warnings.append(&mut decoded.warnings);
        Ok(decoded.object)
    }

    /// The body of a subresource that speaks a kind of its own.
    pub(crate) async fn decode_subresource(
        &self,
        subresource: &Subresource,
        request_body: Body,
        options: &WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let bytes = self.read_body(request_body).await?;
        let (document, format) = body::document(&self.headers, &bytes)?;
        let mut decoded = strict::decode(&document, format, subresource, options.field_validation)?;
        warnings.append(&mut decoded.warnings);
        Ok(decoded.object)
    }

    /// Fills in `apiVersion` and `kind`, or refuses others than ours.
    pub(crate) fn check_kind(&self, object: &mut Value) -> Result<(), Status> {
        let Some(map) = object.as_object_mut() else {
            return Err(Status::bad_request("the object provided is not a JSON object"));
        };
        let expected = self.row.api_version();
        for (field, want) in [("apiVersion", expected.as_str()), ("kind", self.row.kind)] {
            match map.get(field).and_then(Value::as_str) {
                Some(have) if have == want => {}
                None | Some("") => {
                    map.insert(field.to_owned(), Value::from(want));
                }
                Some(_) => {
                    return Err(Status::bad_request(format!(
                        "the API version in the data ({}, Kind={}) does not match the expected API version ({expected}, Kind={})",
                        map.get("apiVersion").and_then(Value::as_str).unwrap_or_default(),
                        map.get("kind").and_then(Value::as_str).unwrap_or_default(),
                        self.row.kind,
                    )));
                }
            }
        }
        Ok(())
    }
}
