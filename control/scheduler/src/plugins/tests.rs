use std::sync::Arc;

use serde_json::{Value, json};

use super::default_framework;
use crate::cache::tests::{asks, node, pod, pod_with};
use crate::cache::{Cache, PodInfo};
use crate::schedule::{Choice, Decision, FitError, schedule};

/// A cluster from nodes and the Pods on them.
struct Cluster(Cache);

impl Cluster {
    fn new(nodes: &[(&str, Value, Value)]) -> Self {
        let mut cache = Cache::default();
        for (name, labels, spec) in nodes {
            let mut labels = labels.clone();
            labels["kubernetes.io/hostname"] = json!(name);
            cache.set_node(&node(name, labels, spec.clone()));
        }
        cache.set_namespace("default", [("team".to_owned(), "a".to_owned())].into());
        Self(cache)
    }
    fn plain(names: &[&str]) -> Self {
        Self::new(&names.iter().map(|n| (*n, json!({}), json!({}))).collect::<Vec<_>>())
    }
    fn with(mut self, node: &str, pod: &Arc<PodInfo>) -> Self {
        self.0.assume(pod, node);
        self
    }
    fn decide(&self, pod: &PodInfo) -> Result<Decision, Box<FitError>> {
        schedule(&default_framework(), pod, self.0.snapshot(), Choice::default())
    }
    fn goes_to(&self, pod: &PodInfo, expect: &str) {
        match self.decide(pod) {
            Ok(decision) => assert_eq!(decision.node, expect, "{:?}", decision.scores),
            Err(error) => panic!("{error}"),
        }
    }
    /// The refusal, without what is said of preemption.
    fn refuses(&self, pod: &PodInfo, expect: &str) {
        let error = self.decide(pod).expect_err("should not fit").to_string();
        assert_eq!(error.split(" preemption:").next().unwrap(), expect);
    }
}

fn tainted(effect: &str) -> Value {
    json!({"taints": [{"key": "k", "value": "v", "effect": effect}]})
}

#[test]
fn no_nodes() {
    Cluster::plain(&[]).refuses(&pod("a", json!({})), "no nodes available to schedule pods");
}

#[test]
fn message_counts_reasons_over_nodes() {
    let cluster = Cluster::new(&[
        ("a", json!({}), tainted("NoSchedule")),
        ("b", json!({}), tainted("NoExecute")),
        ("c", json!({}), json!({"unschedulable": true})),
        ("d", json!({}), json!({})),
    ]);
    cluster.refuses(
        &pod("p", asks("5", "9Gi")),
        "0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) were unschedulable, 2 node(s) had untolerated taint(s).",
    );
    let error = cluster.decide(&pod("p", asks("5", "1Gi"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "0/4 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable, 2 node(s) had untolerated taint(s). \
         preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
    );
    assert_eq!(
        error.refused_by().into_iter().collect::<Vec<_>>(),
        ["NodeResourcesFit", "NodeUnschedulable", "TaintToleration"]
    );
}

#[test]
fn tolerations() {
    let cluster = Cluster::new(&[("a", json!({}), tainted("NoSchedule"))]);
    for (toleration, fits) in [
        (json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}), true),
        (json!({"key": "k", "operator": "Exists"}), true),
        (json!({"operator": "Exists"}), true),
        (json!({"key": "k", "value": "v"}), true),
        (json!({"key": "k", "value": "w"}), false),
        (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), false),
        (json!({"key": "x", "operator": "Exists"}), false),
    ] {
        let p = pod("p", json!({"tolerations": [toleration]}));
        assert_eq!(cluster.decide(&p).is_ok(), fits, "{toleration}");
    }
    let soft = Cluster::new(&[("a", json!({}), tainted("PreferNoSchedule")), ("b", json!({}), json!({}))]);
    soft.goes_to(&pod("p", json!({})), "b");
    let cordoned = Cluster::new(&[("a", json!({}), json!({"unschedulable": true}))]);
    let p = pod("p", json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}));
    cordoned.goes_to(&p, "a");
}

fn node_affinity(terms: &Value) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
}

