use super::*;
use serde_json::{Value, json};

#[allow(clippy::needless_pass_by_value, reason = "tables read better with values")]
fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "uid": "u" }, "spec": spec })).unwrap()
}

fn config() -> ContainerManagerConfig {
    ContainerManagerConfig::for_tests("/")
}

#[allow(clippy::needless_pass_by_value, reason = "tables read better with values")]
fn container(name: &str, requests: Value, limits: Value) -> Value {
    json!({ "name": name, "resources": { "requests": requests, "limits": limits } })
}

#[test]
fn the_class_follows_from_requests_and_limits() {
    let check = |spec: Value, want| assert_eq!(qos_class(&pod(spec.clone())), want, "{spec}");
    let full = json!({ "cpu": "100m", "memory": "64Mi" });
    check(json!({ "containers": [container("a", json!({}), json!({}))] }), QosClass::BestEffort);
    check(json!({ "containers": [container("a", full.clone(), full.clone())] }), QosClass::Guaranteed);
    check(json!({ "containers": [container("a", json!({ "cpu": "100m" }), full.clone())] }), QosClass::Burstable);
    check(
        json!({ "containers": [container("a", json!({ "cpu": "0.1", "memory": "65536Ki" }), full.clone())] }),
        QosClass::Guaranteed,
    );
    check(
        json!({ "containers": [container("a", full.clone(), full.clone()), container("b", json!({}), json!({}))] }),
        QosClass::Burstable,
    );
    check(json!({ "containers": [container("a", json!({ "cpu": "0" }), json!({}))] }), QosClass::BestEffort);
    check(
        json!({ "containers": [{ "name": "a" }], "resources": { "requests": full, "limits": full } }),
        QosClass::Guaranteed,
    );
}

#[test]
fn oom_scores_are_upstreams() {
    const CAPACITY: i64 = 4_000_000_000;
    let check = |spec: Value, want| {
        let pod = pod(spec);
        let container = pod.spec.as_ref().unwrap().containers[0].clone();
        assert_eq!(oom_score_adj(&pod, &container, CAPACITY), want);
    };
    let none = json!({});
    check(json!({ "containers": [container("a", none.clone(), none.clone())] }), 1000);
    let all = json!({ "cpu": "1", "memory": "1G" });
    check(json!({ "containers": [container("a", all.clone(), all.clone())] }), -997);
    check(json!({ "containers": [container("a", json!({ "memory": "1G" }), none.clone())] }), 750);
    check(json!({ "containers": [container("a", json!({ "memory": "4G" }), none.clone())] }), 3);
    check(json!({ "containers": [container("a", json!({ "memory": "1" }), none.clone())] }), 999);
    check(json!({ "priority": 2_000_001_000, "containers": [container("a", none.clone(), none)] }), -997);
}

#[test]
fn a_sidecar_is_no_likelier_victim_than_its_app() {
    let spec = json!({
        "initContainers": [{ "name": "side", "restartPolicy": "Always", "resources": { "requests": { "memory": "1M" } } }],
        "containers": [container("a", json!({ "memory": "1G" }), json!({}))],
    });
    let pod = pod(spec);
    let side = pod.spec.as_ref().unwrap().init_containers.as_ref().unwrap()[0].clone();
    assert_eq!(oom_score_adj(&pod, &side, 4_000_000_000), 750);
}

#[test]
fn a_container_gets_what_it_asks_for() {
    let spec = json!({ "containers": [container("a", json!({ "cpu": "250m" }), json!({ "cpu": "500m", "memory": "64Mi", "hugepages-2Mi": "4Mi" }))] });
    let pod = pod(spec);
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let grant = container_grant(&pod, container, &config(), 1 << 32, false);
    assert_eq!((grant.cpu_shares, grant.cpu_quota, grant.cpu_period), (256, 50_000, 100_000));
    assert_eq!(grant.memory_limit_in_bytes, 64 << 20);
    assert_eq!(grant.hugepage_limits, [("2MB".to_owned(), 4 << 20)]);
    assert!(grant.unified.is_empty());
    let on_v2 = container_grant(&pod, container, &config(), 1 << 32, true);
    assert_eq!(on_v2.unified["memory.oom.group"], "1");
    assert_eq!(on_v2.memory_swap_limit_in_bytes, 64 << 20);
}

#[test]
fn a_pod_is_limited_only_where_all_its_containers_are() {
    let limited = container("a", json!({ "cpu": "100m" }), json!({ "cpu": "200m", "memory": "1Mi" }));
    let open = container("b", json!({ "cpu": "100m" }), json!({ "cpu": "300m" }));
    let grant = pod_grant(&pod(json!({ "containers": [limited, open] })), &config());
    assert_eq!((grant.cpu_shares, grant.cpu_quota_us, grant.memory_bytes), (Some(204), Some(50_000), None));
    let best_effort = pod_grant(&pod(json!({ "containers": [{ "name": "a" }] })), &config());
    assert_eq!((best_effort.cpu_shares, best_effort.cpu_quota_us), (Some(2), None));
}

#[test]
fn init_containers_and_sidecars_count_as_upstream_counts() {
    let cpu = |milli: &str| json!({ "requests": { "cpu": milli } });
    let requests = pod_requests(&pod(json!({
        "initContainers": [
            { "name": "i1", "resources": cpu("300m") },
            { "name": "s", "restartPolicy": "Always", "resources": cpu("100m") },
            { "name": "i2", "resources": cpu("500m") },
        ],
        "containers": [{ "name": "a", "resources": cpu("200m") }],
        "overhead": { "cpu": "10m" },
    })));
    // i2 beside the running sidecar is the peak: 500 + 100, and the overhead on top.
    assert_eq!(requests["cpu"], 610);
}
