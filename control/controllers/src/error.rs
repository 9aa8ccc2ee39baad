//! What makes a reconcile fail; all of it is retried with back-off.

/// Why a key must be reconciled again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControllerError {
    #[error("{verb} {what}")]
    Api {
        verb: &'static str,
        what: String,
        #[source]
        source: kube::Error,
    },
    #[error("the cache has not seen this controller's own writes yet")]
    Behind,
    #[error("{what} has an invalid selector")]
    Selector { what: String },
    #[error("{what}: {detail}")]
    Object { what: String, detail: String },
    #[error("{remaining} objects remain in namespace {namespace}")]
    ContentRemains { namespace: String, remaining: usize },
}

pub(crate) type Result<T, E = ControllerError> = std::result::Result<T, E>;

/// Names the call that failed.
pub(crate) fn api<'a>(
    verb: &'static str,
    what: impl std::fmt::Display + 'a,
) -> impl FnOnce(kube::Error) -> ControllerError + 'a {
    move |source| ControllerError::Api { verb, what: what.to_string(), source }
}

pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
}

pub(crate) fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "AlreadyExists")
}

/// A create refused because its namespace goes away: nothing to retry.
pub(crate) fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let cause = |c: &kube::core::response::StatusCause| c.reason == "NamespaceTerminating";
    status.code == 403
        && (status.details.as_ref().is_some_and(|d| d.causes.iter().any(cause))
            || status.message.contains("is being terminated"))
}

/// `Ok(None)` where the object is gone.
pub(crate) fn found<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Ok(object) => Ok(Some(object)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The message of a failed call, with everything below it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// What the server said, as upstream's events and conditions show it.
pub(crate) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => chain(other),
    }
}
