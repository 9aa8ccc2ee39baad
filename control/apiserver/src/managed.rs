//! `metadata.managedFields`: who owns which field, and server-side apply.

use orlop_api::status::Status;
use serde_json::Value;

use crate::call::Call;
use crate::wire::query::WriteOptions;

/// A new object: all its fields belong to who made it.
pub(crate) fn created(_call: &Call, _object: &mut Value, _options: &WriteOptions) {}

/// A changed object: what changed belongs to who changed it.
pub(crate) fn updated(_call: &Call, _new: &mut Value, _old: &Value, _options: &WriteOptions) {}

/// Server-side apply of `patch` over the current object.
pub(crate) fn apply(
    _call: &Call,
    _current: Option<&Value>,
    _patch: &Value,
    _options: &WriteOptions,
) -> Result<Value, Status> {
    Err(Status::unsupported_media_type(&[
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ]))
}
