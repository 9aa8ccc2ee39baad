//! Which ReplicaSet is the new one, its name, and the annotations that carry revisions and sizes. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// Annotations of a Deployment that its ReplicaSets don't get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// Characters of revision history kept.
const HISTORY_LIMIT: usize = 2000;

/// Letters and digits that spell no words (upstream's `SafeEncodeString`).
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Hash of a template, as names and the label carry it. FNV-1a over its JSON, whose fields are
/// ordered; `collisions` gives another hash when a name is taken by something else.
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    // A template is plain data: it always has a JSON form.
    let mut bytes = serde_json::to_vec(template).unwrap_or_default();
    if collisions > 0 {
        bytes.extend_from_slice(&collisions.to_le_bytes());
    }
    let mut hash: u32 = 0x811c_9dc5;
    for byte in bytes {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    let letter = |b: u8| char::from(SAFE[usize::from(b) % SAFE.len()]);
    hash.to_string().bytes().map(letter).collect()
}

/// Equal but for the hash label that the controller itself adds.
pub(super) fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(meta) = &mut template.metadata {
            if let Some(labels) = &mut meta.labels {
                labels.remove(HASH_LABEL);
                if labels.is_empty() {
                    meta.labels = None;
                }
            }
            meta.creation_timestamp = None;
        }
        template
    };
    bare(a) == bare(b)
}

fn template_of(set: &ReplicaSet) -> Option<&PodTemplateSpec> {
    set.spec.as_ref()?.template.as_ref()
}

/// The set of the Deployment's present template; the oldest where several are.
pub(super) fn find_new<'a, S: AsRef<ReplicaSet>>(deployment: &Deployment, sets: &'a [S]) -> Option<&'a S> {
    let wanted = &deployment.spec.as_ref()?.template;
    sets.iter().filter(|set| template_of(set.as_ref()).is_some_and(|t| same_template(t, wanted))).min_by_key(|set| {
        let set = set.as_ref();
        (set.creation_timestamp().map(|t| t.0), set.name_any())
    })
}

pub(super) fn revision_of(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

pub(super) fn number(set: &ReplicaSet, annotation: &str) -> Option<i32> {
    set.annotations().get(annotation)?.parse().ok()
}

/// The annotations that the new set should have; `fresh`: it is about to be made.
pub(super) fn annotations(
    deployment: &Deployment,
    set: &BTreeMap<String, String>,
    revision: i64,
) -> BTreeMap<String, String> {
    let mut result = set.clone();
    for (name, value) in deployment.annotations() {
        if !NOT_COPIED.contains(&name.as_str()) {
            result.insert(name.clone(), value.clone());
        }
    }
    let old = set.get(REVISION);
    // A revision only grows: a roll-back makes an old set the newest.
    if old.is_none_or(|old| old.parse::<i64>().unwrap_or(0) < revision) {
        result.insert(REVISION.to_owned(), revision.to_string());
        if let Some(old) = old {
            let mut history: Vec<&str> = set.get(REVISION_HISTORY).map(|h| h.split(',').collect()).unwrap_or_default();
            history.push(old);
            let length = |h: &[&str]| h.iter().map(|r| r.len() + 1).sum::<usize>();
            while history.len() > 1 && length(&history) > HISTORY_LIMIT {
                history.remove(0);
            }
            result.insert(REVISION_HISTORY.to_owned(), history.join(","));
        }
    }
    result
}

/// Old sets that the history limit no longer covers and that hold nothing, oldest revision first.
pub(super) fn expired<S: AsRef<ReplicaSet>>(old: &[S], limit: Option<i32>) -> Vec<&S> {
    let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else {
        return Vec::new();
    };
    let mut alive: Vec<&S> = old.iter().filter(|set| set.as_ref().metadata.deletion_timestamp.is_none()).collect();
    let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    alive.sort_by_key(|set| (revision_of(set.as_ref()), set.as_ref().creation_timestamp().map(|t| t.0)));
    alive.truncate(surplus);
    alive.retain(|set| {
        let set = set.as_ref();
        let status = set.status.as_ref();
        status.is_none_or(|s| s.replicas == 0)
            && set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0) == 0
            && set.metadata.generation <= status.and_then(|s| s.observed_generation)
    });
    alive
}
