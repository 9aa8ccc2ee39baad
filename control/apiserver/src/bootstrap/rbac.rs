//! The bootstrap RBAC policy as objects, and its reconciliation.
//!
//! As upstream: what is missing is put back, what somebody added stays, and an object with the
//! annotation `rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone.

use std::sync::Arc;

use orlop_api::status::Status;
use serde_json::{Value, json};

use super::controller_policy::{CONTROLLER_ROLES, ROLE_BINDINGS, ROLES};
use super::each;
use super::policy::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, RuleRow};
use crate::admission::fields::{annotation, list_at, name, namespace};
use crate::authz::rbac::{GROUP, effective_rules};
use crate::authz::rule::{Rule, uncovered};
use crate::reader::{Object, ObjectReader};

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
/// All controllers of ours act under one identity: this role is the sum of upstream's roles for each.
const ALL_CONTROLLERS: &str = "orlop:controllers";

fn rule(row: &RuleRow) -> Rule {
    let list = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let (verbs, groups, resources, names) = row;
    let (resources, urls) = if groups.is_empty() { ("", *resources) } else { (*resources, "") };
    let mut api_groups = list(groups);
    for group in &mut api_groups {
        if group == "core" {
            group.clear();
        }
    }
    Rule {
        verbs: list(verbs),
        api_groups,
        resources: list(resources),
        resource_names: list(names),
        non_resource_urls: list(urls),
    }
}

fn rules(rows: &[RuleRow]) -> Vec<Rule> {
    rows.iter().map(rule).collect()
}

fn values(rules: &[Rule]) -> Value {
    rules.iter().map(Rule::to_value).collect()
}

/// What every node may do alike (upstream `bootstrappolicy.NodeRules`).
pub(crate) fn node_rules() -> Vec<Rule> {
    CLUSTER_ROLES.iter().find(|r| r.name == "system:node").map(|r| rules(r.rules)).unwrap_or_default()
}

fn metadata(object_name: &str, object_namespace: Option<&str>) -> Value {
    let mut out = json!({
        "name": object_name,
        "annotations": {AUTOUPDATE: "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
    });
    if let Some(ns) = object_namespace {
        out["namespace"] = ns.into();
    }
    out
}

fn cluster_role(role_name: &str, rules: &[Rule]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": metadata(role_name, None),
        "rules": values(rules),
    })
}

fn aggregation_label(to: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{to}")
}

/// All ClusterRoles; aggregating ones already with their rules.
pub(super) fn cluster_roles() -> Vec<Value> {
    let mut out: Vec<Value> = CLUSTER_ROLES
        .iter()
        .map(|row| {
            let mut role = cluster_role(row.name, &rules(row.rules));
            if !row.aggregates_to.is_empty() {
                role["metadata"]["labels"][aggregation_label(row.aggregates_to)] = "true".into();
            }
            if !row.aggregates_from.is_empty() {
                let mut labels = serde_json::Map::new();
                labels.insert(aggregation_label(row.aggregates_from), "true".into());
                role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
            }
            role
        })
        .collect();
    let mut sum: Vec<Rule> = Vec::new();
    for (controller, rows) in CONTROLLER_ROLES {
        let own = rules(rows);
        out.push(cluster_role(&format!("system:controller:{controller}"), &own));
        let missing = uncovered(&sum, &own);
        sum.extend(missing);
    }
    out.push(cluster_role(ALL_CONTROLLERS, &compacted(sum)));
    let shared: Vec<Object> = out.iter().cloned().map(Arc::new).collect();
    for role in &mut out {
        if role.get("aggregationRule").is_some() {
            role["rules"] = values(&effective_rules(role, &shared));
        }
    }
    out
}

