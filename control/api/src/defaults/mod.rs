//! Defaulting: what upstream's `SetDefaults_*` fill into an object that a client left short.
//!
//! Pure and idempotent; an object of an unexpected shape is left as it is, for validation to refuse.

mod core;
mod groups;
mod pod;
mod workloads;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::quantity::Quantity;

pub use pod::{image_pull_policy, pod_spec};

type Object = Map<String, Value>;

/// Fills in the defaults of a built-in kind; other kinds stay as they are.
pub fn apply_defaults(group: &str, version: &str, kind: &str, object: &mut Value) {
    let Some(root) = object.as_object_mut() else {
        return;
    };
    match group {
        "" => core::apply(kind, root),
        "apps" => workloads::apply_apps(kind, root),
        "batch" => workloads::apply_batch(kind, root),
        _ => groups::apply(group, version, kind, root),
    }
}

/// The object under `key`, if there is one.
fn child<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    object.get_mut(key).and_then(Value::as_object_mut)
}

/// The object under `key`, made when absent or null.
fn child_or_new<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    default_to(object, key, || Value::Object(Map::new()));
    child(object, key)
}

/// Every object of the list under `key`.
fn each<'a>(object: &'a mut Object, key: &str) -> impl Iterator<Item = &'a mut Object> {
    let items = object.get_mut(key).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Go's nil pointer: absent or null.
fn is_unset(object: &Object, key: &str) -> bool {
    matches!(object.get(key), None | Some(Value::Null))
}

/// Go's zero value: absent, null, empty, 0 or false.
fn is_zero(object: &Object, key: &str) -> bool {
    match object.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Number(n)) => n.as_i64() == Some(0),
        Some(Value::Array(a)) => a.is_empty(),
        Some(Value::Object(o)) => o.is_empty(),
        Some(Value::Bool(b)) => !b,
    }
}

/// Sets `key` where it is absent or null.
fn default_to(object: &mut Object, key: &str, value: impl FnOnce() -> Value) {
    if is_unset(object, key) {
        object.insert(key.to_owned(), value());
    }
}

/// Sets `key` where it is absent, null or a zero value.
fn default_nonzero(object: &mut Object, key: &str, value: impl Into<Value>) {
    if is_zero(object, key) {
        object.insert(key.to_owned(), value.into());
    }
}

fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn has_items(object: &Object, key: &str) -> bool {
    match object.get(key) {
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(items)) => !items.is_empty(),
        _ => false,
    }
}

/// `SetDefaults_ResourceList`: rounds to thousandths and writes the canonical form. What does not
/// parse is left for validation.
fn resource_list(object: &mut Object, key: &str) {
    for (_, value) in child(object, key).into_iter().flatten() {
        canonical_quantity(value, true);
    }
}

fn canonical_quantity(value: &mut Value, round: bool) {
    if !matches!(value, Value::String(_) | Value::Number(_)) {
        return;
    }
    if let Ok(quantity) = Quantity::from_value(value) {
        let quantity = if round { quantity.round_up_milli() } else { quantity };
        *value = Value::String(quantity.to_string());
    }
}

/// Canonical requests and limits of a `ResourceRequirements`.
fn resource_requirements(object: &mut Object, key: &str) {
    if let Some(resources) = child(object, key) {
        resource_list(resources, "limits");
        resource_list(resources, "requests");
    }
}

/// Copies entries of `from` that `to` lacks.
fn merge_missing(object: &mut Object, to: &str, from: &str) {
    let Some(source) = object.get(from).and_then(Value::as_object).cloned() else {
        return;
    };
    let Some(target) = child_or_new(object, to) else {
        return;
    };
    for (key, value) in source {
        if !target.contains_key(&key) {
            target.insert(key, value);
        }
    }
}
