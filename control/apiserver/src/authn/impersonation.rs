//! `Impersonate-User`, `-Group`, `-Uid`, `-Extra-*`: acting as somebody else, where RBAC lets one.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use orlop_api::status::Status;

use super::UserInfo;
use super::request_header::{extra_headers, header_values};
use super::tokens::service_account_groups;
use crate::authz::{self, Attributes};

/// The user to go on with: the caller, or whom it may impersonate.
/// The caller removes the `Impersonate-*` headers before it passes the request on.
pub fn impersonate(
    headers: &HeaderMap,
    user: &Arc<UserInfo>,
    authorizer: &authz::Chain,
) -> Result<Arc<UserInfo>, Status> {
    let name = header_values(headers, "impersonate-user").into_iter().next().unwrap_or_default();
    let groups = header_values(headers, "impersonate-group");
    let uid = header_values(headers, "impersonate-uid").into_iter().next().unwrap_or_default();
    let extra = extra_headers(headers, "impersonate-extra-");
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(user.clone());
        }
        return Err(Status::bad_request("requested to impersonate groups, uid or extra without impersonating a user"));
    }
    for attributes in needed(user, &name, &groups, &uid, &extra) {
        let decision = authorizer.authorize(&attributes);
        if !decision.is_allowed() {
            return Err(authz::forbidden(&attributes, decision.reason()));
        }
    }
    tracing::debug!(user = %user.name, impersonated = %name, "impersonation");
    Ok(Arc::new(impersonated(name, groups, uid, extra)))
}

/// `system:serviceaccount:NAMESPACE:NAME` taken apart.
pub(crate) fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// One `impersonate` question per thing that is taken on.
fn needed(
    user: &Arc<UserInfo>,
    name: &str,
    groups: &[String],
    uid: &str,
    extra: &BTreeMap<String, Vec<String>>,
) -> Vec<Attributes> {
    let ask = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| Attributes {
        user: user.clone(),
        verb: "impersonate".to_owned(),
        api_group: group.to_owned(),
        api_version: "v1".to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        resource_request: true,
        ..Attributes::default()
    };
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let mut all = vec![match split_service_account(name) {
        Some((namespace, account)) => ask("", "serviceaccounts", "", namespace, account),
        None => ask("", "users", "", "", name),
    }];
    all.extend(groups.iter().map(|g| ask("", "groups", "", "", g)));
    if !uid.is_empty() {
        all.push(ask(AUTHENTICATION, "uids", "", "", uid));
    }
    for (key, values) in extra {
        all.extend(values.iter().map(|v| ask(AUTHENTICATION, "userextras", key, "", v)));
    }
    all
}

fn impersonated(name: String, mut groups: Vec<String>, uid: String, extra: BTreeMap<String, Vec<String>>) -> UserInfo {
    if groups.is_empty()
        && let Some((namespace, _)) = split_service_account(&name)
    {
        groups = service_account_groups(namespace);
    }
    let implied = if name == UserInfo::ANONYMOUS { UserInfo::UNAUTHENTICATED } else { UserInfo::AUTHENTICATED };
    let told = groups.iter().any(|g| g == UserInfo::AUTHENTICATED || g == UserInfo::UNAUTHENTICATED);
    if !told {
        groups.push(implied.to_owned());
    }
    UserInfo { name, uid, groups, extra }
}