/// One rule per set of verbs and group, so that the sum of all controllers stays readable.
fn compacted(atoms: Vec<Rule>) -> Vec<Rule> {
    let mut by_resource: Vec<Rule> = Vec::new();
    for atom in atoms {
        let twin = by_resource.iter_mut().find(|r| {
            r.api_groups == atom.api_groups
                && r.resources == atom.resources
                && r.resource_names == atom.resource_names
                && r.non_resource_urls == atom.non_resource_urls
        });
        match twin {
            Some(twin) => twin.verbs.extend(atom.verbs),
            None => by_resource.push(atom),
        }
    }
    let mut out: Vec<Rule> = Vec::new();
    for mut rule in by_resource {
        rule.verbs.sort();
        let twin = out.iter_mut().find(|r| {
            r.verbs == rule.verbs
                && r.api_groups == rule.api_groups
                && r.resource_names == rule.resource_names
                && r.non_resource_urls.is_empty() == rule.non_resource_urls.is_empty()
        });
        match twin {
            Some(twin) => {
                twin.resources.extend(rule.resources);
                twin.non_resource_urls.extend(rule.non_resource_urls);
            }
            None => out.push(rule),
        }
    }
    out
}

fn subject(kind: &str, subject_name: &str) -> Value {
    if kind == "ServiceAccount" {
        json!({"kind": kind, "name": subject_name, "namespace": "kube-system"})
    } else {
        json!({"apiGroup": GROUP, "kind": kind, "name": subject_name})
    }
}

fn binding(kind: &str, metadata: &Value, role_kind: &str, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
    })
}

/// Puts rows of one binding together.
fn add_subject(out: &mut Vec<Value>, fresh: Value, kind: &str, subject_name: &str) {
    let key = |v: &Value| (namespace(v).to_owned(), name(v).to_owned());
    let at = match out.iter().position(|b| key(b) == key(&fresh)) {
        Some(at) => at,
        None => {
            out.push(fresh);
            out.len() - 1
        }
    };
    if kind.is_empty() {
        return;
    }
    if let Some(list) = out.get_mut(at).and_then(|b| crate::admission::fields::list_mut(b, "subjects")) {
        list.push(subject(kind, subject_name));
    }
}

pub(super) fn cluster_role_bindings() -> Vec<Value> {
    let mut out = Vec::new();
    for (binding_name, role, kind, subject_name) in CLUSTER_ROLE_BINDINGS {
        let fresh = binding("ClusterRoleBinding", &metadata(binding_name, None), "ClusterRole", role);
        add_subject(&mut out, fresh, kind, subject_name);
    }
    for (controller, _) in CONTROLLER_ROLES {
        let role = format!("system:controller:{controller}");
        let fresh = binding("ClusterRoleBinding", &metadata(&role, None), "ClusterRole", &role);
        add_subject(&mut out, fresh, "ServiceAccount", controller);
    }
    let fresh = binding("ClusterRoleBinding", &metadata(ALL_CONTROLLERS, None), "ClusterRole", ALL_CONTROLLERS);
    add_subject(&mut out, fresh, "User", CONTROLLER_MANAGER);
    out
}

pub(super) fn roles() -> Vec<Value> {
    ROLES
        .iter()
        .map(|(ns, role_name, rows)| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "metadata": metadata(role_name, Some(ns)),
                "rules": values(&rules(rows)),
            })
        })
        .collect()
}

pub(super) fn role_bindings() -> Vec<Value> {
    let mut out = Vec::new();
    for (ns, binding_name, role, kind, subject_name) in ROLE_BINDINGS {
        let fresh = binding("RoleBinding", &metadata(binding_name, Some(ns)), "Role", role);
        add_subject(&mut out, fresh, kind, subject_name);
    }
    out
}

