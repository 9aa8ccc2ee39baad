//! RBAC: roles and bindings compiled into an index by subject, rebuilt when one of them changes.
//!
//! A decision looks up the caller's name and groups, and walks only the bindings that name them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use super::rule::Rule;
use super::{Attributes, Decision};
use crate::admission::fields::{list_at, name, namespace, str_at};
use crate::authn::UserInfo;
use crate::reader::{Object, ObjectReader};

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = ["roles", "clusterroles", "rolebindings", "clusterrolebindings"];

/// One binding, as seen by one of its subjects.
#[derive(Debug)]
struct Grant {
    /// `Err`: the role is missing, with upstream's words.
    rules: Result<Arc<Vec<Rule>>, String>,
    /// `RoleBinding "x/ns" of Role "y"`, for the reason of an allowed request.
    label: String,
}

/// What is bound to one subject.
#[derive(Debug, Default)]
struct Grants {
    cluster: Vec<Arc<Grant>>,
    namespaced: HashMap<String, Vec<Arc<Grant>>>,
}

#[derive(Debug, Default)]
struct Index {
    revisions: [u64; 4],
    users: HashMap<String, Grants>,
    groups: HashMap<String, Grants>,
}

/// The RBAC authorizer.
pub(crate) struct Rbac {
    reader: Arc<dyn ObjectReader>,
    index: RwLock<Arc<Index>>,
}

impl Rbac {
    pub(crate) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        let index = RwLock::new(Arc::new(Index { revisions: [u64::MAX; 4], ..Index::default() }));
        Self { reader, index }
    }

    pub(crate) fn authorize(&self, attributes: &Attributes) -> Decision {
        let index = self.current();
        let mut missing: Vec<&str> = Vec::new();
        for (kind, subject, grant) in index.grants(&attributes.user, &attributes.namespace) {
            match &grant.rules {
                Ok(rules) if rules.iter().any(|r| r.matches(attributes)) => {
                    return Decision::Allow(format!("RBAC: allowed by {} to {kind} {subject:?}", grant.label));
                }
                Ok(_) => {}
                Err(why) if !missing.contains(&why.as_str()) => missing.push(why),
                Err(_) => {}
            }
        }
        let reason = match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision::NoOpinion(reason)
    }

    /// Every rule that holds for `user` in `namespace` (empty: cluster-wide only).
    pub(crate) fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        let index = self.current();
        let mut out = Vec::new();
        for (_, _, grant) in index.grants(user, namespace) {
            if let Ok(rules) = &grant.rules {
                out.extend(rules.iter().cloned());
            }
        }
        out
    }

    /// The effective rules of a role; those of aggregating ClusterRoles are put together.
    pub(crate) fn role_rules(&self, kind: &str, role_namespace: &str, role: &str) -> Option<Vec<Rule>> {
        if kind == "ClusterRole" {
            let object = self.reader.get(GROUP, "clusterroles", None, role)?;
            return Some(effective_rules(&object, &self.reader.list(GROUP, "clusterroles", None)));
        }
        Some(Rule::all_of(&*self.reader.get(GROUP, "roles", Some(role_namespace), role)?))
    }

    fn current(&self) -> Arc<Index> {
        let revisions = RESOURCES.map(|r| self.reader.revision(GROUP, r));
        {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            if index.revisions == revisions {
                return index.clone();
            }
        }
        // Revisions are read before the lists: an index may be newer than its label, never older.
        let fresh = Arc::new(Index::build(self.reader.as_ref(), revisions));
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = fresh.clone();
        fresh
    }
}

impl Index {
    fn build(reader: &dyn ObjectReader, revisions: [u64; 4]) -> Self {
        let [roles, cluster_roles, role_bindings, cluster_role_bindings] =
            RESOURCES.map(|r| reader.list(GROUP, r, None));
        let roles: HashMap<(&str, &str), Arc<Vec<Rule>>> =
            roles.iter().map(|r| ((namespace(r), name(r)), Arc::new(Rule::all_of(r)))).collect();
        let cluster_rules: HashMap<&str, Arc<Vec<Rule>>> =
            cluster_roles.iter().map(|r| (name(r), Arc::new(effective_rules(r, &cluster_roles)))).collect();
        let resolve = |binding: &Value| -> (Result<Arc<Vec<Rule>>, String>, String) {
            let (kind, role) = (str_at(binding, "/roleRef/kind"), str_at(binding, "/roleRef/name"));
            let (found, plural) = if kind == "ClusterRole" {
                (cluster_rules.get(role), "clusterrole")
            } else {
                (roles.get(&(namespace(binding), role)), "role")
            };
            let rules = found.cloned().ok_or_else(|| format!("{plural}.{GROUP} {role:?} not found"));
            (rules, format!("{kind} {role:?}"))
        };
        let mut index = Self { revisions, ..Self::default() };
        for binding in &cluster_role_bindings {
            let (rules, role) = resolve(binding);
            let label = format!("ClusterRoleBinding {:?} of {role}", name(binding));
            index.add(binding, None, &Arc::new(Grant { rules, label }));
        }
        for binding in &role_bindings {
            let (rules, role) = resolve(binding);
            let label = format!("RoleBinding \"{}/{}\" of {role}", name(binding), namespace(binding));
            index.add(binding, Some(namespace(binding)), &Arc::new(Grant { rules, label }));
        }
        index
    }

