//! `serviceaccounts/NAME/token`: `TokenRequest` (`kubectl create token`, projected volumes).

use orlop_api::field::FieldError;
use orlop_api::status::Status;
use serde_json::{Map, Value, json};

use super::UserInfo;
use super::tokens::{Claims, EXTENDED_EXPIRATION_S, KubernetesClaims, ObjectRef, TokenIssuer, WARN_ONLY_EXPIRATION_S};
use crate::admission::fields::{name, str_at, strings_at, uid};
use crate::reader::ObjectReader;

const GROUP: &str = "authentication.k8s.io";
const DEFAULT_EXPIRATION_S: i64 = 60 * 60;
const MIN_EXPIRATION_S: i64 = 10 * 60;
const MAX_EXPIRATION_S: i64 = 1 << 32;

/// `authentication.k8s.io/v1` TokenRequest: body in, body with `status{token,expirationTimestamp}` out.
/// Run authorization and admission (NodeRestriction) before it.
pub fn token_request(
    issuer: &TokenIssuer,
    reader: &dyn ObjectReader,
    user: &UserInfo,
    namespace: &str,
    service_account: &str,
    body: &Value,
) -> Result<Value, Status> {
    check_names(namespace, service_account, body)?;
    let account = reader
        .get("", "serviceaccounts", Some(namespace), service_account)
        .ok_or_else(|| Status::not_found("serviceaccounts", service_account))?;
    let asked_uid = uid(body);
    if !asked_uid.is_empty() && asked_uid != uid(&account) {
        let live = uid(&account);
        let why = format!(
            "the UID in the token request ({asked_uid}) does not match the UID of the service account ({live})"
        );
        return Err(Status::conflict_because((GROUP, "TokenRequest"), service_account, why));
    }
    let mut audiences = strings_at(body, "/spec/audiences");
    if audiences.is_empty() {
        audiences = issuer.api_audiences().to_vec();
    }
    let expiration_s = expiration(body)?;
    let bound = bound_objects(reader, namespace, service_account, body)?;

    let ours = audiences.iter().all(|a| issuer.api_audiences().contains(a));
    let extend = bound.pod.is_some() && expiration_s == WARN_ONLY_EXPIRATION_S && ours;
    let now = issuer.now();
    let now_s = now.as_second();
    let claims = Claims {
        aud: audiences.clone(),
        exp: now_s + if extend { EXTENDED_EXPIRATION_S } else { expiration_s },
        iat: now_s,
        nbf: now_s,
        jti: uuid::Uuid::new_v4().to_string(),
        sub: format!("system:serviceaccount:{namespace}:{service_account}"),
        kubernetes: KubernetesClaims {
            namespace: namespace.to_owned(),
            serviceaccount: reference(&account),
            warnafter: extend.then_some(now_s + expiration_s),
            ..bound
        },
        ..Claims::default()
    };
    let token = issuer.sign(&claims).map_err(|e| Status::internal(format!("failed to generate token: {e}")))?;
    tracing::debug!(user = %user.name, namespace, service_account, jti = %claims.jti, "service account token issued");
    let mut spec = Map::new();
    spec.insert("audiences".into(), json!(audiences));
    spec.insert("expirationSeconds".into(), json!(expiration_s));
    spec.insert("boundObjectRef".into(), body.pointer("/spec/boundObjectRef").cloned().unwrap_or(Value::Null));
    Ok(json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": service_account,
            "namespace": namespace,
            "uid": uid(&account),
            "creationTimestamp": seconds(now_s),
        },
        "spec": spec,
        // The requested life, not the extended one: the kubelet refreshes by it.
        "status": {"token": token, "expirationTimestamp": seconds(now_s + expiration_s)},
    }))
}

fn seconds(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s).map(|t| t.to_string()).unwrap_or_default()
}

fn reference(object: &Value) -> ObjectRef {
    ObjectRef { name: name(object).to_owned(), uid: uid(object).to_owned() }
}

