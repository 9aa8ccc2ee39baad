//! The error answers that authentication, authorization and admission give, in upstream's words.

use orlop_api::status::{Status, StatusCause, StatusDetails};

/// One field error of a 422 answer (upstream `field.Error`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// `FieldValueInvalid`, `FieldValueForbidden`, …
    pub reason: &'static str,
    pub field: String,
    /// The message without the field's name.
    pub message: String,
}

impl FieldError {
    /// `FIELD: Invalid value: VALUE: DETAIL`; `value` as Go's `%#v` prints it (strings quoted).
    pub fn invalid(field: impl Into<String>, value: &serde_json::Value, detail: &str) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value}: {detail}") }
    }

    /// `FIELD: Forbidden: DETAIL`.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {detail}") }
    }

    /// `FIELD: Required value[: DETAIL]`.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// `FIELD: Unsupported value: "V": supported values: "A", "B"`.
    pub fn not_supported(field: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!("Unsupported value: {value:?}: supported values: {}", list.join(", ")),
        }
    }
}

fn status(code: u16, reason: &str, message: String, details: Option<StatusDetails>) -> Status {
    Status { code, reason: reason.to_owned(), message, details }
}

fn details(group: &str, resource: &str, name: &str) -> StatusDetails {
    StatusDetails { name: name.to_owned(), group: group.to_owned(), kind: resource.to_owned(), ..StatusDetails::default() }
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// 401 with upstream's bare word, so that nothing about the credential leaks.
pub fn unauthorized() -> Status {
    status(401, "Unauthorized", "Unauthorized".to_owned(), None)
}

/// 403 `pods "x" is forbidden: WHY` (upstream `NewForbidden`).
pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Status {
    let message = match (resource.is_empty(), name.is_empty()) {
        (true, _) => format!("forbidden: {why}"),
        (false, true) => format!("{} is forbidden: {why}", qualified(group, resource)),
        (false, false) => format!("{} {name:?} is forbidden: {why}", qualified(group, resource)),
    };
    status(403, "Forbidden", message, Some(details(group, resource, name)))
}

/// 404 `namespaces "x" not found`.
pub fn not_found(group: &str, resource: &str, name: &str) -> Status {
    let message = format!("{} {name:?} not found", qualified(group, resource));
    status(404, "NotFound", message, Some(details(group, resource, name)))
}

/// 409 `Operation cannot be fulfilled on pods "x": WHY`.
pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Status {
    let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, resource));
    status(409, "Conflict", message, Some(details(group, resource, name)))
}

/// 400 with the message as it stands.
pub fn bad_request(message: impl Into<String>) -> Status {
    status(400, "BadRequest", message.into(), None)
}

/// 500 `Internal error occurred: WHY`.
pub fn internal(why: impl std::fmt::Display) -> Status {
    let cause = StatusCause { message: why.to_string(), ..StatusCause::default() };
    let details = StatusDetails { causes: vec![cause], ..StatusDetails::default() };
    status(500, "InternalError", format!("Internal error occurred: {why}"), Some(details))
}

/// 422 `Service "x" is invalid: FIELD: WHAT` (upstream `NewInvalid`; several errors in brackets).
pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Status {
    let texts: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
    let joined = if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) };
    let mut details = details(group, kind, name);
    details.causes = errors
        .iter()
        .map(|e| StatusCause { reason: e.reason.to_owned(), message: e.message.clone(), field: e.field.clone() })
        .collect();
    let message = format!("{} {name:?} is invalid: {joined}", qualified(group, kind));
    status(422, "Invalid", message, Some(details))
}
