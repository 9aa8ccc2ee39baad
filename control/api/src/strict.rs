//! From a request body to an object that has only the fields of its kind.
//!
//! [`decode`] does what upstream's decoder does for typed objects: it reads JSON or YAML, notices repeated and unknown
//! fields, refuses values of the wrong type in Go's words, drops what is not in the schema, and brings quantities and
//! times to their canonical form. [`conform`] does the part after reading for objects that a patch made.

mod conform;
mod read;

use std::fmt;

use serde_json::Value;

use crate::field::quote;
use crate::registry::{api_version as join_api_version, find_object, split_api_version};
use crate::schema::{self, Struct};
use crate::status::Status;

/// Strict errors that are reported at most, as upstream.
const MAX_STRICT_ERRORS: usize = 100;
/// Bytes of an unreadable body that the error shows.
const SUMMARY_BYTES: usize = 30;

/// The `fieldValidation` query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Unknown and repeated fields are dropped silently.
    Ignore,
    /// … are dropped with a warning each (the default of the API).
    Warn,
    /// … fail the request.
    Strict,
}

impl FieldValidation {
    /// Reads the parameter; absent means `Warn`.
    ///
    /// # Errors
    /// 400 in upstream's words for any other value.
    pub fn from_query(value: Option<&str>) -> Result<Self, Status> {
        match value.unwrap_or_default() {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => Err(Status::invalid(
                "CreateOptions",
                "meta.k8s.io",
                "",
                &[crate::field::FieldError::not_supported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"])],
            )),
        }
    }
}

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
}

impl Format {
    /// By `Content-Type`, parameters ignored; an absent one means JSON.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "" | "application/json" => Some(Self::Json),
            "application/yaml" | "application/apply-patch+yaml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// The kind that a request's path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

impl<'a> From<&'a crate::registry::ResourceInfo> for Expected<'a> {
    fn from(r: &'a crate::registry::ResourceInfo) -> Self {
        Self { group: r.group, version: r.version, kind: r.kind }
    }
}

impl<'a> From<&'a crate::registry::Subresource> for Expected<'a> {
    fn from(s: &'a crate::registry::Subresource) -> Self {
        Self { group: s.group, version: s.version, kind: s.kind }
    }
}

/// A decoded object, and what the client shall be warned of.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// Why a value does not fit its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A value of the wrong type, in Go's words.
    Type(String),
    /// Unknown or repeated fields.
    Strict(Vec<String>),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(text) => f.write_str(text),
            Self::Strict(errors) => write!(f, "strict decoding error: {}", errors.join(", ")),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads a body as an object of the kind `expected`; `apiVersion` and `kind` are filled in where they are absent.
///
/// # Errors
/// 400 with upstream's message: unreadable, another kind, a value of the wrong type, or (strict) unknown fields.
pub fn decode<'a>(
    body: &[u8],
    format: Format,
    expected: impl Into<Expected<'a>>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let expected = expected.into();
    let (mut object, repeated) = parse(body, format).map_err(|error| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: {error} ({})",
            expected.kind,
            summary(body),
        ))
    })?;
    check_kind(&mut object, expected)?;
    let schema = schema::of(expected.group, expected.version, expected.kind);
    let warnings =
        conform_with(&mut object, schema, repeated, validation).map_err(|e| cannot_be_handled(expected, &e))?;
    Ok(Decoded { object, warnings })
}

/// Reads any JSON or YAML value; the second list names repeated keys (`duplicate field "a.b"`).
///
/// # Errors
/// The parser's words.
pub fn parse(body: &[u8], format: Format) -> Result<(Value, Vec<String>), String> {
    match format {
        Format::Json => read::json(body),
        // JSON is nearly YAML, but kubectl sends JSON as YAML, and JSON is read much faster.
        Format::Yaml => read::json(body).or_else(|_| read::yaml(body)),
    }
}

/// Brings a value that a patch or a default made into the form of its kind; returns the warnings.
///
/// # Errors
/// See [`DecodeError`].
pub fn conform(object: &mut Value, schema: &Struct, validation: FieldValidation) -> Result<Vec<String>, DecodeError> {
    conform_with(object, Some(schema), Vec::new(), validation)
}

fn conform_with(
    object: &mut Value,
    schema: Option<&Struct>,
    mut found: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, DecodeError> {
    if let Some(schema) = schema {
        let mut unknown = Vec::new();
        conform::object(object, schema, &mut unknown).map_err(|e| DecodeError::Type(e.to_string()))?;
        found.extend(unknown.into_iter().map(|path| format!("unknown field {}", quote(&path))));
    }
    found.truncate(MAX_STRICT_ERRORS);
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(found),
        FieldValidation::Strict if found.is_empty() => Ok(found),
        FieldValidation::Strict => Err(DecodeError::Strict(found)),
    }
}

/// 400 `Deployment in version "v1" cannot be handled as a Deployment: WHY`
pub fn cannot_be_handled<'a>(expected: impl Into<Expected<'a>>, why: &dyn fmt::Display) -> Status {
    let Expected { version, kind, .. } = expected.into();
    Status::bad_request(format!("{kind} in version {} cannot be handled as a {kind}: {why}", quote(version)))
}

fn check_kind(object: &mut Value, expected: Expected<'_>) -> Result<(), Status> {
    let Some(map) = object.as_object_mut() else {
        let why =
            format!("json: cannot unmarshal {} into Go value of type v1.{}", conform::go_kind(object), expected.kind);
        return Err(cannot_be_handled(expected, &why));
    };
    let want = join_api_version(expected.group, expected.version);
    for (key, want) in [("apiVersion", want.as_str()), ("kind", expected.kind)] {
        match map.get(key) {
            None | Some(Value::Null) => {
                map.insert(key.to_owned(), want.into());
            }
            Some(Value::String(s)) if s.is_empty() => {
                map.insert(key.to_owned(), want.into());
            }
            Some(Value::String(_)) => {}
            Some(other) => {
                return Err(Status::bad_request(format!(
                    "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go struct field .{key} of type string",
                    conform::go_kind(other)
                )));
            }
        }
    }
    let api_version = map.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
    let (group, version) = split_api_version(api_version);
    if kind != expected.kind {
        let why = match find_object(api_version, kind) {
            Some(_) => {
                format!("converting ({version}.{kind}) to ({}.{}): unknown conversion", expected.version, expected.kind)
            }
            None => format!("no kind {} is registered for version {}", quote(kind), quote(api_version)),
        };
        return Err(Status::bad_request(format!(
            "{kind} in version {} cannot be handled as a {}: {why}",
            quote(version),
            expected.kind
        )));
    }
    if (group, version) != (expected.group, expected.version) {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({want})"
        )));
    }
    Ok(())
}

/// The first bytes of a body, as Go's `%v` of a byte string in hexadecimal.
fn summary(body: &[u8]) -> String {
    use std::fmt::Write as _;
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let mut out = String::new();
    for byte in body.iter().take(SUMMARY_BYTES) {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    if body.len() > SUMMARY_BYTES {
        out.push_str(" ...");
    }
    out
}

#[cfg(test)]
mod tests;
