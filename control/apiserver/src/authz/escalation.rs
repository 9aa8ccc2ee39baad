//! Nobody grants what they don't hold (upstream `rbac/*/policybased`), unless `escalate` or `bind` lets them.

use std::sync::Arc;

use orlop_api::status::Status;
use serde_json::Value;

use super::rbac::GROUP;
use super::rule::{Rule, uncovered};
use super::{Attributes, Chain};
use crate::admission::fields::{list_at, name, str_at};
use crate::authn::UserInfo;

/// A create (`old` is none) or update of a Role or ClusterRole.
pub(crate) fn check_role(
    chain: &Chain,
    user: &Arc<UserInfo>,
    resource: &str,
    namespace: &str,
    role: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if user.in_group(UserInfo::MASTERS) || allowed(chain, user, "escalate", resource, namespace, name(role)) {
        return Ok(());
    }
    let aggregates = |r: &Value| !list_at(r, "/aggregationRule/clusterRoleSelectors").is_empty();
    let unchanged = old.is_some_and(|o| {
        o.get("rules").unwrap_or(&Value::Null) == role.get("rules").unwrap_or(&Value::Null)
            && o.get("aggregationRule") == role.get("aggregationRule")
    });
    if unchanged {
        return Ok(());
    }
    let refuse = |why: String| Status::forbidden((GROUP, resource), name(role), why);
    if aggregates(role) || old.is_some_and(aggregates) {
        let everything = [
            Rule { verbs: star(), api_groups: star(), resources: star(), ..Rule::default() },
            Rule { verbs: star(), non_resource_urls: star(), ..Rule::default() },
        ];
        confirm(chain, user, namespace, &everything)
            .map_err(|e| refuse(format!("must have cluster-admin privileges to use an aggregationRule: {e}")))?;
    }
    confirm(chain, user, namespace, &Rule::all_of(role)).map_err(refuse)
}

/// A create or update of a RoleBinding or ClusterRoleBinding.
pub(crate) fn check_binding(
    chain: &Chain,
    user: &Arc<UserInfo>,
    resource: &str,
    namespace: &str,
    binding: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if user.in_group(UserInfo::MASTERS) {
        return Ok(());
    }
    let same = |key: &str| old.is_some_and(|o| o.get(key) == binding.get(key));
    if same("roleRef") && same("subjects") {
        return Ok(());
    }
    let (kind, role) = (str_at(binding, "/roleRef/kind"), str_at(binding, "/roleRef/name"));
    let plural = if kind == "ClusterRole" { "clusterroles" } else { "roles" };
    if allowed(chain, user, "bind", plural, namespace, role) {
        return Ok(());
    }
    let rules = chain.role_rules(kind, namespace, role).ok_or_else(|| Status::not_found((GROUP, plural), role))?;
    confirm(chain, user, namespace, &rules).map_err(|why| Status::forbidden((GROUP, resource), name(binding), why))
}

fn star() -> Vec<String> {
    vec!["*".to_owned()]
}

fn allowed(chain: &Chain, user: &Arc<UserInfo>, verb: &str, resource: &str, namespace: &str, role: &str) -> bool {
    let attributes = Attributes {
        user: user.clone(),
        verb: verb.to_owned(),
        api_group: GROUP.to_owned(),
        api_version: "*".to_owned(),
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        name: role.to_owned(),
        resource_request: true,
        ..Attributes::default()
    };
    chain.authorize(&attributes).is_allowed()
}

fn confirm(chain: &Chain, user: &UserInfo, namespace: &str, wanted: &[Rule]) -> Result<(), String> {
    let missing = uncovered(&chain.rules_for(user, namespace), wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let mut list: Vec<String> = compact(missing).iter().map(ToString::to_string).collect();
    list.sort();
    let groups: Vec<String> = user.groups.iter().map(|g| orlop_api::field::quote(g)).collect();
    Err(format!(
        "user {} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        orlop_api::field::quote(&user.name),
        groups.join(" "),
        list.join("\n")
    ))
}

/// Rules that differ only in their verb, as one (upstream `CompactRules`).
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        let twin = out.iter_mut().find(|o| {
            o.api_groups == rule.api_groups
                && o.resources == rule.resources
                && o.resource_names == rule.resource_names
                && o.non_resource_urls == rule.non_resource_urls
        });
        match twin {
            Some(twin) => twin.verbs.extend(rule.verbs),
            None => out.push(rule),
        }
    }
    out
}
