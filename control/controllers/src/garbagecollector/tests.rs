//! The graph: what has to be looked at, and what becomes of an object.
#![allow(clippy::needless_pass_by_value, reason = "json! literals read best where they stand")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::graph::{Graph, Identity, Owner, Verdict, Work, verdict};

fn identity(uid: &str, namespace: &str) -> Identity {
    Identity {
        group: String::new(),
        kind: "Pod".into(),
        namespace: namespace.into(),
        name: uid.into(),
        uid: uid.into(),
    }
}

/// `owners`: uids; a `!` in front blocks the owner's deletion.
fn meta(owners: &[&str], more: Value) -> ObjectMeta {
    let owners: Vec<Value> = owners
        .iter()
        .map(|o| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": o.trim_start_matches('!'), "blockOwnerDeletion": o.starts_with('!')}))
        .collect();
    let mut meta = json!({"ownerReferences": owners});
    for (field, value) in more.as_object().unwrap() {
        meta[field] = value.clone();
    }
    serde_json::from_value(meta).unwrap()
}

fn upsert(graph: &mut Graph, uid: &str, owners: &[&str], more: Value) -> Vec<Work> {
    sorted(graph.upsert(identity(uid, "ns"), &meta(owners, more)))
}

fn sorted(mut work: Vec<Work>) -> Vec<Work> {
    work.sort();
    work
}

fn delete(uid: &str) -> Work {
    Work::Delete(uid.to_owned())
}

#[test]
fn background() {
    let mut graph = Graph::default();
    assert_eq!(upsert(&mut graph, "owner", &[], json!({})), []);
    assert_eq!(upsert(&mut graph, "a", &["!owner"], json!({})), []);
    assert_eq!(upsert(&mut graph, "b", &["!owner"], json!({})), []);
    assert_eq!(upsert(&mut graph, "owner", &[], json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})), []);
    assert_eq!(sorted(graph.gone("owner")), [delete("a"), delete("b")]);
    assert_eq!(graph.gone("a"), []);
    assert_eq!(graph.gone("b"), []);
    assert_eq!(graph.len(), 0, "nothing is left behind");
}

#[test]
fn owners_never_seen_are_asked_for() {
    let mut graph = Graph::default();
    assert_eq!(upsert(&mut graph, "a", &["owner"], json!({})), [delete("owner")]);
    assert!(graph.get("owner").unwrap().is_virtual);
    assert_eq!(graph.get("owner").unwrap().identity.group, "apps");
    // Another one names it: it is asked for already.
    assert_eq!(upsert(&mut graph, "b", &["owner"], json!({})), []);
    assert_eq!(sorted(graph.gone("owner")), [delete("a"), delete("b")]);
    // Or it comes: then nobody has to go.
    assert_eq!(upsert(&mut graph, "c", &["late"], json!({})), [delete("late")]);
    assert_eq!(upsert(&mut graph, "late", &[], json!({})), []);
    assert!(!graph.get("late").unwrap().is_virtual);
    // A virtual owner that nobody names any more is forgotten.
    let mut graph = Graph::default();
    upsert(&mut graph, "a", &["owner"], json!({}));
    upsert(&mut graph, "a", &[], json!({}));
    assert_eq!(graph.len(), 1);
}

#[test]
fn foreground() {
    let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"]});
    let mut graph = Graph::default();
    upsert(&mut graph, "owner", &[], json!({}));
    upsert(&mut graph, "blocks", &["!owner"], json!({}));
    upsert(&mut graph, "free", &["owner"], json!({}));
    assert_eq!(upsert(&mut graph, "owner", &[], going.clone()), [delete("blocks"), delete("free"), delete("owner")]);
    assert_eq!(upsert(&mut graph, "owner", &[], going), [], "told once");
    let blockers = |g: &Graph| g.blockers("owner").iter().map(|n| n.identity.uid.clone()).collect::<Vec<_>>();
    assert_eq!(blockers(&graph), ["blocks"]);
    assert_eq!(upsert(&mut graph, "late", &["!owner"], json!({})), [delete("late")]);
    assert_eq!(upsert(&mut graph, "late", &["owner"], json!({})), [delete("owner")], "it no longer blocks");
    assert_eq!(graph.gone("blocks"), [delete("owner")]);
    assert_eq!(blockers(&graph), Vec::<String>::new());
}

#[test]
fn orphans() {
    let mut graph = Graph::default();
    upsert(&mut graph, "owner", &[], json!({}));
    upsert(&mut graph, "a", &["owner"], json!({}));
    let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["orphan"]});
    assert_eq!(upsert(&mut graph, "owner", &[], going), [Work::Orphan("owner".into())]);
    upsert(&mut graph, "a", &[], json!({}));
    assert_eq!(graph.gone("owner"), [], "a was let go");
}

#[test]
fn owners_in_other_namespaces() {
    let mut graph = Graph::default();
    upsert(&mut graph, "owner", &[], json!({}));
    let work = graph.upsert(identity("a", "other"), &meta(&["owner"], json!({})));
    assert_eq!(work, [delete("a")]);
}

#[test]
fn verdicts() {
    use Owner::{Absent, Solid, Waiting};
    for (owners, has_dependents, expect) in [
        (vec![], false, Verdict::Keep),
        (vec![Solid], false, Verdict::Keep),
        (vec![Solid, Absent], false, Verdict::Unlink(vec!["1".into()])),
        (vec![Waiting, Solid], true, Verdict::Unlink(vec!["0".into()])),
        (vec![Absent], true, Verdict::Delete { foreground: false }),
        (vec![Waiting], false, Verdict::Delete { foreground: false }),
        (vec![Waiting, Absent], true, Verdict::Delete { foreground: true }),
    ] {
        let named: Vec<_> = owners.iter().enumerate().map(|(n, o)| (n.to_string(), *o)).collect();
        assert_eq!(verdict(&named, has_dependents), expect, "{owners:?}");
    }
}
