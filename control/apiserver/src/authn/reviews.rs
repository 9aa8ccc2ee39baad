//! `TokenReview` and `SelfSubjectReview`: body in, body with `status` out.

use orlop_api::status::Status;
use serde_json::{Map, Value, json};

use super::{Authenticator, UserInfo};
use crate::admission::fields::{str_at, strings_at};

/// `authentication.k8s.io/v1` TokenReview. A bad token is a good answer with `authenticated: false`.
pub fn token_review(authenticator: &Authenticator, body: &Value) -> Result<Value, Status> {
    let token = str_at(body, "/spec/token");
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = strings_at(body, "/spec/audiences");
    let status = match authenticator.authenticate_token(token, &audiences) {
        Ok((user, audiences)) => json!({"authenticated": true, "user": user_value(&user), "audiences": audiences}),
        Err(error) => json!({"user": {}, "error": error.to_string()}),
    };
    Ok(answer(body, "TokenReview", &status))
}

/// `authentication.k8s.io/v1` SelfSubjectReview (`kubectl auth whoami`).
pub fn self_subject_review(user: &UserInfo, body: &Value) -> Result<Value, Status> {
    Ok(answer(body, "SelfSubjectReview", &json!({"userInfo": user_value(user)})))
}

fn answer(body: &Value, kind: &str, status: &Value) -> Value {
    let mut out = Map::new();
    out.insert("kind".into(), kind.into());
    out.insert("apiVersion".into(), "authentication.k8s.io/v1".into());
    out.insert("metadata".into(), body.get("metadata").cloned().unwrap_or_else(|| json!({})));
    if let Some(spec) = body.get("spec") {
        out.insert("spec".into(), spec.clone());
    }
    out.insert("status".into(), status.clone());
    Value::Object(out)
}

/// `authentication.k8s.io/v1` UserInfo.
pub(crate) fn user_value(user: &UserInfo) -> Value {
    let mut out = Map::new();
    out.insert("username".into(), user.name.clone().into());
    if !user.uid.is_empty() {
        out.insert("uid".into(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        out.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        out.insert("extra".into(), json!(user.extra));
    }
    Value::Object(out)
}