    fn add(&mut self, binding: &Value, scope: Option<&str>, grant: &Arc<Grant>) {
        for subject in list_at(binding, "/subjects") {
            let subject_name = str_at(subject, "/name");
            let grants = match str_at(subject, "/kind") {
                "User" => self.users.entry(subject_name.to_owned()).or_default(),
                "Group" => self.groups.entry(subject_name.to_owned()).or_default(),
                "ServiceAccount" => {
                    let own = str_at(subject, "/namespace");
                    let account_ns = if own.is_empty() { scope.unwrap_or_default() } else { own };
                    self.users.entry(format!("system:serviceaccount:{account_ns}:{subject_name}")).or_default()
                }
                _ => continue,
            };
            match scope {
                None => grants.cluster.push(grant.clone()),
                Some(ns) => grants.namespaced.entry(ns.to_owned()).or_default().push(grant.clone()),
            }
        }
    }

    fn grants<'a>(
        &'a self,
        user: &'a UserInfo,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a Grant)> {
        let own = self.users.get(&user.name).map(|g| ("User", user.name.as_str(), g)).into_iter();
        let of_groups = user.groups.iter().filter_map(|n| self.groups.get(n).map(|g| ("Group", n.as_str(), g)));
        let subjects: Vec<_> = own.chain(of_groups).collect();
        let cluster = subjects.clone().into_iter().flat_map(|(k, n, g)| g.cluster.iter().map(move |x| (k, n, x)));
        let local = subjects
            .into_iter()
            .flat_map(move |(k, n, g)| g.namespaced.get(namespace).into_iter().flatten().map(move |x| (k, n, x)));
        cluster.chain(local).map(|(k, n, x)| (k, n, x.as_ref()))
    }
}

/// A ClusterRole's rules: its own, or for an aggregating one those of every role that a selector finds.
pub(crate) fn effective_rules(role: &Value, all: &[Object]) -> Vec<Rule> {
    let mut seen = vec![name(role).to_owned()];
    effective_rules_below(role, all, &mut seen)
}

fn effective_rules_below(role: &Value, all: &[Object], seen: &mut Vec<String>) -> Vec<Rule> {
    let selectors = list_at(role, "/aggregationRule/clusterRoleSelectors");
    if role.get("aggregationRule").is_none_or(Value::is_null) {
        return Rule::all_of(role);
    }
    let mut chosen: BTreeMap<&str, &Object> = BTreeMap::new();
    for candidate in all {
        if selectors.iter().any(|s| selects(s, candidate)) {
            chosen.insert(name(candidate), candidate);
        }
    }
    let mut rules = Vec::new();
    for (role_name, candidate) in chosen {
        // A role is put in once, however the selectors circle.
        if seen.iter().any(|s| s == role_name) {
            continue;
        }
        seen.push(role_name.to_owned());
        for rule in effective_rules_below(candidate, all, seen) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    rules
}

/// `metav1.LabelSelector` against an object's labels; an empty selector selects everything.
fn selects(selector: &Value, object: &Value) -> bool {
    let label = |key: &str| crate::admission::fields::label(object, key);
    let equal = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .is_none_or(|want| want.iter().all(|(k, v)| label(k) == v.as_str()));
    equal
        && list_at(selector, "/matchExpressions").iter().all(|e| {
            let found = label(str_at(e, "/key"));
            let listed = |v: &str| list_at(e, "/values").iter().any(|x| x.as_str() == Some(v));
            match str_at(e, "/operator") {
                "In" => found.is_some_and(listed),
                "NotIn" => !found.is_some_and(listed),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}