#[test]
fn node_selection() {
    let cluster = Cluster::new(&[
        ("a", json!({"disk": "hdd", "size": "5"}), json!({})),
        ("b", json!({"disk": "ssd", "size": "15"}), json!({})),
    ]);
    cluster.goes_to(&pod("p", json!({"nodeSelector": {"disk": "ssd"}})), "b");
    cluster.refuses(
        &pod("p", json!({"nodeSelector": {"disk": "tape"}})),
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
    );
    for (operator, key, values, expect) in [
        ("In", "disk", json!(["ssd", "x"]), "b"),
        ("NotIn", "disk", json!(["ssd"]), "a"),
        ("Gt", "size", json!(["10"]), "b"),
        ("Lt", "size", json!(["10"]), "a"),
    ] {
        let term = json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]);
        cluster.goes_to(&pod("p", node_affinity(&term)), expect);
    }
    let by_name = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]);
    cluster.goes_to(&pod("p", node_affinity(&by_name)), "b");
    let full = Cluster::plain(&["a", "b"]).with("b", &pod("x", asks("4", "1Gi")));
    let mut spec = node_affinity(&by_name);
    spec["containers"] = asks("1", "1Gi")["containers"].clone();
    full.refuses(
        &pod("p", spec),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity].",
    );
    let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}, {"key": "size", "operator": "Gt", "values": ["10"]}]}}]}}});
    cluster.goes_to(&pod("p", preferred), "b");
}

#[test]
fn resources_and_pod_count() {
    let cluster = Cluster::plain(&["a"]).with("a", &pod("x", asks("3", "1Gi")));
    assert!(cluster.decide(&pod("p", asks("1", "7Gi"))).is_ok());
    cluster.refuses(&pod("p", asks("1001m", "1Gi")), "0/1 nodes are available: 1 Insufficient cpu.");
    let gpu = |n: &str| json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"example.com/gpu": n}}}]});
    assert!(cluster.decide(&pod("p", gpu("1"))).is_ok());
    cluster.refuses(&pod("p", gpu("2")), "0/1 nodes are available: 1 Insufficient example.com/gpu.");
    let mut many = Cluster::plain(&["a"]);
    for i in 0..10 {
        many = many.with("a", &pod(&format!("x{i}"), json!({})));
    }
    many.refuses(&pod("p", json!({})), "0/1 nodes are available: 1 Too many pods.");
}

#[test]
fn emptier_nodes_are_preferred_and_a_burst_spreads() {
    let cluster = Cluster::plain(&["a", "b"]).with("a", &pod("x", asks("2", "4Gi")));
    cluster.goes_to(&pod("p", asks("1", "1Gi")), "b");
    let mut burst = Cluster::plain(&["a", "b"]);
    for i in 0..8 {
        let p = pod(&format!("p{i}"), asks("1", "1Gi"));
        let node = burst.decide(&p).unwrap().node;
        burst = burst.with(&node, &p);
    }
    burst.refuses(&pod("p8", asks("1", "1Gi")), "0/2 nodes are available: 2 Insufficient cpu.");
    for node in burst.0.snapshot().nodes() {
        assert_eq!(node.pods().len(), 4);
    }
}

#[test]
fn host_ports() {
    let port = |ip: &str, protocol: &str| json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": ip, "protocol": protocol}]}]});
    for (held, wanted, fits) in [
        (port("", "TCP"), port("", "TCP"), false),
        (port("", "TCP"), port("", "UDP"), true),
        (port("10.0.0.1", "TCP"), port("10.0.0.2", "TCP"), true),
        (port("10.0.0.1", "TCP"), port("0.0.0.0", "TCP"), false),
    ] {
        let cluster = Cluster::plain(&["a"]).with("a", &pod("x", held));
        let p = pod("p", wanted);
        if fits {
            cluster.goes_to(&p, "a");
        } else {
            cluster
                .refuses(&p, "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.");
        }
    }
}

#[test]
fn images_already_there_are_preferred() {
    let mut cluster = Cluster::plain(&["a", "b"]);
    let mut with_image = node("b", json!({"kubernetes.io/hostname": "b"}), json!({}));
    with_image.status.as_mut().unwrap().images =
        serde_json::from_value(json!([{"names": ["i:latest"], "sizeBytes": 900_000_000}])).unwrap();
    cluster.0.set_node(&with_image);
    cluster.goes_to(&pod("p", json!({})), "b");
}

fn pod_affinity(kind: &str, term: &Value) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
}

fn zones() -> Cluster {
    let zone = |z: &str| json!({"zone": z});
    Cluster::new(&[("a", zone("1"), json!({})), ("b", zone("1"), json!({})), ("c", zone("2"), json!({}))])
}

