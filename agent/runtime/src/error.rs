//! What can go wrong between us and the runtime, and whether it is worth trying again.

use tonic::Code;

/// When the caller may repeat what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At once: the object is already as wanted, or its state has to be read again.
    Now,
    /// Later: the runtime is away, busy or slow.
    Backoff,
    /// Not at all: the same request will fail again.
    Never,
}

/// A bad `--container-runtime-endpoint` or `--image-service-endpoint`.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Only unix sockets are spoken to.
    #[error("container runtime endpoint {endpoint:?} is not a unix socket: write unix:///path/to/socket")]
    NotUnix { endpoint: String },
    /// `unix://` with a relative or empty path.
    #[error("container runtime endpoint {endpoint:?} needs an absolute path")]
    NotAbsolute { endpoint: String },
}

/// A CRI call that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The runtime answered with an error, or could not be reached (`Unavailable`).
    #[error("{call}: rpc error: code = {code:?} desc = {message}")]
    Call { call: &'static str, code: Code, message: String },
    /// No answer within the time limit of the call.
    #[error("{call}: no answer from {endpoint} within {limit_ms} ms")]
    Deadline { call: &'static str, endpoint: String, limit_ms: u128 },
    /// The answer misses something that CRI demands.
    #[error("{call}: the runtime's answer has no {missing}")]
    Incomplete { call: &'static str, missing: &'static str },
    /// The runtime does not speak CRI v1.
    #[error("container runtime {name} at {endpoint} speaks CRI {version}, wanted v1")]
    Version { endpoint: String, name: String, version: String },
}

impl RuntimeError {
    pub(crate) fn call(call: &'static str, status: &tonic::Status) -> Self {
        Self::Call { call, code: status.code(), message: status.message().to_owned() }
    }

    /// What the caller may do next.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Call { code, .. } => match code {
                Code::NotFound | Code::AlreadyExists | Code::Aborted => Retry::Now,
                Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied | Code::OutOfRange => Retry::Never,
                _ => Retry::Backoff,
            },
            Self::Deadline { .. } => Retry::Backoff,
            Self::Incomplete { .. } => Retry::Backoff,
            Self::Version { .. } => Retry::Never,
        }
    }

    /// The object is gone: success for whoever wanted to stop or remove it.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Call { code: Code::NotFound, .. })
    }

    /// The runtime is too old for this call.
    #[must_use]
    pub fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Call { code: Code::Unimplemented, .. })
    }

    /// The runtime itself gave up on its time limit (exec), or we did.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::Deadline { .. } | Self::Call { code: Code::DeadlineExceeded, .. })
    }

    /// The socket is dead or nobody listens.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Call { code: Code::Unavailable, .. })
    }

    /// What went wrong, without the code that the runtime gave it: what upstream says about containers.
    #[must_use]
    pub fn description(&self) -> String {
        match self {
            Self::Call { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    /// The runtime's own words with the code, without our context: what upstream says about sandboxes and images.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Call { code, message, .. } => {
                format!("rpc error: code = {code:?} desc = {message}")
            }
            other => other.to_string(),
        }
    }
}
