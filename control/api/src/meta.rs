//! `metadata` of an object: accessors over JSON, and generated names (the rules for names are in `validation::content`).
//!
//! Reading never fails: what is absent, or of another type, reads as empty.

use serde_json::{Map, Value};

/// Letters that make no words and no digits that look like letters (upstream `rand.String`).
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of a generated suffix.
pub const SUFFIX_LEN: usize = 5;
/// A generated name stays a DNS label.
const MAX_GENERATED_NAME: usize = 63;

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or_default()
}

pub fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    text(object, "name")
}

pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

/// `""` for cluster-scoped objects.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// RFC 3339.
pub fn creation_timestamp(object: &Value) -> &str {
    text(object, "creationTimestamp")
}

/// RFC 3339; `None` while the object is not being deleted.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    Some(text(object, "deletionTimestamp")).filter(|t| !t.is_empty())
}

pub fn deletion_grace_period_s(object: &Value) -> Option<i64> {
    object.get("metadata")?.get("deletionGracePeriodSeconds")?.as_i64()
}

/// 0 where the kind has none.
pub fn generation(object: &Value) -> i64 {
    object.get("metadata").and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or_default()
}

pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("labels")?.as_object()
}

pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("annotations")?.as_object()
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list(object, "finalizers").iter().filter_map(Value::as_str)
}

pub fn owner_references(object: &Value) -> &[Value] {
    list(object, "ownerReferences")
}

/// The owner reference with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|r| r.get("controller").and_then(Value::as_bool) == Some(true))
}

fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `metadata` for writing; made where it is absent or no object. An `object` that is none itself becomes one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(object, "metadata")
}

/// The object below `key` for writing, made where it is absent or no object.
pub fn child_mut<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let parent = object_mut(object);
    object_mut(parent.entry(key).or_insert(Value::Null))
}

fn object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

/// Sets `metadata.KEY`.
pub fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    metadata_mut(object).insert(key.to_owned(), value.into());
}

/// Removes `metadata.KEY` and keeps the order of the others.
pub fn remove(object: &mut Value, key: &str) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.shift_remove(key)
}

/// Sets an annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    let metadata = metadata_mut(object);
    object_mut(metadata.entry("annotations").or_insert(Value::Null)).insert(key.to_owned(), value.into());
}

/// Sets a label.
pub fn set_label(object: &mut Value, key: &str, value: &str) {
    let metadata = metadata_mut(object);
    object_mut(metadata.entry("labels").or_insert(Value::Null)).insert(key.to_owned(), value.into());
}

/// `base` with a suffix of five letters drawn from `entropy`; a long base is cut, as upstream does.
pub fn generated_name(base: &str, entropy: u64) -> String {
    let mut end = base.len().min(MAX_GENERATED_NAME - SUFFIX_LEN);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], suffix(entropy))
}

/// Five letters of upstream's safe alphabet; 27^5 possibilities, so 64 random bits leave no bias to speak of.
pub fn suffix(entropy: u64) -> String {
    let mut rest = entropy;
    (0..SUFFIX_LEN)
        .map(|_| {
            let index = usize::try_from(rest % 27).unwrap_or_default();
            rest /= 27;
            char::from(SUFFIX_ALPHABET[index])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_and_writes() {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n",
            "labels": {"k": "v"}, "finalizers": ["f"], "ownerReferences": [{"uid": "1"}, {"uid": "2", "controller": true}]}});
        assert_eq!((name(&pod), namespace(&pod), uid(&pod), kind(&pod)), ("a", "n", "", "Pod"));
        assert_eq!(label(&pod, "k"), Some("v"));
        assert_eq!(finalizers(&pod).collect::<Vec<_>>(), ["f"]);
        assert_eq!(controller_of(&pod), Some(&json!({"uid": "2", "controller": true})));
        assert_eq!(deletion_timestamp(&pod), None);
        set(&mut pod, "uid", "u");
        set_annotation(&mut pod, "x", "y");
        assert_eq!((uid(&pod), annotation(&pod, "x")), ("u", Some("y")));
        assert_eq!(remove(&mut pod, "uid"), Some(json!("u")));
    }

    #[test]
    fn reading_what_is_not_there() {
        for odd in [json!(null), json!([]), json!({"metadata": 1}), json!({"metadata": {"name": 1, "finalizers": {}}})]
        {
            assert_eq!((name(&odd), generation(&odd), finalizers(&odd).count()), ("", 0, 0));
        }
        let mut odd = json!(7);
        set(&mut odd, "name", "x");
        assert_eq!(odd, json!({"metadata": {"name": "x"}}));
    }

    #[test]
    fn generated_names() {
        assert_eq!(suffix(0), "bbbbb");
        assert_eq!(suffix(u64::MAX).len(), 5);
        assert_eq!(generated_name("web-", 1), "web-cbbbb");
        assert_eq!(generated_name(&"x".repeat(70), 0).len(), 63);
        assert_eq!(generated_name(&"é".repeat(40), 0).len(), 63);
    }
}
