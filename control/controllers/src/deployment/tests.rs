//! Roll-outs, proportional scaling, revisions, conditions.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::json;

use super::plan::{Scale, Set, Want, fenceposts, rolling, scale};
use super::revision::{annotations, expired, find_new, same_template, template_hash};
use super::status;

fn time(text: &str) -> Timestamp {
    format!("2026-01-01T{text}Z").parse().unwrap()
}

fn set(name: &str, replicas: i32, available: i32) -> Set {
    Set {
        name: name.to_owned(),
        replicas,
        current: replicas,
        available,
        created: Some(time(&format!("10:00:{:02}", name.len()))),
        desired_noted: Some(10),
        max_noted: Some(13),
    }
}

fn want(replicas: i32, max_surge: i32, max_unavailable: i32) -> Want {
    Want { replicas, recreate: false, max_surge, max_unavailable }
}

fn told(scales: &[Scale]) -> Vec<String> {
    scales.iter().map(|s| format!("{}={}", s.name, s.to)).collect()
}

#[test]
fn percentages() {
    let percent = |text: &str| Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(text.into()));
    for (surge, unavailable, replicas, expect) in [
        ("25%", "25%", 10, (3, 2)),
        ("25%", "25%", 3, (1, 0)),
        ("0%", "0%", 5, (0, 1)),
        ("0%", "10%", 5, (0, 1)),
        ("100%", "0%", 4, (4, 0)),
    ] {
        let got = fenceposts(percent(surge).as_ref(), percent(unavailable).as_ref(), replicas);
        assert_eq!(got, expect, "{surge} {unavailable} of {replicas}");
    }
}

#[test]
fn a_step_of_a_rolling_update() {
    for (what, want, new, old, expect) in [
        ("the new set grows into the surge", want(10, 3, 2), set("new", 0, 0), vec![set("o", 10, 10)], vec!["new=3"]),
        (
            "then old ones go, as far as is available",
            want(10, 3, 2),
            set("new", 3, 0),
            vec![set("o", 10, 10)],
            vec!["o=8"],
        ),
        ("nothing may go yet", want(10, 3, 2), set("new", 5, 0), vec![set("o", 8, 8)], vec![]),
        ("available new ones let old ones go", want(10, 3, 2), set("new", 5, 5), vec![set("o", 8, 8)], vec!["o=3"]),
        (
            "unhealthy old ones go first",
            want(10, 3, 2),
            set("new", 3, 3),
            vec![set("o", 4, 4), set("oo", 6, 1)],
            vec!["oo=1"],
        ),
        ("without surge the old ones begin", want(4, 0, 1), set("new", 0, 0), vec![set("o", 4, 4)], vec!["o=3"]),
        ("too many new ones", want(2, 1, 0), set("new", 5, 5), vec![], vec!["new=2"]),
        ("done", want(10, 3, 2), set("new", 10, 10), vec![set("o", 0, 0)], vec![]),
    ] {
        assert_eq!(told(&rolling(&want, &new, &old)), expect, "{what}");
    }
}

/// Whatever state a roll-out is in, following the plan ends it, within the limits all the way.
#[test]
fn every_rolling_update_ends() {
    for replicas in 1..8 {
        for (surge, unavailable) in [(0, 1), (1, 0), (2, 2), (3, 1), (8, 8)] {
            let want = want(replicas, surge, unavailable);
            let (mut new, mut old) = (set("new", 0, 0), vec![set("o", replicas, replicas)]);
            for step in 0.. {
                assert!(step < 100, "{want:?} {new:?} {old:?}");
                for scale in rolling(&want, &new, &old) {
                    for s in old.iter_mut().chain([&mut new]) {
                        if s.name == scale.name {
                            s.replicas = scale.to;
                            s.available = s.available.min(scale.to);
                        }
                    }
                }
                let total = new.replicas + old[0].replicas;
                assert!(total <= replicas + surge, "{want:?} {new:?} {old:?}");
                assert!(new.available + old[0].available >= replicas - unavailable, "{want:?} {new:?} {old:?}");
                if new.available == replicas && old[0].replicas == 0 {
                    break;
                }
                new.available = (new.available + 1).min(new.replicas);
            }
        }
    }
}

#[test]
fn scaling() {
    for (what, want, new, old, expect) in [
        ("one set takes all", want(5, 1, 1), set("new", 10, 10), vec![], vec!["new=5"]),
        ("an old one alone, too", want(5, 1, 1), set("new", 0, 0), vec![set("o", 10, 10)], vec!["o=5"]),
        ("in proportion, up", want(20, 3, 2), set("new", 3, 3), vec![set("o", 10, 10)], vec!["o=18", "new=5"]),
        ("in proportion, down", want(5, 3, 2), set("new", 5, 5), vec![set("o", 8, 8)], vec!["o=5", "new=3"]),
        ("to nothing", want(0, 3, 2), set("new", 5, 5), vec![set("o", 8, 8)], vec!["o=0", "new=0"]),
        ("a saturated new set ends the old", want(10, 3, 2), set("new", 10, 10), vec![set("o", 3, 3)], vec!["o=0"]),
    ] {
        assert_eq!(told(&scale(&want, Some(&new), &old)), expect, "{what}");
    }
}

