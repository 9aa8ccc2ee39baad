//! JSON patch (RFC 6902), with the bounds and the leniencies of upstream's: negative indexes count from the end, and a
//! `test` for null passes where nothing is.

use serde::Deserialize;
use serde_json::Value;

use super::unprocessable;
use crate::status::Status;

/// Operations in one patch.
pub const MAX_OPERATIONS: usize = 10_000;
/// Bytes that all `copy` operations of a patch may add together.
pub const MAX_COPY_BYTES: usize = 3 * 1024 * 1024;

#[derive(Deserialize)]
struct RawOperation {
    op: Option<String>,
    path: Option<String>,
    from: Option<String>,
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
}

/// Tells `"value": null` from no value.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Applies a patch and returns the new document.
///
/// # Errors
/// 400 for what is no patch, 413 for too many operations or copied bytes, 422 for an operation that fails.
pub fn apply(document: &Value, body: &[u8]) -> Result<Value, Status> {
    let operations: Vec<RawOperation> =
        serde_json::from_slice(body).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::request_entity_too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut document = document.clone();
    let mut copied = 0;
    for operation in operations {
        run(&mut document, operation, &mut copied)?;
    }
    Ok(document)
}

fn run(document: &mut Value, operation: RawOperation, copied: &mut usize) -> Result<(), Status> {
    let RawOperation { op, path, from, value } = operation;
    let op = op.unwrap_or_default();
    let path = Pointer::parse(path.as_deref(), "path")?;
    match op.as_str() {
        "add" => path.add(document, need_value(value)?),
        "remove" => path.remove(document).map(drop),
        "replace" => {
            let value = need_value(value)?;
            let slot = path.get_mut(document).ok_or_else(|| path.missing("replace"))?;
            *slot = value;
            Ok(())
        }
        "move" => {
            let from = Pointer::parse(from.as_deref(), "from")?;
            if path.0.len() > from.0.len() && path.0.starts_with(&from.0) {
                return Err(unprocessable(&format!("move: {} cannot move into itself", from.text())));
            }
            let value = from.remove(document)?;
            path.add(document, value)
        }
        "copy" => {
            let from = Pointer::parse(from.as_deref(), "from")?;
            let value = from.get(document).ok_or_else(|| from.missing("copy"))?.clone();
            *copied = copied.saturating_add(size(&value));
            if *copied > MAX_COPY_BYTES {
                return Err(Status::request_entity_too_large(format!(
                    "unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPY_BYTES}"
                )));
            }
            path.add(document, value)
        }
        "test" => {
            let want = value.unwrap_or(Value::Null);
            match path.get(document) {
                Some(got) if *got == want => Ok(()),
                None if want.is_null() => Ok(()),
                _ => Err(unprocessable(&format!("testing value {} failed", path.text()))),
            }
        }
        other => Err(unprocessable(&format!("unexpected kind: {other}"))),
    }
}

fn need_value(value: Option<Value>) -> Result<Value, Status> {
    value.ok_or_else(|| Status::bad_request("error decoding patch: an operation misses its value"))
}

/// Bytes of the value as compact JSON, about.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(s) => s.len() + 2,
        Value::Array(items) => items.iter().map(|v| size(v) + 1).sum::<usize>() + 2,
        Value::Object(map) => map.iter().map(|(k, v)| k.len() + size(v) + 4).sum::<usize>() + 2,
    }
}

/// A JSON pointer (RFC 6901), unescaped.
#[derive(PartialEq, Eq)]
struct Pointer(Vec<String>);

impl Pointer {
    fn parse(text: Option<&str>, what: &str) -> Result<Self, Status> {
        let text =
            text.ok_or_else(|| Status::bad_request(format!("error decoding patch: an operation misses its {what}")))?;
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(unprocessable(&format!("{what} {text} does not start with a slash")));
        };
        Ok(Self(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect()))
    }

    fn text(&self) -> String {
        self.0.iter().map(|t| format!("/{}", t.replace('~', "~0").replace('/', "~1"))).collect()
    }

    fn missing(&self, op: &str) -> Status {
        unprocessable(&format!("{op} operation does not apply: doc is missing path: {}", self.text()))
    }

    fn get<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(document, |value, token| match value {
            Value::Object(map) => map.get(token),
            Value::Array(items) => items.get(index(token, items.len())?),
            _ => None,
        })
    }

    fn get_mut<'a>(&self, document: &'a mut Value) -> Option<&'a mut Value> {
        descend(document, &self.0)
    }

    fn add(&self, document: &mut Value, value: Value) -> Result<(), Status> {
        let Some((last, parents)) = self.0.split_last() else {
            *document = value;
            return Ok(());
        };
        match descend(document, parents) {
            Some(Value::Object(map)) => {
                map.insert(last.clone(), value);
                Ok(())
            }
            Some(Value::Array(items)) => {
                // One past the end appends.
                let at = if last == "-" { Some(items.len()) } else { index(last, items.len() + 1) };
                match at {
                    Some(at) => items.insert(at, value),
                    None => {
                        return Err(unprocessable(&format!(
                            "add operation does not apply: index {last} is out of bounds"
                        )));
                    }
                }
                Ok(())
            }
            _ => Err(self.missing("add")),
        }
    }

    fn remove(&self, document: &mut Value) -> Result<Value, Status> {
        let removed = match self.0.split_last() {
            None => None,
            Some((last, parents)) => match descend(document, parents) {
                Some(Value::Object(map)) => map.shift_remove(last),
                Some(Value::Array(items)) => index(last, items.len()).map(|i| items.remove(i)),
                _ => None,
            },
        };
        removed.ok_or_else(|| self.missing("remove"))
    }
}

fn descend<'a>(document: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(document, |value, token| match value {
        Value::Object(map) => map.get_mut(token),
        Value::Array(items) => {
            let at = index(token, items.len())?;
            items.get_mut(at)
        }
        _ => None,
    })
}

/// The index that a token names in a list of `len`; `-1` is the last one.
fn index(token: &str, len: usize) -> Option<usize> {
    if let Some(back) = token.strip_prefix('-') {
        return len.checked_sub(back.parse::<usize>().ok().filter(|n| *n > 0)?);
    }
    token.parse::<usize>().ok().filter(|i| *i < len)
}
