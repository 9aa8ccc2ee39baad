//! `metav1.Status`: every error that a client sees, with upstream's codes, reasons and messages.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::field::{self, FieldError};
use crate::registry::ResourceInfo;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusCause {
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub field: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusDetails {
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub group: String,
    /// The plural resource, or for `Invalid` the kind (upstream mixes them too).
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub causes: Vec<StatusCause>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_seconds: Option<i32>,
}

/// An API error: HTTP `code`, machine `reason`, human `message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    pub code: u16,
    pub reason: String,
    pub message: String,
    /// Boxed: `Status` is the error of nearly every function, and most have none.
    pub details: Option<Box<StatusDetails>>,
}

/// A resource with its group, as messages print it: `pods`, `deployments.apps`.
///
/// Built from a registry row, from `(group, resource)`, or from the printed form itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupResource<'a> {
    pub group: &'a str,
    pub resource: &'a str,
}

impl fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(self.resource) } else { write!(f, "{}.{}", self.resource, self.group) }
    }
}

impl<'a> From<(&'a str, &'a str)> for GroupResource<'a> {
    fn from((group, resource): (&'a str, &'a str)) -> Self {
        Self { group, resource }
    }
}

impl<'a> From<&'a str> for GroupResource<'a> {
    fn from(text: &'a str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self { group, resource }
    }
}

impl From<&ResourceInfo> for GroupResource<'static> {
    fn from(info: &ResourceInfo) -> Self {
        Self { group: info.group, resource: info.plural }
    }
}

