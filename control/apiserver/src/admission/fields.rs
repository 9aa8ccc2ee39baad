//! Reading fields of decoded objects: absent and wrongly typed read as empty.

use serde_json::Value;

/// The string at a JSON pointer, `""` where there is none.
pub(crate) fn str_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer, empty where there is none.
pub(crate) fn list_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings of the list at a JSON pointer.
pub(crate) fn strings_at(value: &Value, pointer: &str) -> Vec<String> {
    list_at(value, pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(crate) fn bool_at(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

pub(crate) fn name(value: &Value) -> &str {
    str_at(value, "/metadata/name")
}

pub(crate) fn namespace(value: &Value) -> &str {
    str_at(value, "/metadata/namespace")
}

pub(crate) fn uid(value: &Value) -> &str {
    str_at(value, "/metadata/uid")
}

/// An annotation's value; its key may hold `/`, which a pointer would need escaped.
pub(crate) fn annotation<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

pub(crate) fn label<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// The object at `key` of `value`, made where it is missing or null. `None` when `value` is no object.
pub(crate) fn object_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let slot = value.as_object_mut()?.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(serde_json::Map::new());
    }
    Some(slot)
}

/// The list at `key` of `value`, made where it is missing or null.
pub(crate) fn list_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Vec<Value>> {
    let slot = value.as_object_mut()?.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut()
}
