//! What a namespace that is being deleted says about it: upstream's five conditions. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::resources::AnyResource;

/// What one pass over a namespace found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) discovery_failed: Option<String>,
    deletion_failed: Vec<String>,
    /// Objects left, by `resource.group`.
    remaining: BTreeMap<String, usize>,
    /// Finalizers on them.
    finalizers: BTreeMap<String, usize>,
    /// Longest grace period among the Pods left.
    pub(super) grace_s: Option<u64>,
}

impl Findings {
    pub(super) fn failed(&mut self, resource: &AnyResource, message: &str) {
        self.deletion_failed.push(format!("{}: {message}", resource.qualified()));
    }

    pub(super) fn remain(&mut self, resource: &AnyResource, objects: &[ObjectMeta]) {
        if objects.is_empty() {
            return;
        }
        *self.remaining.entry(resource.qualified()).or_default() += objects.len();
        for object in objects {
            for finalizer in object.finalizers.iter().flatten() {
                *self.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
            if let Some(grace_s) = object.deletion_grace_period_seconds {
                let grace_s = u64::try_from(grace_s).unwrap_or(0);
                self.grace_s = Some(self.grace_s.unwrap_or(0).max(grace_s));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.discovery_failed.is_none() && self.deletion_failed.is_empty() && self.remaining.is_empty()
    }

    pub(super) fn remaining_objects(&self) -> usize {
        self.remaining.values().sum()
    }
}

fn listed(counts: &BTreeMap<String, usize>, what: impl Fn(&str, usize) -> String) -> String {
    counts.iter().map(|(name, count)| what(name, *count)).collect::<Vec<_>>().join(", ")
}

/// The conditions after a pass; times of transition stay where the status did.
pub(super) fn conditions(old: &[NamespaceCondition], findings: &Findings, now: Timestamp) -> Vec<NamespaceCondition> {
    let discovery = findings
        .discovery_failed
        .as_ref()
        .map(|error| ("DiscoveryFailed", format!("Discovery failed for some groups: {error}")));
    let content = (!findings.deletion_failed.is_empty()).then(|| {
        let errors = findings.deletion_failed.join(", ");
        (
            "ContentDeletionFailed",
            format!("Failed to delete all resource types, {} remaining: {errors}", findings.deletion_failed.len()),
        )
    });
    let remaining = (!findings.remaining.is_empty()).then(|| {
        let list = listed(&findings.remaining, |name, n| format!("{name} has {n} resource instances"));
        ("SomeResourcesRemain", format!("Some resources are remaining: {list}"))
    });
    let finalizers = (!findings.finalizers.is_empty()).then(|| {
        let list = listed(&findings.finalizers, |name, n| format!("{name} in {n} resource instances"));
        ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {list}"))
    });
    let table = [
        (
            "NamespaceDeletionDiscoveryFailure",
            discovery,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            content,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        ("NamespaceContentRemaining", remaining, "ContentRemoved", "All content successfully removed"),
        (
            "NamespaceFinalizersRemaining",
            finalizers,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    let mut result: Vec<NamespaceCondition> =
        old.iter().filter(|c| table.iter().all(|row| row.0 != c.type_)).cloned().collect();
    for (kind, trouble, fine_reason, fine_message) in table {
        let status = if trouble.is_some() { "True" } else { "False" };
        let (reason, message) = trouble.unwrap_or((fine_reason, fine_message.to_owned()));
        let known = old.iter().find(|c| c.type_ == kind && c.status == status);
        result.push(NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: known.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
        });
    }
    result
}

#[cfg(test)]
mod tests {
    use kube::discovery::ApiResource;

    use super::*;

    #[test]
    fn what_remains_is_told() {
        let pods = AnyResource {
            resource: ApiResource {
                group: String::new(),
                version: "v1".into(),
                api_version: "v1".into(),
                kind: "Pod".into(),
                plural: "pods".into(),
            },
            namespaced: true,
            deletecollection: true,
            watchable: true,
        };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut findings = Findings::default();
        assert!(findings.is_empty());
        let object = ObjectMeta {
            finalizers: Some(vec!["example.com/keep".into()]),
            deletion_grace_period_seconds: Some(30),
            ..ObjectMeta::default()
        };
        findings.remain(&pods, &[object.clone(), object]);
        let told = conditions(&[], &findings, now);
        let find = |kind: &str| told.iter().find(|c| c.type_ == kind).unwrap();
        assert_eq!(
            find("NamespaceContentRemaining").message.as_deref(),
            Some("Some resources are remaining: pods has 2 resource instances")
        );
        assert_eq!(
            find("NamespaceFinalizersRemaining").message.as_deref(),
            Some("Some content in the namespace has finalizers remaining: example.com/keep in 2 resource instances")
        );
        assert_eq!(find("NamespaceDeletionContentFailure").status, "False");
        assert_eq!((findings.grace_s, findings.remaining_objects()), (Some(30), 2));
        let later = "2026-01-01T01:00:00Z".parse().unwrap();
        let again = conditions(&told, &findings, later);
        assert_eq!(again, told, "times stay while nothing changes");
    }
}