fn deployment() -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 2,
            "annotations": {"team": "a", "deployment.kubernetes.io/revision": "4",
                "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "spec": {"replicas": 3, "progressDeadlineSeconds": 600, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}},
    }))
    .unwrap()
}

fn replica_set(name: &str, revision: i64, replicas: i32, image: &str) -> Arc<ReplicaSet> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "generation": 1, "creationTimestamp": "2026-01-01T10:00:00Z",
                "annotations": {"deployment.kubernetes.io/revision": revision.to_string()}},
            "spec": {"replicas": replicas, "selector": {},
                "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": "x"}},
                    "spec": {"containers": [{"name": "c", "image": image}]}}},
            "status": {"replicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas, "observedGeneration": 1},
        }))
        .unwrap(),
    )
}

#[test]
fn templates() {
    let d = deployment();
    let template = &d.spec.as_ref().unwrap().template;
    let sets = [replica_set("b", 1, 0, "i:2"), replica_set("a", 2, 0, "i:1")];
    assert_eq!(find_new(&d, &sets).unwrap().metadata.name.as_deref(), Some("a"));
    assert!(!same_template(template, sets[0].spec.as_ref().unwrap().template.as_ref().unwrap()));
    let hash = template_hash(template, 0);
    assert_eq!(hash, template_hash(&template.clone(), 0));
    assert_ne!(hash, template_hash(template, 1));
    assert!(hash.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)), "{hash}");
}

#[test]
fn revisions_grow_and_remember() {
    let made = annotations(&deployment(), &BTreeMap::new(), 5);
    let expect = [("deployment.kubernetes.io/revision", "5"), ("team", "a")];
    assert_eq!(made.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expect);
    let again = annotations(&deployment(), &made, 7);
    assert_eq!(again["deployment.kubernetes.io/revision"], "7");
    assert_eq!(again["deployment.kubernetes.io/revision-history"], "5");
    assert_eq!(annotations(&deployment(), &again, 6), again, "a revision never falls");
}

#[test]
fn history_is_cut_from_the_oldest() {
    let sets = [
        replica_set("c", 3, 0, "i:3"),
        replica_set("a", 1, 0, "i:1"),
        replica_set("b", 2, 1, "i:2"),
        replica_set("d", 4, 0, "i:4"),
    ];
    let names = |limit| expired(&sets, limit).iter().map(|s| s.metadata.name.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(names(Some(3)), ["a"]);
    assert_eq!(names(Some(2)), ["a"], "b still has a replica");
    assert_eq!(names(Some(0)), ["a", "c", "d"]);
    assert_eq!(names(None), Vec::<String>::new());
}

#[test]
fn conditions_of_a_rollout() {
    let mut d = deployment();
    let reason = |s: &k8s_openapi::api::apps::v1::DeploymentStatus, kind: &str| {
        status::condition(s, kind).map(|c| (c.status.clone(), c.reason.clone().unwrap_or_default()))
    };
    let judge = |d: &Deployment, set: &ReplicaSet, at: &str| {
        let now = time(at);
        status::rollout(d, status::counts(d, &[set], Some(set), 0, now), &[set], Some(set), now)
    };
    let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));

    let half = replica_set("a", 1, 1, "i:1");
    let first = judge(&d, &half, "10:00:00");
    assert_eq!(reason(&first, "Available"), pair("False", "MinimumReplicasUnavailable"));
    assert_eq!(reason(&first, "Progressing"), pair("True", "ReplicaSetUpdated"));
    assert_eq!(status::judge_again_in_s(&d, &first, time("10:00:00")), Some(601));

    d.status = Some(first);
    let late = judge(&d, &half, "10:10:01");
    assert_eq!(reason(&late, "Progressing"), pair("False", "ProgressDeadlineExceeded"));

    d.status = Some(late);
    let whole = replica_set("a", 1, 3, "i:1");
    let done = judge(&d, &whole, "10:11:00");
    assert_eq!(reason(&done, "Available"), pair("True", "MinimumReplicasAvailable"));
    assert_eq!(reason(&done, "Progressing"), pair("True", "NewReplicaSetAvailable"));
    assert_eq!(
        status::condition(&done, "Progressing").unwrap().message.as_deref(),
        Some("ReplicaSet \"a\" has successfully progressed.")
    );
    assert!(status::is_complete(&d, &done));
    assert_eq!(status::judge_again_in_s(&d, &done, time("10:11:00")), None);

    // Once complete, a lost Pod is not a new roll-out.
    d.status = Some(done);
    let lost = judge(&d, &half, "12:00:00");
    assert_eq!(reason(&lost, "Progressing"), pair("True", "NewReplicaSetAvailable"));

    let mut failing = (*half).clone();
    failing.status.as_mut().unwrap().conditions = serde_json::from_value(json!([
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
    ]))
    .unwrap();
    let failed = judge(&d, &failing, "12:00:00");
    assert_eq!(reason(&failed, "ReplicaFailure"), pair("True", "FailedCreate"));
}
