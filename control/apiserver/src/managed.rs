//! `metadata.managedFields`: who owns which field, and server-side apply.

use orlop_api::apply::{self, Manager};
use orlop_api::schema;
use orlop_api::status::Status;
use serde_json::Value;

use crate::call::Call;
use crate::meta;
use crate::wire::query::WriteOptions;

/// A new object: all its fields belong to who made it.
pub(crate) fn created(call: &Call, object: &mut Value, options: &WriteOptions) {
    track(call, None, object, options);
}

/// A changed object: what changed belongs to who changed it.
pub(crate) fn updated(call: &Call, new: &mut Value, old: &Value, options: &WriteOptions) {
    track(call, Some(old), new, options);
}

fn track(call: &Call, old: Option<&Value>, new: &mut Value, options: &WriteOptions) {
    if options.applies {
        // Apply did its own book-keeping.
        return;
    }
    let row = call.storage().map_or(call.row, |s| s.row);
    let now = meta::time(call.app.now());
    let manager = Manager {
        name: &options.field_manager,
        api_version: &row.api_version(),
        subresource: &call.info.subresource,
        now: &now,
    };
    apply::track_update(old, new, schema::of(row.group, row.version, row.kind), manager);
}

/// Server-side apply of `patch` over the current object.
pub(crate) fn apply(
    call: &Call,
    current: Option<&Value>,
    patch: &Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let row = call.row;
    let now = meta::time(call.app.now());
    let manager = Manager {
        name: &options.field_manager,
        api_version: &row.api_version(),
        subresource: &call.info.subresource,
        now: &now,
    };
    apply::apply(current, patch, schema::of(row.group, row.version, row.kind), manager, options.force)
}
