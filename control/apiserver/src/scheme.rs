//! Everything asked of `orlop_api` about one kind's objects, in one place.

use orlop_api::field::FieldError;
use orlop_api::registry::ResourceInfo;
use orlop_api::{table, validation};
use serde_json::{Value, json};

pub(crate) fn default(row: &ResourceInfo, object: &mut Value) {
    orlop_api::defaults::apply_defaults(row.group, row.version, row.kind, object);
}

pub(crate) fn validate_create(row: &ResourceInfo, object: &Value) -> Vec<FieldError> {
    validation::validate_create(row.group, row.version, row.kind, object)
}

pub(crate) fn validate_update(row: &ResourceInfo, new: &Value, old: &Value) -> Vec<FieldError> {
    validation::validate_update(row.group, row.version, row.kind, new, old)
}

pub(crate) fn validate_status_update(row: &ResourceInfo, new: &Value, old: &Value) -> Vec<FieldError> {
    validation::validate_status_update(row.group, row.version, row.kind, new, old)
}

/// `columnDefinitions` of a kind.
pub(crate) fn columns((group, kind): (&str, &str)) -> Value {
    serde_json::to_value(table::columns(group, kind)).unwrap_or_else(|_| json!([]))
}

/// One row of a table, without its object.
pub(crate) fn table_row((group, kind): (&str, &str), object: &Value, now: jiff::Timestamp) -> Value {
    let mut out = json!({"cells": table::row(group, kind, object, now)});
    let conditions = table::row_conditions(group, kind, object);
    if !conditions.is_empty() {
        out["conditions"] = Value::Array(conditions);
    }
    out
}