impl Status {
    /// A failure without details.
    pub fn new(code: u16, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: None }
    }

    fn about(code: u16, reason: &str, resource: GroupResource<'_>, name: &str, message: String) -> Self {
        let details = StatusDetails {
            name: name.to_owned(),
            group: resource.group.to_owned(),
            kind: resource.resource.to_owned(),
            ..StatusDetails::default()
        };
        Self { code, reason: reason.to_owned(), message, details: Some(Box::new(details)) }
    }

    /// 404 `pods "x" not found`
    pub fn not_found<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Self {
        let r = resource.into();
        Self::about(404, "NotFound", r, name, format!("{r} {} not found", field::quote(name)))
    }

    /// 404 for a path that nothing serves.
    pub fn path_not_found() -> Self {
        let details = StatusDetails::default();
        Self {
            details: Some(Box::new(details)),
            ..Self::new(404, "NotFound", "the server could not find the requested resource")
        }
    }

    /// 409 `pods "x" already exists`
    pub fn already_exists<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Self {
        let r = resource.into();
        Self::about(409, "AlreadyExists", r, name, format!("{r} {} already exists", field::quote(name)))
    }

    /// 409 after every generated name was taken.
    pub fn generate_name_conflict<'a>(resource: impl Into<GroupResource<'a>>, name: &str, retry_after_s: i32) -> Self {
        let r = resource.into();
        let message = format!(
            "{r} {} already exists, the server was not able to generate a unique name for the object",
            field::quote(name)
        );
        Self::about(409, "AlreadyExists", r, name, message).retry_after(retry_after_s)
    }

    /// 409 `Operation cannot be fulfilled on pods "x": the object has been modified; …`: a stale `resourceVersion`.
    pub fn conflict<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Self {
        Self::conflict_because(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 `Operation cannot be fulfilled on pods "x": WHY` (preconditions, finalizers, bindings).
    pub fn conflict_because<'a>(resource: impl Into<GroupResource<'a>>, name: &str, why: impl fmt::Display) -> Self {
        let r = resource.into();
        let message = format!("Operation cannot be fulfilled on {r} {}: {why}", field::quote(name));
        Self::about(409, "Conflict", r, name, message)
    }

    /// 409 of server-side apply; one cause (`FieldManagerConflict`) per field.
    pub fn apply_conflict(causes: Vec<StatusCause>, message: impl Into<String>) -> Self {
        let details = StatusDetails { causes, ..StatusDetails::default() };
        Self { details: Some(Box::new(details)), ..Self::new(409, "Conflict", message) }
    }

    /// 422 `Deployment.apps "x" is invalid: [spec.a: Required value, …]`
    pub fn invalid(kind: &str, group: &str, name: &str, errors: &[FieldError]) -> Self {
        let r = GroupResource { group, resource: kind };
        let message = if errors.is_empty() {
            format!("{r} {} is invalid", field::quote(name))
        } else {
            format!("{r} {} is invalid: {}", field::quote(name), field::aggregate(errors))
        };
        let mut status = Self::about(422, "Invalid", r, name, message);
        if let Some(details) = &mut status.details {
            details.causes = errors
                .iter()
                .map(|e| StatusCause {
                    reason: e.error_type.reason().to_owned(),
                    message: e.body(),
                    field: e.field.clone(),
                })
                .collect();
        }
        status
    }

    /// 403 `pods "x" is forbidden: WHY`; without a name `pods is forbidden: WHY`; without a resource `forbidden: WHY`.
    pub fn forbidden<'a>(resource: impl Into<GroupResource<'a>>, name: &str, why: impl fmt::Display) -> Self {
        let r = resource.into();
        let message = if r == GroupResource::default() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{r} is forbidden: {why}")
        } else {
            format!("{r} {} is forbidden: {why}", field::quote(name))
        };
        Self::about(403, "Forbidden", r, name, message)
    }

    /// 401 `Unauthorized`
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400 with the message as it is.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 405 `ACTION is not supported on resources of kind "pods"`
    pub fn method_not_supported<'a>(resource: impl Into<GroupResource<'a>>, action: &str) -> Self {
        let r = resource.into();
        let message = format!("{action} is not supported on resources of kind {}", field::quote(&r.to_string()));
        Self::about(405, "MethodNotAllowed", r, "", message)
    }

    /// 405 for a path that does not know the HTTP method.
    pub fn method_not_allowed() -> Self {
        let details = StatusDetails::default();
        Self {
            details: Some(Box::new(details)),
            ..Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        }
    }

    /// 406: no `Accept` alternative can be served.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {}", accepted.join(", ")))
    }

    /// 415: the `Content-Type` is none of `accepted`.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 413 `Request entity too large: WHY`
    pub fn request_entity_too_large(why: impl fmt::Display) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
    }

    /// 429 with a delay.
    pub fn too_many_requests(message: impl Into<String>, retry_after_s: i32) -> Self {
        Self::new(429, "TooManyRequests", message).retry_after(retry_after_s)
    }

    /// 410 `Expired`: a resource version or continue token that was compacted away.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410 for a watch or list from a revision older than `oldest`.
    pub fn too_old_resource_version(asked: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// 410 `Gone`
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Gone", message)
    }

    /// 504 `Timeout: WHY`: the operation may still complete.
    pub fn timeout(why: impl fmt::Display, retry_after_s: i32) -> Self {
        let status = Self::new(504, "Timeout", format!("Timeout: {why}"));
        status.retry_after(retry_after_s)
    }

    /// 500 `ServerTimeout`: transient; the client should try again.
    pub fn server_timeout<'a>(resource: impl Into<GroupResource<'a>>, operation: &str, retry_after_s: i32) -> Self {
        let r = resource.into();
        let message =
            format!("The {operation} operation against {r} could not be completed at this time, please try again.");
        Self::about(500, "ServerTimeout", r, operation, message).retry_after(retry_after_s)
    }

    /// 500 `Internal error occurred: WHY`
    pub fn internal(why: impl fmt::Display) -> Self {
        let why = why.to_string();
        let message = format!("Internal error occurred: {why}");
        let cause = StatusCause { message: why, ..StatusCause::default() };
        let details = StatusDetails { causes: vec![cause], ..StatusDetails::default() };
        Self { details: Some(Box::new(details)), ..Self::new(500, "InternalError", message) }
    }

    /// 503 with the message as it is.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// Puts `retryAfterSeconds` in; send it as `Retry-After` too.
    #[must_use]
    pub fn retry_after(mut self, seconds: i32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// Adds a cause to the details.
    #[must_use]
    pub fn with_cause(mut self, cause: StatusCause) -> Self {
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    pub fn is_not_found(&self) -> bool {
        self.reason == "NotFound"
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    /// The body that goes over the wire: `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",…}`.
    pub fn to_value(&self) -> Value {
        let mut out = Map::new();
        out.insert("kind".into(), "Status".into());
        out.insert("apiVersion".into(), "v1".into());
        out.insert("metadata".into(), json!({}));
        out.insert("status".into(), "Failure".into());
        if !self.message.is_empty() {
            out.insert("message".into(), self.message.as_str().into());
        }
        if !self.reason.is_empty() {
            out.insert("reason".into(), self.reason.as_str().into());
        }
        if let Some(details) = &self.details {
            // Strings, integers and lists of them always serialize.
            out.insert("details".into(), serde_json::to_value(details).unwrap_or_else(|_| json!({})));
        }
        out.insert("code".into(), self.code.into());
        Value::Object(out)
    }

    /// The answer to a delete that left no object: `status: Success` with what was deleted.
    pub fn success_value<'a>(resource: impl Into<GroupResource<'a>>, name: &str, uid: &str) -> Value {
        let r = resource.into();
        let details = StatusDetails {
            name: name.to_owned(),
            group: r.group.to_owned(),
            kind: r.resource.to_owned(),
            uid: uid.to_owned(),
            ..StatusDetails::default()
        };
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": serde_json::to_value(details).unwrap_or_else(|_| json!({})),
        })
    }

    /// `Success` with an HTTP code, as the pods/binding subresource answers (201).
    pub fn success_code_value(code: u16) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_upstreams() {
        let table: &[(Status, u16, &str, &str)] = &[
            (Status::not_found("pods", "x"), 404, "NotFound", r#"pods "x" not found"#),
            (Status::not_found(("apps", "deployments"), "x"), 404, "NotFound", r#"deployments.apps "x" not found"#),
            (
                Status::already_exists("deployments.apps", "x"),
                409,
                "AlreadyExists",
                r#"deployments.apps "x" already exists"#,
            ),
            (
                Status::conflict("deployments.apps", "x"),
                409,
                "Conflict",
                r#"Operation cannot be fulfilled on deployments.apps "x": the object has been modified; please apply your changes to the latest version and try again"#,
            ),
            (Status::forbidden("pods", "", "no"), 403, "Forbidden", "pods is forbidden: no"),
            (Status::forbidden("pods", "x", "no"), 403, "Forbidden", r#"pods "x" is forbidden: no"#),
            (Status::forbidden("", "", "no"), 403, "Forbidden", "forbidden: no"),
            (
                Status::method_not_supported("pods", "patch"),
                405,
                "MethodNotAllowed",
                r#"patch is not supported on resources of kind "pods""#,
            ),
            (
                Status::invalid(
                    "Deployment",
                    "apps",
                    "x",
                    &[FieldError::required("spec.a", ""), FieldError::forbidden("b", "no")],
                ),
                422,
                "Invalid",
                r#"Deployment.apps "x" is invalid: [spec.a: Required value, b: Forbidden: no]"#,
            ),
            (
                Status::invalid("Pod", "", "x", &[FieldError::required("spec.a", "")]),
                422,
                "Invalid",
                r#"Pod "x" is invalid: spec.a: Required value"#,
            ),
            (Status::internal("boom"), 500, "InternalError", "Internal error occurred: boom"),
            (Status::timeout("slow", 1), 504, "Timeout", "Timeout: slow"),
        ];
        for (status, code, reason, message) in table {
            assert_eq!((&status.code, status.reason.as_str(), status.message.as_str()), (code, *reason, *message));
        }
    }

    #[test]
    fn wire_form() {
        let status = Status::invalid("Pod", "", "x", &[FieldError::invalid("spec.a", "v", "bad")]);
        assert_eq!(
            status.to_value(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Pod \"x\" is invalid: spec.a: Invalid value: \"v\": bad", "reason": "Invalid",
                "details": {"name": "x", "kind": "Pod", "causes": [
                    {"reason": "FieldValueInvalid", "message": "Invalid value: \"v\": bad", "field": "spec.a"}]},
                "code": 422,
            })
        );
        assert_eq!(
            Status::success_value("pods", "x", "u"),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": {"name": "x", "kind": "pods", "uid": "u"}})
        );
    }
}
