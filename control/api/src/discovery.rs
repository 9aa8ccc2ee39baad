//! The discovery documents, built from the registry and from whatever resources are served beside it.

use serde_json::{Map, Value, json};

use crate::registry::{self, RESOURCES, ResourceInfo, Subresource, api_version};

/// `Accept` parameters of the aggregated document.
pub const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// The same document under its beta name (kubectl 1.26 to 1.29).
pub const AGGREGATED_V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// A served resource that is no row of the registry (a custom resource).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DynamicResource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub singular: String,
    pub namespaced: bool,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub verbs: Vec<String>,
    pub subresources: Vec<DynamicSubresource>,
    pub storage_version_hash: String,
}

/// A subresource of a [`DynamicResource`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DynamicSubresource {
    pub name: String,
    pub group: String,
    pub version: String,
    pub kind: String,
    pub verbs: Vec<String>,
}

/// What the documents need of a resource, wherever it comes from.
struct Entry<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    plural: &'a str,
    singular: &'a str,
    namespaced: bool,
    short_names: Vec<&'a str>,
    categories: Vec<&'a str>,
    verbs: Vec<&'a str>,
    subresources: Vec<SubEntry<'a>>,
    storage_version_hash: String,
}

struct SubEntry<'a> {
    name: &'a str,
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    verbs: Vec<&'a str>,
}

impl<'a> From<&'a ResourceInfo> for Entry<'a> {
    fn from(r: &'a ResourceInfo) -> Self {
        let watched = r.has_verb("watch");
        Self {
            group: r.group,
            version: r.version,
            kind: r.kind,
            plural: r.plural,
            singular: r.singular,
            namespaced: r.namespaced,
            short_names: r.short_names.to_vec(),
            categories: r.categories.to_vec(),
            verbs: r.verbs.to_vec(),
            subresources: r.subresources.iter().map(SubEntry::from).collect(),
            storage_version_hash: if watched { r.storage_version_hash() } else { String::new() },
        }
    }
}

impl<'a> From<&'a Subresource> for SubEntry<'a> {
    fn from(s: &'a Subresource) -> Self {
        Self { name: s.name, group: s.group, version: s.version, kind: s.kind, verbs: s.verbs.to_vec() }
    }
}

impl<'a> From<&'a DynamicResource> for Entry<'a> {
    fn from(r: &'a DynamicResource) -> Self {
        let texts = |list: &'a [String]| list.iter().map(String::as_str).collect();
        Self {
            group: &r.group,
            version: &r.version,
            kind: &r.kind,
            plural: &r.plural,
            singular: &r.singular,
            namespaced: r.namespaced,
            short_names: texts(&r.short_names),
            categories: texts(&r.categories),
            verbs: texts(&r.verbs),
            subresources: r
                .subresources
                .iter()
                .map(|s| SubEntry {
                    name: &s.name,
                    group: &s.group,
                    version: &s.version,
                    kind: &s.kind,
                    verbs: texts(&s.verbs),
                })
                .collect(),
            storage_version_hash: r.storage_version_hash.clone(),
        }
    }
}

/// Groups with their versions in preference order: the built-in ones, then those of `extra` as they come.
fn groups(extra: &[DynamicResource]) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = registry::groups().into_iter().map(|g| (g.name, g.versions)).collect();
    for r in extra {
        match groups.iter_mut().find(|(name, _)| *name == r.group) {
            Some((_, versions)) if versions.contains(&r.version.as_str()) => {}
            Some((_, versions)) => versions.push(&r.version),
            None => groups.push((&r.group, vec![&r.version])),
        }
    }
    groups
}

fn entries<'a>(group: &str, version: &str, extra: &'a [DynamicResource]) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = RESOURCES
        .iter()
        .filter(|r| r.group == group && r.version == version)
        .map(Entry::from)
        .chain(extra.iter().filter(|r| r.group == group && r.version == version).map(Entry::from))
        .collect();
    entries.sort_by(|a, b| a.plural.cmp(b.plural));
    entries
}

/// `/api`: the versions of the core group; `server_address` is `HOST:PORT` as clients reach it.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

fn group_versions(name: &str, versions: &[&str]) -> Map<String, Value> {
    let version = |v: &str| json!({"groupVersion": api_version(name, v), "version": v});
    let mut out = Map::new();
    out.insert("name".into(), name.into());
    out.insert("versions".into(), versions.iter().map(|v| version(v)).collect());
    out.insert("preferredVersion".into(), version(versions.first().copied().unwrap_or_default()));
    out
}

