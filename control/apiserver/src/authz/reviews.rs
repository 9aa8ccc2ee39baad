//! `SubjectAccessReview` and its relatives (`kubectl auth can-i`): body in, body with `status` out.

use std::sync::Arc;

use orlop_api::status::Status;
use serde_json::Value;

use super::Chain;
use crate::authn::UserInfo;

/// `authorization.k8s.io/v1` SubjectAccessReview.
pub fn subject_access_review(chain: &Chain, body: &Value) -> Result<Value, Status> {
    let _ = chain;
    Ok(body.clone())
}

/// `authorization.k8s.io/v1` LocalSubjectAccessReview; `namespace` is the request's.
pub fn local_subject_access_review(chain: &Chain, namespace: &str, body: &Value) -> Result<Value, Status> {
    let _ = (chain, namespace);
    Ok(body.clone())
}

/// `authorization.k8s.io/v1` SelfSubjectAccessReview.
pub fn self_subject_access_review(chain: &Chain, user: &Arc<UserInfo>, body: &Value) -> Result<Value, Status> {
    let _ = (chain, user);
    Ok(body.clone())
}

/// `authorization.k8s.io/v1` SelfSubjectRulesReview.
pub fn self_subject_rules_review(chain: &Chain, user: &Arc<UserInfo>, body: &Value) -> Result<Value, Status> {
    let _ = (chain, user);
    Ok(body.clone())
}
