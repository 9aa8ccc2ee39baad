//! Deletion verdicts, status isolation, generations.

use orlop_api::registry::find;

use super::deletion::{Propagation, Verdict, decide};
use super::*;

fn row(group: &str, plural: &str) -> &'static ResourceInfo {
    find(group, "v1", plural).unwrap()
}

fn now() -> jiff::Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn pod(node: &str, phase: &str) -> Value {
    json!({"metadata": {"name": "p", "generation": 1}, "spec": {"nodeName": node, "terminationGracePeriodSeconds": 20},
        "status": {"phase": phase}})
}

#[test]
fn pods_wait_for_their_kubelet() {
    let pods = row("", "pods");
    let verdict = |pod: &Value, grace| decide(pods, pod, grace, None, now());
    assert_eq!(verdict(&pod("", "Pending"), None), Verdict::Now);
    assert_eq!(verdict(&pod("n", "Succeeded"), None), Verdict::Now);
    assert_eq!(verdict(&pod("n", "Running"), Some(0)), Verdict::Now);
    let Verdict::Mark(marked) = verdict(&pod("n", "Running"), None) else { panic!("not marked") };
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-02T03:04:25Z");
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 20);
    assert_eq!(marked["metadata"]["generation"], 2);
    assert_eq!(verdict(&marked, None), Verdict::Unchanged);
    assert_eq!(verdict(&marked, Some(60)), Verdict::Unchanged);
    let Verdict::Mark(hurried) = verdict(&marked, Some(5)) else { panic!("not hurried") };
    assert_eq!(hurried["metadata"]["deletionTimestamp"], "2026-01-02T03:04:10Z");
    assert_eq!(verdict(&marked, Some(0)), Verdict::Now);
}

#[test]
fn jobs_select_their_own_pods_only() {
    let mut job = json!({"metadata": {"name": "j"}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
    prepare_create(row("batch", "jobs"), &mut job, now());
    complete_create(row("batch", "jobs"), &mut job);
    let uid = job["metadata"]["uid"].clone();
    assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"],
        json!({"a": "b", "job-name": "j", "batch.kubernetes.io/job-name": "j", "controller-uid": uid,
            "batch.kubernetes.io/controller-uid": uid})
    );
    let manual = json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}, "template": {}});
    let mut job = json!({"metadata": {"name": "j"}, "spec": manual});
    prepare_create(row("batch", "jobs"), &mut job, now());
    complete_create(row("batch", "jobs"), &mut job);
    assert_eq!(job["spec"], manual);
}

#[test]
fn finalizers_hold() {
    let config_maps = row("", "configmaps");
    let object = json!({"metadata": {"name": "c", "finalizers": ["x"]}});
    let Verdict::Mark(marked) = decide(config_maps, &object, None, None, now()) else { panic!("not marked") };
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(!gone_after_update(config_maps, &marked));
    let mut freed = marked.clone();
    meta::remove(&mut freed, "finalizers");
    assert!(gone_after_update(config_maps, &freed));
    assert_eq!(decide(config_maps, &marked, None, None, now()), Verdict::Unchanged);

    let plain = json!({"metadata": {"name": "c"}});
    assert_eq!(decide(config_maps, &plain, None, Some(Propagation::Background), now()), Verdict::Now);
    let Verdict::Mark(marked) = decide(config_maps, &plain, None, Some(Propagation::Foreground), now()) else {
        panic!("not marked")
    };
    assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]));
}

#[test]
fn namespaces_wait_for_their_controller() {
    let namespaces = row("", "namespaces");
    let mut object = json!({"metadata": {"name": "n"}});
    prepare_create(namespaces, &mut object, now());
    assert_eq!(object["status"]["phase"], "Active");
    let Verdict::Mark(marked) = decide(namespaces, &object, None, None, now()) else { panic!("not marked") };
    assert_eq!(marked["status"]["phase"], "Terminating");
    let mut finalized = marked.clone();
    finalized["spec"]["finalizers"] = json!([]);
    prepare_update(namespaces, "finalize", &mut finalized, &marked);
    assert!(gone_after_update(namespaces, &finalized));
    assert!(!gone_after_update(namespaces, &marked));
}

#[test]
fn spec_and_status_keep_apart() {
    let deployments = row("apps", "deployments");
    let old = json!({"metadata": {"name": "d", "generation": 3}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
    let wanted = json!({"metadata": {"name": "d"}, "spec": {"replicas": 2}, "status": {"replicas": 9}});

    let mut new = wanted.clone();
    prepare_update(deployments, "", &mut new, &old);
    bump_generation(deployments, "", &mut new, &old);
    assert_eq!((&new["spec"]["replicas"], &new["status"]["replicas"]), (&json!(2), &json!(1)));
    assert_eq!(new["metadata"]["generation"], 4);

    let mut new = wanted;
    prepare_update(deployments, "status", &mut new, &old);
    bump_generation(deployments, "status", &mut new, &old);
    assert_eq!((&new["spec"]["replicas"], &new["status"]["replicas"]), (&json!(1), &json!(9)));
    assert_eq!(new["metadata"]["generation"], 3);
}

#[test]
fn a_bound_pod_is_still_its_first_generation() {
    let old = json!({"metadata": {"name": "p", "generation": 1}, "spec": {}});
    let mut bound = json!({"metadata": {"name": "p", "generation": 1}, "spec": {"nodeName": "n"}});
    bump_generation(row("", "pods"), "binding", &mut bound, &old);
    assert_eq!(bound["metadata"]["generation"], 1);
}