/// `/apis`: every group but the core one.
pub fn api_group_list(extra: &[DynamicResource]) -> Value {
    let groups: Vec<Value> = groups(extra)
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, versions)| Value::Object(group_versions(name, versions)))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`
pub fn api_group(group: &str, extra: &[DynamicResource]) -> Option<Value> {
    let groups = groups(extra);
    let (name, versions) = groups.iter().find(|(name, _)| *name == group && !name.is_empty())?;
    let mut out = Map::new();
    out.insert("kind".into(), "APIGroup".into());
    out.insert("apiVersion".into(), "v1".into());
    out.append(&mut group_versions(name, versions));
    Some(Value::Object(out))
}

/// `/api/v1` and `/apis/GROUP/VERSION`; `None` where nothing serves the version.
pub fn api_resource_list(group: &str, version: &str, extra: &[DynamicResource]) -> Option<Value> {
    let entries = entries(group, version, extra);
    if entries.is_empty() {
        return None;
    }
    let mut resources = Vec::new();
    for e in &entries {
        let mut out = Map::new();
        out.insert("name".into(), e.plural.into());
        out.insert("singularName".into(), e.singular.into());
        out.insert("namespaced".into(), e.namespaced.into());
        out.insert("kind".into(), e.kind.into());
        out.insert("verbs".into(), e.verbs.clone().into());
        insert_names(&mut out, e);
        if !e.storage_version_hash.is_empty() {
            out.insert("storageVersionHash".into(), e.storage_version_hash.as_str().into());
        }
        resources.push(Value::Object(out));
        for s in &e.subresources {
            let mut out = Map::new();
            out.insert("name".into(), format!("{}/{}", e.plural, s.name).into());
            out.insert("singularName".into(), "".into());
            out.insert("namespaced".into(), e.namespaced.into());
            if (s.group, s.version) != (e.group, e.version) {
                if !s.group.is_empty() {
                    out.insert("group".into(), s.group.into());
                }
                out.insert("version".into(), s.version.into());
            }
            out.insert("kind".into(), s.kind.into());
            out.insert("verbs".into(), s.verbs.clone().into());
            resources.push(Value::Object(out));
        }
    }
    let mut out = Map::new();
    out.insert("kind".into(), "APIResourceList".into());
    if !group.is_empty() {
        out.insert("apiVersion".into(), "v1".into());
    }
    out.insert("groupVersion".into(), api_version(group, version).into());
    out.insert("resources".into(), resources.into());
    Some(Value::Object(out))
}

fn insert_names(out: &mut Map<String, Value>, e: &Entry<'_>) {
    if !e.short_names.is_empty() {
        out.insert("shortNames".into(), e.short_names.clone().into());
    }
    if !e.categories.is_empty() {
        out.insert("categories".into(), e.categories.clone().into());
    }
}

/// The aggregated document of `/api` (`core`) or `/apis`, as `apidiscovery.k8s.io/VERSION` (`v2` or `v2beta1`).
pub fn aggregated(core: bool, version: &str, extra: &[DynamicResource]) -> Value {
    let items: Vec<Value> = groups(extra)
        .iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|v| {
                    let resources: Vec<Value> = entries(name, v, extra).iter().map(aggregated_entry).collect();
                    json!({"version": v, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_entry(e: &Entry<'_>) -> Value {
    // Upstream leaves group and version empty where they are those of the document's own version.
    let kind = |group: &str, version: &str, kind: &str| {
        if (group, version) == (e.group, e.version) {
            json!({"group": "", "version": "", "kind": kind})
        } else {
            json!({"group": group, "version": version, "kind": kind})
        }
    };
    let mut out = Map::new();
    out.insert("resource".into(), e.plural.into());
    out.insert("responseKind".into(), kind(e.group, e.version, e.kind));
    out.insert("scope".into(), if e.namespaced { "Namespaced" } else { "Cluster" }.into());
    out.insert("singularResource".into(), e.singular.into());
    out.insert("verbs".into(), e.verbs.clone().into());
    insert_names(&mut out, e);
    if !e.subresources.is_empty() {
        let subresources: Vec<Value> = e
            .subresources
            .iter()
            .map(|s| {
                json!({
                    "subresource": s.name,
                    "responseKind": kind(s.group, s.version, s.kind),
                    "verbs": s.verbs,
                })
            })
            .collect();
        out.insert("subresources".into(), subresources.into());
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests;
