//! The three patch formats that change what is there: JSON patch, JSON merge patch, strategic merge patch.
//!
//! [`apply`] takes the stored object and a body and returns the new object, conformed to its kind. Everything is
//! bounded: operations, bytes that `copy` may add, nesting. Server-side apply is [`crate::apply`].

pub mod json;
pub mod merge;
pub mod strategic;

use serde_json::Value;

use crate::field::FieldError;
use crate::meta;
use crate::schema::{self, Struct};
use crate::status::{Status, StatusCause};
use crate::strict::{self, DecodeError, Decoded, Expected, FieldValidation, Format};

/// Nesting that a stored object may have: the JSON reader takes 128.
pub const MAX_DEPTH: usize = 120;

/// By `Content-Type` of the PATCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PatchType {
    Json,
    Merge,
    StrategicMerge,
    /// Server-side apply.
    Apply,
}

impl PatchType {
    /// What an unsupported media type is told.
    pub const ACCEPTED: [&'static str; 4] = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ];

    /// Parameters are ignored.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::StrategicMerge),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }
}

/// Applies a JSON, merge or strategic merge patch to `current` and returns the conformed result.
///
/// # Errors
/// 400 for a patch that can't be read, 413 for one that is too large, 415 for a format that the kind doesn't take, 422
/// for one that doesn't fit the object.
pub fn apply<'a>(
    patch_type: PatchType,
    current: &Value,
    body: &[u8],
    expected: impl Into<Expected<'a>>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let expected = expected.into();
    let schema = schema::of(expected.group, expected.version, expected.kind);
    let (mut object, mut warnings) = match patch_type {
        PatchType::Json => (json::apply(current, body)?, Vec::new()),
        PatchType::Merge => {
            let (patch, repeated) = read(body)?;
            let mut object = current.clone();
            merge::apply(&mut object, patch);
            (object, repeated)
        }
        PatchType::StrategicMerge => {
            let Some(schema) = schema else {
                return Err(Status::unsupported_media_type(&[
                    PatchType::ACCEPTED[0],
                    PatchType::ACCEPTED[1],
                    PatchType::ACCEPTED[3],
                ]));
            };
            let (patch, repeated) = read(body)?;
            (strategic::apply(current.clone(), patch, schema).map_err(|e| e.status())?, repeated)
        }
        PatchType::Apply => return Err(Status::internal("server-side apply has its own path")),
    };
    if exceeds_depth(&object, MAX_DEPTH) {
        return Err(unprocessable(&format!("the result nests deeper than {MAX_DEPTH} levels")));
    }
    if !object.is_object() {
        return Err(unprocessable("the result is no object"));
    }
    for (key, want, got) in [
        ("apiVersion", meta::api_version(current), meta::api_version(&object)),
        ("kind", meta::kind(current), meta::kind(&object)),
    ] {
        if want != got {
            let error = FieldError::invalid(key, got, "must not be changed by a patch");
            return Err(Status::invalid(expected.kind, expected.group, meta::name(current), &[error]));
        }
    }
    match validation {
        FieldValidation::Ignore => warnings.clear(),
        FieldValidation::Strict if !warnings.is_empty() => {
            return Err(does_not_fit(body, &DecodeError::Strict(warnings)));
        }
        _ => {}
    }
    warnings.extend(conformed(&mut object, schema, validation).map_err(|error| does_not_fit(body, &error))?);
    Ok(Decoded { object, warnings })
}

fn conformed(
    object: &mut Value,
    schema: Option<&Struct>,
    validation: FieldValidation,
) -> Result<Vec<String>, DecodeError> {
    schema.map_or_else(|| Ok(Vec::new()), |schema| strict::conform(object, schema, validation))
}

fn read(body: &[u8]) -> Result<(Value, Vec<String>), Status> {
    let (patch, repeated) =
        strict::parse(body, Format::Json).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    if !patch.is_object() {
        return Err(Status::bad_request("error decoding patch: the patch is no JSON object"));
    }
    Ok((patch, repeated))
}

/// 422 ` "" is invalid: patch: Invalid value: "…": WHY`
fn does_not_fit(body: &[u8], why: &DecodeError) -> Status {
    let body = String::from_utf8_lossy(body);
    Status::invalid("", "", "", &[FieldError::invalid("patch", body.as_ref(), why.to_string())])
}

/// 422 in the words that upstream has for every patch that can't be carried out; the reason goes into a cause.
pub(crate) fn unprocessable(why: &str) -> Status {
    let cause = StatusCause { reason: String::new(), message: why.to_owned(), field: "patch".to_owned() };
    Status::new(422, "Invalid", "the server rejected our request due to an error in our request").with_cause(cause)
}

/// Whether `value` nests deeper than `limit`; looks no deeper than that.
pub(crate) fn exceeds_depth(value: &Value, limit: usize) -> bool {
    match value {
        Value::Array(items) => limit == 0 || items.iter().any(|v| exceeds_depth(v, limit - 1)),
        Value::Object(map) => limit == 0 || map.values().any(|v| exceeds_depth(v, limit - 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
