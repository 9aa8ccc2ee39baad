//! `SubjectAccessReview` and its relatives (`kubectl auth can-i`): body in, body with `status` out.

use std::collections::BTreeMap;
use std::sync::Arc;

use orlop_api::field::FieldError;
use orlop_api::status::Status;
use serde_json::{Map, Value, json};

use super::rule::Rule;
use super::{Attributes, Chain, Decision};
use crate::admission::fields::{list_at, str_at, strings_at};
use crate::authn::UserInfo;

const GROUP: &str = "authorization.k8s.io";

/// `authorization.k8s.io/v1` SubjectAccessReview.
pub fn subject_access_review(chain: &Chain, body: &Value) -> Result<Value, Status> {
    let kind = "SubjectAccessReview";
    let user = spec_user(kind, body)?;
    let attributes = attributes(kind, body, user)?;
    Ok(answer(kind, body, decide(chain, &attributes)))
}

/// `authorization.k8s.io/v1` LocalSubjectAccessReview; `namespace` is the request's.
pub fn local_subject_access_review(chain: &Chain, namespace: &str, body: &Value) -> Result<Value, Status> {
    let kind = "LocalSubjectAccessReview";
    let asked = str_at(body, "/spec/resourceAttributes/namespace");
    if asked != namespace {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    let user = spec_user(kind, body)?;
    let attributes = attributes(kind, body, user)?;
    if !attributes.resource_request {
        let error =
            FieldError::invalid("spec.nonResourceAttributes", Value::Null, "disallowed on this kind of request");
        return Err(Status::invalid(kind, GROUP, "", &[error]));
    }
    Ok(answer(kind, body, decide(chain, &attributes)))
}

/// `authorization.k8s.io/v1` SelfSubjectAccessReview.
pub fn self_subject_access_review(chain: &Chain, user: &Arc<UserInfo>, body: &Value) -> Result<Value, Status> {
    let kind = "SelfSubjectAccessReview";
    let attributes = attributes(kind, body, user.clone())?;
    Ok(answer(kind, body, decide(chain, &attributes)))
}

/// `authorization.k8s.io/v1` SelfSubjectRulesReview.
pub fn self_subject_rules_review(chain: &Chain, user: &Arc<UserInfo>, body: &Value) -> Result<Value, Status> {
    let namespace = str_at(body, "/spec/namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut resource_rules = Vec::new();
    let mut non_resource_rules = Vec::new();
    if user.in_group(UserInfo::MASTERS) {
        resource_rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        non_resource_rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    for rule in chain.rules_for(user, namespace) {
        let list = if rule.non_resource_urls.is_empty() { &mut resource_rules } else { &mut non_resource_rules };
        let value = Rule::to_value(&rule);
        if !list.contains(&value) {
            list.push(value);
        }
    }
    let is_node = super::node::node_identity(user).is_some();
    let mut status = json!({
        "resourceRules": resource_rules,
        "nonResourceRules": non_resource_rules,
        "incomplete": is_node,
    });
    if is_node {
        status["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    Ok(answer("SelfSubjectRulesReview", body, status))
}

fn answer(kind: &str, body: &Value, status: Value) -> Value {
    let mut out = Map::new();
    out.insert("kind".into(), kind.into());
    out.insert("apiVersion".into(), "authorization.k8s.io/v1".into());
    out.insert("metadata".into(), body.get("metadata").cloned().unwrap_or_else(|| json!({})));
    out.insert("spec".into(), body.get("spec").cloned().unwrap_or_else(|| json!({})));
    out.insert("status".into(), status);
    Value::Object(out)
}

fn decide(chain: &Chain, attributes: &Attributes) -> Value {
    let decision = chain.authorize(attributes);
    let mut status = Map::new();
    status.insert("allowed".into(), decision.is_allowed().into());
    if matches!(decision, Decision::Deny(_)) {
        status.insert("denied".into(), true.into());
    }
    if !decision.reason().is_empty() {
        status.insert("reason".into(), decision.reason().into());
    }
    Value::Object(status)
}

fn spec_user(kind: &str, body: &Value) -> Result<Arc<UserInfo>, Status> {
    let extra: BTreeMap<String, Vec<String>> = body
        .pointer("/spec/extra")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), strings_at(v, "")))
        .collect();
    let user = UserInfo {
        name: str_at(body, "/spec/user").to_owned(),
        uid: str_at(body, "/spec/uid").to_owned(),
        groups: strings_at(body, "/spec/groups"),
        extra,
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let error = FieldError::invalid("spec.user", "", "at least one of user or group must be specified");
        return Err(Status::invalid(kind, GROUP, "", &[error]));
    }
    Ok(Arc::new(user))
}

fn attributes(kind: &str, body: &Value, user: Arc<UserInfo>) -> Result<Attributes, Status> {
    let given = |key: &str| body.get("spec").and_then(|s| s.get(key)).filter(|v| !v.is_null());
    match (given("resourceAttributes"), given("nonResourceAttributes")) {
        (Some(r), None) => {
            let field = |key: &str| str_at(r, &format!("/{key}")).to_owned();
            Ok(Attributes {
                user,
                verb: field("verb"),
                resource: field("resource"),
                subresource: field("subresource"),
                api_group: field("group"),
                api_version: field("version"),
                namespace: field("namespace"),
                name: field("name"),
                path: String::new(),
                resource_request: true,
                field_selector: selector_text(r),
            })
        }
        (None, Some(n)) => Ok(Attributes {
            user,
            verb: str_at(n, "/verb").to_owned(),
            path: str_at(n, "/path").to_owned(),
            ..Attributes::default()
        }),
        (Some(_), Some(_)) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            let error = FieldError::invalid("spec.nonResourceAttributes", Value::Null, detail);
            Err(Status::invalid(kind, GROUP, "", &[error]))
        }
        (None, None) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let error = FieldError::invalid("spec.resourceAttributes", Value::Null, detail);
            Err(Status::invalid(kind, GROUP, "", &[error]))
        }
    }
}

/// `fieldSelector`, raw or as requirements of one value each, in the form of the query parameter.
fn selector_text(attributes: &Value) -> String {
    let raw = str_at(attributes, "/fieldSelector/rawSelector");
    if !raw.is_empty() {
        return raw.to_owned();
    }
    let terms: Vec<String> = list_at(attributes, "/fieldSelector/requirements")
        .iter()
        .filter(|r| str_at(r, "/operator") == "In" && list_at(r, "/values").len() == 1)
        .map(|r| format!("{}={}", str_at(r, "/key"), str_at(r, "/values/0")))
        .collect();
    terms.join(",")
}
