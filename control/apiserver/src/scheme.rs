//! Everything asked of `orlop_api` about one kind's objects, in one place.

use orlop_api::field::FieldError;
use orlop_api::registry::ResourceInfo;
use orlop_api::table;
use serde_json::{Value, json};

pub(crate) fn default(row: &ResourceInfo, object: &mut Value) {
    orlop_api::defaults::apply_defaults(row.group, row.version, row.kind, object);
}

pub(crate) fn validate_create(_row: &ResourceInfo, _object: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(crate) fn validate_update(_row: &ResourceInfo, _object: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// `columnDefinitions` of a kind.
pub(crate) fn columns(row: &ResourceInfo) -> Value {
    serde_json::to_value(table::columns(row.group, row.kind)).unwrap_or_else(|_| json!([]))
}

/// One row of a table, without its object.
pub(crate) fn table_row(row: &ResourceInfo, object: &Value, now: jiff::Timestamp) -> Value {
    let mut out = json!({"cells": table::row(row.group, row.kind, object, now)});
    let conditions = table::row_conditions(row.group, row.kind, object);
    if !conditions.is_empty() {
        out["conditions"] = Value::Array(conditions);
    }
    out
}
