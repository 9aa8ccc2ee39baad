//! Reading objects into cells.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::human_duration;
use crate::quantity::Quantity;
use crate::selector::selector_from_object;

/// String at a JSON pointer, `""` where there is none.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// As [`text`], with a stand-in for the empty string.
pub(super) fn text_or<'a>(object: &'a Value, pointer: &str, empty: &'a str) -> &'a str {
    match text(object, pointer) {
        "" => empty,
        some => some,
    }
}

/// Whole number at a JSON pointer, 0 where there is none.
pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

pub(super) fn flag(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// Items of the list at a JSON pointer.
pub(super) fn array<'a>(object: &'a Value, pointer: &str) -> std::slice::Iter<'a, Value> {
    let items = object.pointer(pointer).and_then(Value::as_array);
    items.map_or(&[][..], Vec::as_slice).iter()
}

/// Entries of the map at a JSON pointer, by key.
pub(super) fn sorted_map<'a>(object: &'a Value, pointer: &str) -> Vec<(&'a str, &'a Value)> {
    let map = object.pointer(pointer).and_then(Value::as_object);
    let mut entries: Vec<_> = map.into_iter().flatten().map(|(k, v)| (k.as_str(), v)).collect();
    entries.sort_by_key(|(k, _)| *k);
    entries
}

pub(super) fn map_len(object: &Value, pointer: &str) -> usize {
    object.pointer(pointer).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

pub(super) fn is_set(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).is_some_and(|v| !v.is_null())
}

pub(super) fn name(object: &Value) -> Value {
    json!(text(object, "/metadata/name"))
}

pub(super) fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}

/// How long ago, `<unknown>` where there is no time.
pub(super) fn since(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(|| "<unknown>".to_owned(), |t| human_duration(now.duration_since(t)))
}

/// The Age cell.
pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    json!(since(time(object, "/metadata/creationTimestamp"), now))
}

/// The quantity at a JSON pointer in canonical form, `0` where there is none.
pub(super) fn quantity(object: &Value, pointer: &str) -> String {
    let value = object.pointer(pointer).unwrap_or(&Value::Null);
    Quantity::from_value(value).unwrap_or_default().to_string()
}

/// `a=b,c=d`, or `<none>`.
pub(super) fn format_labels(object: &Value, pointer: &str) -> String {
    let pairs: Vec<String> = sorted_map(object, pointer)
        .into_iter()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// A `metav1.LabelSelector` in query form; `<none>` when empty.
pub(super) fn format_selector(object: &Value, pointer: &str) -> String {
    match selector_from_object(object.pointer(pointer)) {
        Ok(selector) => match selector.to_string() {
            text if text.is_empty() => "<none>".to_owned(),
            text => text,
        },
        Err(_) => "<error>".to_owned(),
    }
}

/// Names and images of the containers below a PodSpec.
pub(super) fn containers(object: &Value, pod_spec: &str) -> [Value; 2] {
    let joined = |field: &str| {
        let list: Vec<&str> = array(object, &format!("{pod_spec}/containers")).map(|c| text(c, field)).collect();
        json!(list.join(","))
    };
    [joined("/name"), joined("/image")]
}

/// `a,b,c + 4 more...` of a list cut at three.
pub(super) fn with_more(list: &[String], count: usize, empty: &str) -> String {
    const SHOWN: usize = 3;
    let shown = list.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    if count > SHOWN {
        format!("{shown} + {} more...", count - SHOWN)
    } else if shown.is_empty() {
        empty.to_owned()
    } else {
        shown
    }
}
