//! The table of built-in resources: one row each.

mod table;

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

/// One served resource (`/apis/GROUP/VERSION/[namespaces/NS/]PLURAL`).
#[derive(Debug, PartialEq, Eq)]
pub struct ResourceInfo {
    /// `""` for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub namespaced: bool,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    /// Upstream's verbs for the main resource, as discovery prints them.
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// Spec changes bump `metadata.generation`.
    pub generation: bool,
    /// Directory below `/registry/` (upstream's, e.g. `minions`, `services/specs`).
    pub storage_prefix: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `scale`, `log`, `exec`, …
    pub name: &'static str,
    /// Group, version and kind it speaks: `("autoscaling", "v1", "Scale")`.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

/// Every built-in resource: groups in upstream's preference order, within a group the preferred version first.
pub static RESOURCES: &[ResourceInfo] = table::ROWS;

impl ResourceInfo {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// `/registry/STORAGE_PREFIX/`: the directory that holds all objects.
    pub fn storage_dir(&self) -> String {
        format!("/registry/{}/", self.storage_prefix)
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether objects of it are kept at all: reviews and bindings are only created, component statuses only computed.
    pub fn is_stored(&self) -> bool {
        self.has_verb("create") && self.has_verb("get")
    }

    /// The kind of a list of it.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Upstream's hash of the version that objects are stored in; clients only compare it.
    pub fn storage_version_hash(&self) -> String {
        let stored = storage_version(self);
        let digest = Sha256::digest(format!("{}/{}/{}", stored.group, stored.version, stored.kind));
        base64::engine::general_purpose::STANDARD.encode(&digest[..8])
    }
}

impl Subresource {
    /// `v1` or `apps/v1` of the kind that it speaks.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

/// `v1` or `apps/v1`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Splits `apiVersion` into group and version.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

type Key = (&'static str, &'static str, &'static str);

/// By (group, version, plural).
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static ResourceInfo> {
    static INDEX: OnceLock<HashMap<Key, &'static ResourceInfo>> = OnceLock::new();
    let index = INDEX.get_or_init(|| RESOURCES.iter().map(|r| ((r.group, r.version, r.plural), r)).collect());
    index.get(&(group, version, plural) as &(&str, &str, &str)).copied()
}

/// By (group, version, kind).
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static ResourceInfo> {
    static INDEX: OnceLock<HashMap<Key, &'static ResourceInfo>> = OnceLock::new();
    let index = INDEX.get_or_init(|| RESOURCES.iter().map(|r| ((r.group, r.version, r.kind), r)).collect());
    index.get(&(group, version, kind) as &(&str, &str, &str)).copied()
}

/// By (group, plural), in the group's preferred version.
pub fn find_preferred(group: &str, plural: &str) -> Option<&'static ResourceInfo> {
    RESOURCES.iter().find(|r| r.group == group && r.plural == plural)
}

/// By the `apiVersion` and `kind` of an object.
pub fn find_object(api_version: &str, kind: &str) -> Option<&'static ResourceInfo> {
    let (group, version) = split_api_version(api_version);
    find_kind(group, version, kind)
}

/// The row in whose version the objects of `info` are stored: resources of two groups or versions may share one
/// directory (events; autoscaling v1 and v2).
pub fn storage_version(info: &ResourceInfo) -> &'static ResourceInfo {
    // The first row of a directory is the one it is stored in: core/v1 events, autoscaling/v2.
    RESOURCES.iter().find(|r| r.storage_prefix == info.storage_prefix).unwrap_or(&RESOURCES[0])
}

/// One API group and its versions, the preferred one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: &'static str,
    pub versions: Vec<&'static str>,
}

/// Groups in upstream's preference order, the core group (`""`) first.
pub fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in RESOURCES {
        match groups.iter_mut().find(|g| g.name == row.group) {
            Some(group) if group.versions.contains(&row.version) => {}
            Some(group) => group.versions.push(row.version),
            None => groups.push(Group { name: row.group, versions: vec![row.version] }),
        }
    }
    groups
}

/// The rows of one group and version, in table order.
pub fn resources_of(group: &str, version: &str) -> impl Iterator<Item = &'static ResourceInfo> {
    RESOURCES.iter().filter(move |r| r.group == group && r.version == version)
}

#[cfg(test)]
mod tests;