fn labelled(name: &str, app: &str, spec: Value) -> Arc<PodInfo> {
    pod_with(name, json!({"labels": {"app": app}}), spec)
}

#[test]
fn pods_near_and_far() {
    let term = json!({"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "zone"});
    let cluster = zones().with("c", &labelled("x", "db", json!({})));
    cluster.goes_to(&pod("p", pod_affinity("podAffinity", &term)), "c");
    let far = pod("p", pod_affinity("podAntiAffinity", &term));
    assert_ne!(cluster.decide(&far).unwrap().node, "c");
    cluster.refuses(
        &pod(
            "p",
            pod_affinity(
                "podAffinity",
                &json!({"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "zone"}),
            ),
        ),
        "0/3 nodes are available: 3 node(s) didn't match pod affinity rules.",
    );
    // The first of a group that wants to be near itself may go anywhere.
    assert!(zones().decide(&labelled("p", "db", pod_affinity("podAffinity", &term))).is_ok());
    let everywhere = zones().with("a", &labelled("x", "db", json!({}))).with("c", &labelled("y", "db", json!({})));
    everywhere.refuses(&far, "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.");
    let hermit = labelled(
        "x",
        "web",
        pod_affinity("podAntiAffinity", &json!({"labelSelector": {}, "topologyKey": "kubernetes.io/hostname"})),
    );
    Cluster::plain(&["a"]).with("a", &hermit).refuses(
        &pod("p", json!({})),
        "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.",
    );
    let other_namespace =
        json!({"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "zone", "namespaces": ["other"]});
    assert!(cluster.decide(&pod("p", pod_affinity("podAffinity", &other_namespace))).is_err());
    let by_label = json!({"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "zone", "namespaceSelector": {"matchLabels": {"team": "a"}}});
    cluster.goes_to(&pod("p", pod_affinity("podAffinity", &by_label)), "c");
}

#[test]
fn spreading() {
    let hard = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let p = labelled("p", "web", hard.clone());
    let one = zones().with("a", &labelled("x", "web", json!({})));
    one.goes_to(&p, "c");
    let cordoned = Cluster::new(&[("a", json!({"zone": "1"}), json!({})), ("n", json!({}), json!({}))]);
    let skewed = cordoned.with("a", &labelled("x", "web", json!({})));
    skewed.goes_to(&p, "a");
    let full = zones().with("a", &labelled("x", "web", json!({}))).with("c", &pod("big", asks("4", "1Gi")));
    let mut spec = hard;
    spec["containers"] = asks("1", "1Gi")["containers"].clone();
    full.refuses(
        &labelled("p", "web", spec),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match pod topology spread constraints.",
    );
    // Pods of one controller spread over hosts by default.
    let owned = |name: &str| {
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]);
        pod_with(name, json!({"ownerReferences": owner}), json!({}))
    };
    let cluster = Cluster::plain(&["a", "b"]).with("a", &owned("x"));
    cluster.goes_to(&owned("p"), "b");
}

#[test]
fn preemption_takes_the_least_important() {
    let important = |name: &str, priority: i32, cpu: &str| {
        let mut spec = asks(cpu, "1Gi");
        spec["priority"] = json!(priority);
        pod(name, spec)
    };
    let cluster = Cluster::plain(&["a", "b"])
        .with("a", &important("high", 50, "4"))
        .with("b", &important("low1", 1, "2"))
        .with("b", &important("low2", 2, "2"));
    let error = cluster.decide(&important("p", 100, "1")).unwrap_err();
    let nomination = error.nomination.unwrap();
    assert_eq!(nomination.node, "b");
    assert_eq!(nomination.victims.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["low1"]);
    let error = cluster.decide(&important("p", 0, "1")).unwrap_err();
    assert!(error.nomination.is_none());
    assert!(
        error
            .to_string()
            .ends_with("preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.")
    );
    let mut never = asks("1", "1Gi");
    never["priority"] = json!(100);
    never["preemptionPolicy"] = json!("Never");
    assert!(cluster.decide(&pod("p", never)).unwrap_err().nomination.is_none());
}

#[test]
fn every_decision_says_why() {
    let decision = Cluster::plain(&["a", "b"]).decide(&pod("p", asks("1", "1Gi"))).unwrap();
    let plugins: Vec<&str> = decision.scores["a"].keys().copied().collect();
    assert_eq!(plugins, ["ImageLocality", "NodeResourcesBalancedAllocation", "NodeResourcesFit"]);
}