/// Creates and repairs the whole policy.
pub(super) async fn reconcile(reader: &Arc<dyn ObjectReader>) -> Result<(), Status> {
    let mut work: Vec<(&'static str, Value)> = Vec::new();
    for (resource, objects) in [
        ("clusterroles", cluster_roles()),
        ("clusterrolebindings", cluster_role_bindings()),
        ("roles", roles()),
        ("rolebindings", role_bindings()),
    ] {
        work.extend(objects.into_iter().map(|o| (resource, o)));
    }
    each(work, |(resource, wanted)| reconcile_one(reader, resource, wanted)).await
}

async fn reconcile_one(reader: &Arc<dyn ObjectReader>, resource: &'static str, wanted: Value) -> Result<(), Status> {
    let scope = namespace(&wanted).to_owned();
    let scope = (!scope.is_empty()).then_some(scope);
    for _ in 0..3 {
        let Some(live) = reader.get(GROUP, resource, scope.as_deref(), name(&wanted)) else {
            match reader.create(GROUP, resource, wanted.clone()).await {
                Err(e) if e.is_already_exists() => continue,
                done => return done.map(|_| ()),
            }
        };
        // roleRef is immutable: a binding that points elsewhere is made anew.
        if let (Some(have), Some(want)) = (live.get("roleRef"), wanted.get("roleRef"))
            && have.get("name") != want.get("name")
            && annotation(&live, AUTOUPDATE) != Some("false")
        {
            match reader.delete(GROUP, resource, scope.as_deref(), name(&wanted)).await {
                Err(e) if !e.is_not_found() => return Err(e),
                _ => continue,
            }
        }
        let Some(next) = repaired(&live, &wanted) else { return Ok(()) };
        match reader.update(GROUP, resource, next).await {
            Err(e) if e.is_conflict() || e.is_not_found() => continue,
            done => return done.map(|_| ()),
        }
    }
    Err(Status::conflict((GROUP, resource), name(&wanted)))
}

/// `live` with what it lacks of `wanted`; `None` when it lacks nothing.
pub(super) fn repaired(live: &Value, wanted: &Value) -> Option<Value> {
    if annotation(live, AUTOUPDATE) == Some("false") {
        return None;
    }
    let mut next = live.clone();
    for key in ["labels", "annotations"] {
        let wanted_map = wanted.pointer(&format!("/metadata/{key}")).and_then(Value::as_object);
        for (k, v) in wanted_map.into_iter().flatten() {
            if next["metadata"][key].get(k).is_none() {
                next["metadata"][key][k] = v.clone();
            }
        }
    }
    if let Some(aggregation) = wanted.get("aggregationRule") {
        // Rules of aggregating roles are kept by `materialize_aggregation`.
        next["aggregationRule"] = aggregation.clone();
    } else if let Some(rules) = wanted.get("rules").and_then(Value::as_array) {
        let wanted_rules: Vec<Rule> = rules.iter().map(Rule::from_value).collect();
        let owned = Rule::all_of(live);
        let missing: Vec<Value> = wanted_rules
            .iter()
            .filter(|r| !uncovered(&owned, std::slice::from_ref(*r)).is_empty())
            .map(Rule::to_value)
            .collect();
        if !missing.is_empty() {
            crate::admission::fields::list_mut(&mut next, "rules")?.extend(missing);
        }
    }
    for subject in list_at(wanted, "/subjects") {
        let there = list_at(live, "/subjects")
            .iter()
            .any(|s| ["kind", "name", "namespace"].iter().all(|k| s.get(k) == subject.get(k)));
        if !there {
            crate::admission::fields::list_mut(&mut next, "subjects")?.push(subject.clone());
        }
    }
    (next != *live).then_some(next)
}

/// Writes the rules of aggregating ClusterRoles into them, for those who read the object
/// (decisions use [`effective_rules`] directly and don't wait for this).
pub(super) async fn materialize_aggregation(reader: &Arc<dyn ObjectReader>) -> Result<(), Status> {
    let all = reader.list(GROUP, "clusterroles", None);
    for role in &all {
        if role.get("aggregationRule").is_none_or(Value::is_null) {
            continue;
        }
        let rules = effective_rules(role, &all);
        if rules == Rule::all_of(role) {
            continue;
        }
        let mut next = Value::clone(role);
        next["rules"] = values(&rules);
        match reader.update(GROUP, "clusterroles", next).await {
            // Somebody wrote it meanwhile: the next round sees the new one.
            Err(e) if e.is_conflict() || e.is_not_found() => {}
            done => {
                done?;
            }
        }
    }
    Ok(())
}