fn invalid(errors: &[FieldError]) -> Status {
    Status::invalid("TokenRequest", GROUP, "", errors)
}

/// Names in the body, where there are any, are those of the path.
fn check_names(namespace: &str, service_account: &str, body: &Value) -> Result<(), Status> {
    let checks = [
        ("name", service_account, "must match the service account name if specified"),
        ("namespace", namespace, "must match the service account namespace if specified"),
    ];
    for (field, wanted, detail) in checks {
        let found = str_at(body, &format!("/metadata/{field}"));
        if !found.is_empty() && found != wanted {
            let error = FieldError::invalid(format!("metadata.{field}"), found, detail);
            return Err(Status::invalid("TokenRequest", GROUP, service_account, &[error]));
        }
    }
    Ok(())
}

fn expiration(body: &Value) -> Result<i64, Status> {
    let field = "spec.expirationSeconds";
    let seconds = match body.pointer("/spec/expirationSeconds") {
        None | Some(Value::Null) => return Ok(DEFAULT_EXPIRATION_S),
        Some(v) => v.as_i64().ok_or_else(|| invalid(&[FieldError::invalid(field, v.clone(), "must be an integer")]))?,
    };
    if seconds < MIN_EXPIRATION_S {
        let detail = "may not specify a duration less than 10 minutes";
        return Err(invalid(&[FieldError::invalid(field, seconds, detail)]));
    }
    if seconds > MAX_EXPIRATION_S {
        let detail = "may not specify a duration larger than 2^32 seconds";
        return Err(invalid(&[FieldError::invalid(field, seconds, detail)]));
    }
    Ok(seconds)
}

fn bound_objects(
    reader: &dyn ObjectReader,
    namespace: &str,
    service_account: &str,
    body: &Value,
) -> Result<KubernetesClaims, Status> {
    let mut bound = KubernetesClaims::default();
    let Some(asked) = body.pointer("/spec/boundObjectRef").filter(|r| !r.is_null()) else { return Ok(bound) };
    let (api_version, kind) = (str_at(asked, "/apiVersion"), str_at(asked, "/kind"));
    let (object_name, object_uid) = (str_at(asked, "/name"), str_at(asked, "/uid"));
    let (resource, scope) = match (api_version, kind) {
        ("v1", "Pod") => ("pods", Some(namespace)),
        ("v1", "Secret") => ("secrets", Some(namespace)),
        ("v1", "Node") => ("nodes", None),
        _ => {
            let text = format!("cannot bind token to object of type {api_version}, Kind={kind}");
            return Err(Status::bad_request(text));
        }
    };
    let live = reader.get("", resource, scope, object_name).ok_or_else(|| Status::not_found(resource, object_name))?;
    if kind == "Pod" && str_at(&live, "/spec/serviceAccountName") != service_account {
        let text = format!(
            "cannot bind token for serviceaccount {service_account:?} to pod running with different serviceaccount name."
        );
        return Err(Status::bad_request(text));
    }
    if !object_uid.is_empty() && object_uid != uid(&live) {
        let why = format!(
            "the UID in the bound object reference ({object_uid}) does not match the UID in record. \
             The object might have been deleted and then recreated"
        );
        return Err(Status::conflict_because(kind, object_name, why));
    }
    match kind {
        "Pod" => {
            bound.pod = Some(reference(&live));
            let node_name = str_at(&live, "/spec/nodeName");
            if !node_name.is_empty() {
                let node = reader.get("", "nodes", None, node_name);
                let uid = node.as_deref().map(uid).unwrap_or_default().to_owned();
                bound.node = Some(ObjectRef { name: node_name.to_owned(), uid });
            }
        }
        "Secret" => bound.secret = Some(reference(&live)),
        _ => bound.node = Some(reference(&live)),
    }
    Ok(bound)
}
