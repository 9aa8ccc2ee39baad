//! Reading fields and comparing objects as Go's zero values have it.

use serde_json::{Map, Value};

use crate::field::{FieldError, Path};
use crate::quantity::Quantity;

pub(super) type Errors = Vec<FieldError>;

const NULL: &Value = &Value::Null;

/// The value under `key`, null where there is none.
pub(super) fn child<'a>(object: &'a Value, key: &str) -> &'a Value {
    object.get(key).unwrap_or(NULL)
}

/// The object under `key`, where it is set.
pub(super) fn set<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|v| !v.is_null())
}

pub(super) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    child(object, key).as_str().unwrap_or_default()
}

pub(super) fn int(object: &Value, key: &str) -> Option<i64> {
    child(object, key).as_i64()
}

pub(super) fn flag(object: &Value, key: &str) -> bool {
    child(object, key).as_bool().unwrap_or_default()
}

pub(super) fn items<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    child(object, key).as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn map<'a>(object: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    child(object, key).as_object()
}

pub(super) fn is_empty_name(object: &Value) -> bool {
    text(child(object, "metadata"), "name").is_empty()
}

/// `ValidateNonnegativeField` for each of these whole numbers that is set.
pub(super) fn nonnegative(object: &Value, keys: &[&str], path: &Path, errs: &mut Errors) {
    for key in keys {
        if let Some(value) = int(object, key).filter(|v| *v < 0) {
            errs.push(FieldError::invalid(path.child(key), value, "must be greater than or equal to 0"));
        }
    }
}

/// `ValidateImmutableField` for a top-level field.
pub(super) fn immutable(new: &Value, old: &Value, key: &str, errs: &mut Errors) {
    immutable_at(child(new, key), child(old, key), &Path::new(key), errs);
}

pub(super) fn immutable_at(new: &Value, old: &Value, path: &Path, errs: &mut Errors) {
    if !semantically_equal(new, old) {
        errs.push(FieldError::invalid(path, new.clone(), super::IMMUTABLE));
    }
}

/// Requires one of `supported`: `Required` when empty, `NotSupported` when another.
pub(super) fn one_of(object: &Value, key: &str, supported: &[&str], path: &Path, errs: &mut Errors) {
    match text(object, key) {
        "" => errs.push(FieldError::required(path.child(key), "")),
        value if supported.contains(&value) => {}
        value => errs.push(FieldError::not_supported(path.child(key), value, supported)),
    }
}

/// A quantity of a resource list, with upstream's checks of its value.
pub(super) fn resource_quantity(name: &str, value: &Value, path: &Path, errs: &mut Errors) -> Option<Quantity> {
    let quantity = match Quantity::from_value(value) {
        Ok(quantity) => quantity,
        Err(error) => {
            errs.push(FieldError::invalid(path, value.clone(), error.to_string()));
            return None;
        }
    };
    if quantity.sign() < 0 {
        errs.push(FieldError::invalid(path, quantity.to_string(), "must be greater than or equal to 0"));
    } else if counts_whole_things(name) && !quantity.is_integer() {
        errs.push(FieldError::invalid(path, quantity.to_string(), "must be an integer"));
    }
    Some(quantity)
}

fn counts_whole_things(name: &str) -> bool {
    name == "pods" || name.starts_with("hugepages-") || (name.contains('/') && !name.contains("kubernetes.io/"))
}

/// Fields whose empty map means the same as none.
const MAPS: &[&str] =
    &["labels", "annotations", "nodeSelector", "limits", "requests", "matchLabels", "selector", "overhead", "data"];

/// `apiequality.Semantic.DeepEqual` on JSON: null, absent and the empty list are the same, and so
/// are an empty and an absent map.
#[must_use]
pub fn semantically_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let same = |key: &String| {
                let (x, y) = (a.get(key).unwrap_or(NULL), b.get(key).unwrap_or(NULL));
                semantically_equal(x, y) || (MAPS.contains(&key.as_str()) && is_empty(x) && is_empty(y))
            };
            a.keys().all(same) && b.keys().filter(|k| !a.contains_key(*k)).all(same)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| semantically_equal(x, y))
        }
        (Value::Null, Value::Array(list)) | (Value::Array(list), Value::Null) => list.is_empty(),
        _ => a == b,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
