//! Error answers beyond those that [`Status`] makes itself.

use orlop_api::field::FieldError;
use orlop_api::registry::ResourceInfo;
use orlop_api::status::{Status, StatusCause, StatusDetails};
use orlop_store::StoreError;

/// client-go recognises this cause and lists anew with resourceVersion "".
pub(crate) fn too_large_resource_version(wanted: i64, current: i64) -> Status {
    Status {
        code: 504,
        reason: "Timeout".into(),
        message: format!("Timeout: Too large resource version: {wanted}, current: {current}"),
        details: Some(Box::new(StatusDetails {
            causes: vec![StatusCause {
                reason: "ResourceVersionTooLarge".into(),
                message: "Too large resource version".into(),
                field: String::new(),
            }],
            retry_after_seconds: Some(1),
            ..StatusDetails::default()
        })),
    }
}

pub(crate) fn too_old(wanted: i64, oldest: i64) -> Status {
    Status::expired(format!("too old resource version: {wanted} ({oldest})"))
}

pub(crate) fn bad_gateway(message: impl Into<String>) -> Status {
    Status::new(502, "BadGateway", message)
}

/// 422 for one field of an object.
pub(crate) fn invalid(row: &ResourceInfo, name: &str, errors: &[FieldError]) -> Status {
    Status::invalid(row.kind, row.group, name, errors)
}

pub(crate) fn from_store(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => {
            Status::expired("The resourceVersion for the provided list is too old. Please list again without it.")
        }
        StoreError::FutureRevision { revision, current } => too_large_resource_version(*revision, *current),
        StoreError::TooLarge { .. } => Status::request_entity_too_large(error),
        StoreError::Closed => Status::service_unavailable("the store is closed; the server is shutting down"),
        StoreError::NoSpace { .. } => Status::new(507, "InternalError", format!("Internal error occurred: {error}")),
        _ => Status::internal(with_sources(error)),
    }
}

/// An error and what caused it, in one line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(s) = source {
        text.push_str(": ");
        text.push_str(&s.to_string());
        source = s.source();
    }
    text
}

/// Others were quicker too often.
pub(crate) fn contended(row: &ResourceInfo, name: &str) -> Status {
    Status::conflict_because(row, name, "too many concurrent writes; please try again")
}
