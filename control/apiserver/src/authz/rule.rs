//! One RBAC `PolicyRule`: what it matches, and whether a set of rules covers another.

use std::fmt;

use serde_json::{Map, Value, json};

use super::Attributes;
use crate::admission::fields::{list_at, strings_at};

/// A compiled `rbac.authorization.k8s.io/v1` PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    pub non_resource_urls: Vec<String>,
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|x| x == "*" || x == wanted)
}

impl Rule {
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        Self {
            verbs: strings_at(value, "/verbs"),
            api_groups: strings_at(value, "/apiGroups"),
            resources: strings_at(value, "/resources"),
            resource_names: strings_at(value, "/resourceNames"),
            non_resource_urls: strings_at(value, "/nonResourceURLs"),
        }
    }

    /// `rules` of a Role or ClusterRole.
    #[must_use]
    pub fn all_of(role: &Value) -> Vec<Self> {
        list_at(role, "/rules").iter().map(Self::from_value).collect()
    }

    /// As the API prints it; empty lists are left out.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, list) in [
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ] {
            if !list.is_empty() {
                out.insert(key.into(), json!(list));
            }
        }
        out.insert("verbs".into(), json!(self.verbs));
        Value::Object(out)
    }

    /// Whether this rule allows what is asked.
    #[must_use]
    pub fn matches(&self, a: &Attributes) -> bool {
        if !has(&self.verbs, &a.verb) {
            return false;
        }
        if !a.resource_request {
            return self.non_resource_urls.iter().any(|url| url_matches(url, &a.path));
        }
        has(&self.api_groups, &a.api_group)
            && self.resources.iter().any(|r| resource_matches(r, &a.resource, &a.subresource))
            && (self.resource_names.is_empty() || self.resource_names.contains(&a.name))
    }

    /// This rule as rules with one verb, group, resource and name each (upstream `BreakdownRule`).
    fn atoms(&self) -> Vec<Self> {
        let mut out = Vec::new();
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let atom = Self {
                        verbs: vec![verb.clone()],
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        out.push(atom);
                        continue;
                    }
                    out.extend(
                        self.resource_names
                            .iter()
                            .map(|name| Self { resource_names: vec![name.clone()], ..atom.clone() }),
                    );
                }
            }
            out.extend(self.non_resource_urls.iter().map(|url| Self {
                verbs: vec![verb.clone()],
                non_resource_urls: vec![url.clone()],
                ..Self::default()
            }));
        }
        out
    }

    /// Whether this rule alone allows all that the atom `wanted` allows.
    fn covers_atom(&self, wanted: &Self) -> bool {
        let all_in = |owned: &[String], asked: &[String]| {
            owned.iter().any(|x| x == "*") || asked.iter().all(|x| owned.contains(x))
        };
        if !all_in(&self.verbs, &wanted.verbs) {
            return false;
        }
        if !wanted.non_resource_urls.is_empty() {
            return wanted.non_resource_urls.iter().all(|w| self.non_resource_urls.iter().any(|o| url_matches(o, w)));
        }
        let names = self.resource_names.is_empty()
            || (!wanted.resource_names.is_empty()
                && wanted.resource_names.iter().all(|n| self.resource_names.contains(n)));
        all_in(&self.api_groups, &wanted.api_groups)
            && wanted.resources.iter().all(|w| self.resources.iter().any(|o| covers_resource(o, w)))
            && names
    }
}

/// `owned` as it stands in a role covers `wanted` as it stands in another.
fn covers_resource(owned: &str, wanted: &str) -> bool {
    let same_subresource = || match (owned.strip_prefix("*/"), wanted.split_once('/')) {
        (Some(own), Some((_, sub))) => own == sub,
        _ => false,
    };
    owned == "*" || owned == wanted || same_subresource()
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    match rule.split_once('/') {
        Some((r, s)) => s == subresource && (r == "*" || r == resource),
        None => false,
    }
}

fn url_matches(rule: &str, path: &str) -> bool {
    rule == "*" || rule == path || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

/// What of `wanted` `owned` does not allow; empty when nothing is missing (upstream `validation.Covers`).
#[must_use]
pub fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted.iter().flat_map(Rule::atoms).filter(|atom| !owned.iter().any(|rule| rule.covers_atom(atom))).collect()
}

impl fmt::Display for Rule {
    /// Upstream's compact form: `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.resource_names),
            ("NonResourceURLs", &self.non_resource_urls),
            ("Verbs", &self.verbs),
        ]
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(key, list)| {
            let quoted: Vec<String> = list.iter().map(|x| orlop_api::field::quote(x)).collect();
            format!("{key}:[{}]", quoted.join(" "))
        })
        .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}
