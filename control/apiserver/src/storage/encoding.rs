//! Objects as bytes: what lies in the store, and what goes to clients.
//!
//! The store holds `{"apiVersion":…,"kind":…,"metadata":{…},…}` without `resourceVersion`, in that
//! order, so that the version can be put in by copying bytes, without parsing.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

const METADATA: &[u8] = b"\"metadata\":{";
/// `apiVersion` and `kind` stand before `metadata` and are short.
const METADATA_WITHIN: usize = 512;

/// Store form of an object.
pub(crate) fn encode(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    let empty = serde_json::Map::new();
    let map = object.as_object().unwrap_or(&empty);
    for field in ["apiVersion", "kind"] {
        if let Some(value) = map.get(field) {
            put_member(&mut out, field, value);
        }
    }
    if let Some(metadata) = map.get("metadata").and_then(Value::as_object) {
        separate(&mut out);
        out.extend_from_slice(METADATA);
        for (field, value) in metadata {
            if field != "resourceVersion" && !value.is_null() {
                put_member(&mut out, field, value);
            }
        }
        out.push(b'}');
    }
    for (field, value) in map {
        if !matches!(field.as_str(), "apiVersion" | "kind" | "metadata") && !value.is_null() {
            put_member(&mut out, field, value);
        }
    }
    out.push(b'}');
    Bytes::from(out)
}

fn separate(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

fn put_member(out: &mut Vec<u8>, field: &str, value: &Value) {
    separate(out);
    // Writing a JSON value to memory has no way to fail.
    let _ = serde_json::to_writer(&mut *out, field);
    out.push(b':');
    let _ = serde_json::to_writer(&mut *out, value);
}

/// Appends the client form: the stored bytes with `metadata.resourceVersion` put in.
pub(crate) fn put_with_revision(out: &mut BytesMut, stored: &[u8], revision: i64) {
    let head = &stored[..stored.len().min(METADATA_WITHIN)];
    let at = head.windows(METADATA.len()).position(|w| w == METADATA).map(|p| p + METADATA.len());
    match at {
        Some(at) => {
            out.put_slice(&stored[..at]);
            out.put_slice(b"\"resourceVersion\":\"");
            out.put_slice(revision.to_string().as_bytes());
            out.put_slice(if stored.get(at) == Some(&b'}') { b"\"" } else { b"\"," });
            out.put_slice(&stored[at..]);
        }
        None => put_parsed(out, stored, revision),
    }
}

/// For values that another program wrote in another order.
fn put_parsed(out: &mut BytesMut, stored: &[u8], revision: i64) {
    let mut value: Value = serde_json::from_slice(stored).unwrap_or_default();
    crate::meta::set(&mut value, "resourceVersion", revision.to_string());
    out.put_slice(&serde_json::to_vec(&value).unwrap_or_default());
}

/// Client form of stored bytes.
pub(crate) fn with_revision(stored: &[u8], revision: i64) -> Bytes {
    let mut out = BytesMut::with_capacity(stored.len() + 48);
    put_with_revision(&mut out, stored, revision);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_revision_is_put_in_without_parsing() {
        for (object, expect) in [
            (
                json!({"spec": {"a": 1}, "metadata": {"name": "x", "resourceVersion": "7"}, "kind": "Pod", "apiVersion": "v1"}),
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": "42", "name": "x"}, "spec": {"a": 1}}),
            ),
            (json!({"kind": "Pod", "metadata": {}}), json!({"kind": "Pod", "metadata": {"resourceVersion": "42"}})),
            (
                json!({"kind": "\"metadata\":{", "metadata": {"name": "y"}}),
                json!({"kind": "\"metadata\":{", "metadata": {"name": "y", "resourceVersion": "42"}}),
            ),
        ] {
            let stored = encode(&object);
            let parsed: Value = serde_json::from_slice(&with_revision(&stored, 42)).unwrap();
            assert_eq!(parsed, expect);
        }
    }

    #[test]
    fn foreign_order_is_parsed() {
        let parsed: Value = serde_json::from_slice(&with_revision(br#"{"metadata" : {"name":"x"}}"#, 3)).unwrap();
        assert_eq!(parsed, json!({"metadata": {"name": "x", "resourceVersion": "3"}}));
    }
}
