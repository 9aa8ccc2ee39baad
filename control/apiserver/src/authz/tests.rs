//! Tables for RBAC, the node authorizer, escalation and the reviews.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::rule::{Rule, uncovered};
use super::*;
use crate::admission::fake_reader::FakeReader;
use crate::bootstrap::{self, BootstrapConfig};

const RBAC: &str = "rbac.authorization.k8s.io";

async fn cluster() -> (Arc<FakeReader>, Chain) {
    let fake = FakeReader::new();
    let reader: Arc<dyn ObjectReader> = fake.clone();
    let config = BootstrapConfig {
        service_cidrs: Vec::new(),
        advertise_address: "192.0.2.7".parse().unwrap(),
        secure_port: 6443,
        client_ca_pem: String::new(),
        request_header_ca_pem: None,
        request_header_allowed_names: Vec::new(),
    };
    bootstrap::run(&reader, &config, &CancellationToken::new()).await.unwrap();
    (fake, Chain::new(reader))
}

fn user(name: &str, groups: &[&str]) -> Arc<UserInfo> {
    Arc::new(UserInfo::new(name, groups))
}

fn node() -> Arc<UserInfo> {
    user("system:node:n1", &["system:nodes"])
}

/// `verb resource[/sub][.group] [namespace/]name`, or `verb /path`.
fn ask(user: &Arc<UserInfo>, text: &str) -> Attributes {
    let mut words = text.split_whitespace();
    let verb = words.next().unwrap().to_owned();
    let what = words.next().unwrap();
    if what.starts_with('/') {
        return Attributes { user: user.clone(), verb, path: what.to_owned(), ..Attributes::default() };
    }
    let (resource, group) = what.split_once('.').unwrap_or((what, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let place = words.next().unwrap_or_default();
    let (namespace, name) = place.split_once('/').unwrap_or(("", place));
    Attributes {
        user: user.clone(),
        verb,
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        api_group: group.to_owned(),
        api_version: "v1".to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        resource_request: true,
        field_selector: words.next().unwrap_or_default().to_owned(),
        ..Attributes::default()
    }
}

fn check(chain: &Chain, user: &Arc<UserInfo>, table: &[(&str, bool)]) {
    for (text, allowed) in table {
        let decision = chain.authorize(&ask(user, text));
        assert_eq!(decision.is_allowed(), *allowed, "{} {text}: {decision:?}", user.name);
    }
}

#[tokio::test]
async fn bootstrap_policy_in_force() {
    let (fake, chain) = cluster().await;
    check(&chain, &user("root", &["system:masters"]), &[("delete nodes n1", true), ("get /anything", true)]);
    let anonymous = Arc::new(UserInfo::anonymous());
    check(
        &chain,
        &anonymous,
        &[
            ("get /healthz", true),
            ("get /livez", true),
            ("get /readyz", true),
            ("get /version", true),
            ("get /api", false),
            ("get /metrics", false),
            ("list pods default/", false),
        ],
    );
    check(
        &chain,
        &user("jane", &[]),
        &[
            ("get /apis/apps/v1", true),
            ("create selfsubjectreviews.authentication.k8s.io", true),
            ("list pods default/", false),
        ],
    );
    check(
        &chain,
        &user("system:kube-scheduler", &[]),
        &[
            ("create pods/binding default/p", true),
            ("create bindings default/p", true),
            ("list nodes", true),
            ("patch pods/status default/p", true),
            ("get secrets default/s", false),
            ("create pods default/p", false),
        ],
    );
    check(
        &chain,
        &user("system:kube-controller-manager", &[]),
        &[
            ("create pods default/p", true),
            ("update deployments/status.apps default/d", true),
            ("create replicasets.apps default/r", true),
            ("create endpointslices.discovery.k8s.io default/e", true),
            ("patch pods/status default/p", true),
            ("create configmaps default/kube-root-ca.crt", true),
            ("create serviceaccounts default/default", true),
            ("delete namespaces x", true),
            ("update namespaces/finalize x", true),
            ("list whatevers.example.com", true),
            ("create events.events.k8s.io default/e", true),
            ("update nodes/status n1", true),
            ("create clusterrolebindings.rbac.authorization.k8s.io x", false),
        ],
    );
    check(
        &chain,
        &user("system:kube-proxy", &[]),
        &[("list endpointslices.discovery.k8s.io", true), ("watch services", true), ("list secrets", false)],
    );
    check(
        &chain,
        &user("kube-apiserver-kubelet-client", &[]),
        &[
            ("create nodes/proxy n1", true),
            ("get nodes/metrics n1", true),
            ("get nodes/healthz n1", true),
            ("list pods", false),
        ],
    );
    // An edit binding in one namespace reaches just that.
    fake.put(
        RBAC,
        "rolebindings",
        json!({
            "metadata": {"name": "jane", "namespace": "dev"},
            "roleRef": {"kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "bot"}],
        }),
    );
    let table = [
        ("create pods dev/p", true),
        ("get pods/log dev/p", true),
        ("update deployments/scale.apps dev/d", true),
        ("create roles.rbac.authorization.k8s.io dev/r", false),
        ("create pods default/p", false),
        ("list pods", false),
    ];
    check(&chain, &user("jane", &[]), &table);
    check(&chain, &user("system:serviceaccount:dev:bot", &[]), &table);
}

#[test]
fn rules_match_as_upstream() {
    let rule = |value: Value| Rule::from_value(&value);
    let jane = user("jane", &[]);
    let table = [
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), "get pods a/b", true),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), "get pods/log a/b", false),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]}), "get pods/log a/b", true),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]}), "get pods a/b", false),
        (json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}), "explode bombs/fuse.x a/b", true),
        (
            json!({"verbs": ["update"], "apiGroups": ["*"], "resources": ["*/scale"]}),
            "update deployments/scale.apps a/b",
            true,
        ),
        (json!({"verbs": ["update"], "apiGroups": ["*"], "resources": ["*/scale"]}), "update scale.apps a/b", false),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/*"]}), "get pods/log a/b", false),
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x"]}),
            "get secrets a/x",
            true,
        ),
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x"]}),
            "get secrets a/y",
            false,
        ),
        (
            json!({"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x"]}),
            "list secrets a/",
            false,
        ),
        (json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["pods"]}), "get pods a/b", false),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/logs/*"]}), "get /logs/kubelet", true),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/logs/*"]}), "get /logs", false),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/a*b"]}), "get /axb", false),
        (json!({"verbs": ["get"], "nonResourceURLs": ["*"]}), "get /any", true),
        (json!({"verbs": ["get"], "nonResourceURLs": ["*"]}), "get pods a/b", false),
        (json!({"verbs": ["get"], "apiGroups": ["*"], "resources": ["*"]}), "get /any", false),
    ];
    for (value, text, expect) in table {
        assert_eq!(rule(value.clone()).matches(&ask(&jane, text)), expect, "{value} {text}");
    }
}

#[test]
fn coverage_is_exact() {
    let one = |verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]| Rule {
        verbs: verbs.iter().map(|x| (*x).to_owned()).collect(),
        api_groups: groups.iter().map(|x| (*x).to_owned()).collect(),
        resources: resources.iter().map(|x| (*x).to_owned()).collect(),
        resource_names: names.iter().map(|x| (*x).to_owned()).collect(),
        ..Rule::default()
    };
    let owned = [
        one(&["get", "list"], &[""], &["pods"], &[]),
        one(&["*"], &["apps"], &["*"], &[]),
        one(&["get"], &[""], &["secrets"], &["a", "b"]),
        one(&["update"], &["*"], &["*/scale"], &[]),
    ];
    let table = [
        (one(&["get"], &[""], &["pods"], &[]), true),
        (one(&["get", "watch"], &[""], &["pods"], &[]), false),
        (one(&["get"], &["", "apps"], &["pods"], &[]), true),
        (one(&["*"], &["apps"], &["deployments/status"], &[]), true),
        (one(&["*"], &["*"], &["*"], &[]), false),
        (one(&["get"], &[""], &["secrets"], &["a"]), true),
        (one(&["get"], &[""], &["secrets"], &["a", "c"]), false),
        (one(&["get"], &[""], &["secrets"], &[]), false),
        (one(&["update"], &["x"], &["foos/scale"], &[]), true),
    ];
    for (wanted, expect) in table {
        assert_eq!(uncovered(&owned, std::slice::from_ref(&wanted)).is_empty(), expect, "{wanted}");
    }
}

fn pod(ns: &str, name: &str, node: &str, extra: &Value) -> Value {
    let mut spec = json!({"nodeName": node, "serviceAccountName": "default"});
    for (k, v) in extra.as_object().unwrap() {
        spec[k] = v.clone();
    }
    json!({"metadata": {"name": name, "namespace": ns, "annotations": {}}, "spec": spec})
}

#[tokio::test]
async fn a_node_reaches_what_its_pods_need_and_no_more() {
    let (fake, chain) = cluster().await;
    fake.put(
        "",
        "pods",
        pod(
            "a",
            "mine",
            "n1",
            &json!({
                "imagePullSecrets": [{"name": "pull"}],
                "volumes": [
                    {"name": "s", "secret": {"secretName": "mounted"}},
                    {"name": "p", "projected": {"sources": [{"configMap": {"name": "projected"}}]}},
                    {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
                    {"name": "eph", "ephemeral": {}},
                ],
                "containers": [{
                    "env": [{"valueFrom": {"secretKeyRef": {"name": "env"}}}],
                    "envFrom": [{"configMapRef": {"name": "envfrom"}}],
                }],
            }),
        ),
    );
    fake.put("", "pods", pod("a", "theirs", "n2", &json!({"volumes": [{"secret": {"secretName": "other"}}]})));
    fake.put("", "pods", pod("a", "pending", "", &json!({"volumes": [{"secret": {"secretName": "unbound"}}]})));
    let mut mirror = pod("a", "mirror", "n1", &json!({"volumes": [{"secret": {"secretName": "stolen"}}]}));
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x".into();
    fake.put("", "pods", mirror);
    fake.put("", "persistentvolumes", json!({"metadata": {"name": "pv"}, "spec": {
        "claimRef": {"namespace": "a", "name": "claim"}, "csi": {"nodeStageSecretRef": {"namespace": "csi", "name": "stage"}}}}));
    let node_objects = [
        ("get secrets a/mounted", true),
        ("watch secrets a/mounted", true),
        ("get secrets a/pull", true),
        ("get secrets a/env", true),
        ("get configmaps a/projected", true),
        ("list configmaps a/envfrom", true),
        ("get secrets a/other", false),
        ("get secrets a/unbound", false),
        ("get secrets a/stolen", false),
        ("get secrets b/mounted", false),
        ("list secrets a/", false),
        ("update secrets a/mounted", false),
        ("list secrets", false),
        ("get persistentvolumeclaims a/claim", true),
        ("get persistentvolumeclaims a/mine-eph", true),
        ("list persistentvolumeclaims a/claim", false),
        ("update persistentvolumeclaims/status a/claim", true),
        ("update persistentvolumeclaims a/claim", false),
        ("get persistentvolumes pv", true),
        ("get persistentvolumes other", false),
        ("get secrets csi/stage", true),
        ("create serviceaccounts/token a/default", true),
        ("create serviceaccounts/token b/default", false),
        ("get serviceaccounts a/default", true),
        ("get pods a/mine", true),
        ("get pods a/theirs", false),
        ("list pods", false),
        ("get pods/log a/mine", false),
        ("list pods / spec.nodeName=n1", true),
        ("watch pods / spec.nodeName=n2", false),
        ("create pods a/x", true),
        ("update pods a/mine", false),
        ("patch pods/status a/mine", true),
        ("create pods/eviction a/mine", true),
        ("get nodes n1", true),
        ("get nodes n2", false),
        ("list nodes", false),
        ("patch nodes/status n1", true),
        ("delete nodes n1", false),
        ("update leases.coordination.k8s.io kube-node-lease/n1", true),
        ("update leases.coordination.k8s.io kube-node-lease/n2", false),
        ("update leases.coordination.k8s.io default/n1", false),
        ("get csinodes.storage.k8s.io n1", true),
        ("get csinodes.storage.k8s.io n2", false),
        ("list services", true),
        ("create events default/e", true),
        ("create tokenreviews.authentication.k8s.io", true),
        ("create subjectaccessreviews.authorization.k8s.io", true),
        ("list csidrivers.storage.k8s.io", true),
        ("list runtimeclasses.node.k8s.io", true),
        ("create deployments.apps a/d", false),
    ];
    check(&chain, &node(), &node_objects);
    // Neither name nor group alone makes a node.
    check(&chain, &user("system:node:n1", &[]), &[("get secrets a/mounted", false)]);
    check(&chain, &user("jane", &["system:nodes"]), &[("get secrets a/mounted", false)]);
    // Rights go with the Pod, and move with the differences.
    fake.remove("", "pods", "a", "mine");
    check(
        &chain,
        &node(),
        &[("get secrets a/mounted", false), ("get configmaps a/envfrom", false), ("get secrets csi/stage", false)],
    );
    fake.put("", "pods", pod("a", "theirs", "n1", &json!({"volumes": [{"secret": {"secretName": "other"}}]})));
    check(&chain, &node(), &[("get secrets a/other", true)]);
}

#[tokio::test]
async fn refusals_read_like_upstreams() {
    let (fake, chain) = cluster().await;
    let say = |user: &Arc<UserInfo>, text: &str| {
        let attributes = ask(user, text);
        let decision = chain.authorize(&attributes);
        assert!(!decision.is_allowed());
        forbidden(&attributes, decision.reason())
    };
    let jane = user("jane", &[]);
    let status = say(&jane, "list pods default/");
    assert_eq!(status.code, 403);
    assert_eq!(
        status.message,
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(
        say(&jane, "update deployments/scale.apps default/web").message,
        "deployments.apps \"web\" is forbidden: User \"jane\" cannot update resource \"deployments/scale\" in API group \"apps\" in the namespace \"default\""
    );
    assert_eq!(
        say(&jane, "list nodes").message,
        "nodes is forbidden: User \"jane\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"
    );
    assert_eq!(say(&jane, "get /metrics").message, "forbidden: User \"jane\" cannot get path \"/metrics\"");
    assert_eq!(
        say(&node(), "get secrets a/other").message,
        "secrets \"other\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \"\" in the namespace \"a\": no relationship found between node 'n1' and this object"
    );
    fake.put(
        RBAC,
        "clusterrolebindings",
        json!({
        "metadata": {"name": "dangling"}, "roleRef": {"kind": "ClusterRole", "name": "gone"},
        "subjects": [{"kind": "User", "name": "jane"}]}),
    );
    assert!(
        say(&jane, "list nodes")
            .message
            .ends_with("at the cluster scope: RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found")
    );
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let (fake, chain) = cluster().await;
    let bind = |name: &str, role: &str, who: &str, ns: &str| {
        json!({
        "metadata": {"name": name, "namespace": ns}, "roleRef": {"kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": who}]})
    };
    fake.put(RBAC, "rolebindings", bind("jane-admin", "admin", "jane", "dev"));
    let jane = user("jane", &[]);
    let role = |rules: Value| json!({"metadata": {"name": "r", "namespace": "dev"}, "rules": rules});
    let pods = role(json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "create"]}]));
    let nodes = role(json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}]));
    escalation::check_role(&chain, &jane, "roles", "dev", &pods, None).unwrap();
    let refused = escalation::check_role(&chain, &jane, "roles", "dev", &nodes, None).unwrap_err();
    assert_eq!(
        refused.message,
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}"
    );
    // An update that leaves the rules as they are passes.
    escalation::check_role(&chain, &jane, "roles", "dev", &nodes, Some(&nodes)).unwrap();
    assert!(escalation::check_role(&chain, &jane, "roles", "other", &pods, None).is_err());
    escalation::check_role(&chain, &user("root", &["system:masters"]), "roles", "dev", &nodes, None).unwrap();

    let to = |role: &str| bind("b", role, "eve", "dev");
    escalation::check_binding(&chain, &jane, "rolebindings", "dev", &to("view"), None).unwrap();
    assert!(escalation::check_binding(&chain, &jane, "rolebindings", "dev", &to("cluster-admin"), None).is_err());
    assert_eq!(
        escalation::check_binding(&chain, &jane, "rolebindings", "dev", &to("gone"), None).unwrap_err().code,
        404
    );
    // `bind` lets one give a role that one doesn't hold; `escalate` lets one write any rule.
    fake.put(
        RBAC,
        "clusterroles",
        json!({"metadata": {"name": "binder"}, "rules": [
        {"apiGroups": [RBAC], "resources": ["clusterroles"], "resourceNames": ["cluster-admin"], "verbs": ["bind"]},
        {"apiGroups": [RBAC], "resources": ["roles"], "verbs": ["escalate"]}]}),
    );
    fake.put(RBAC, "rolebindings", bind("jane-binder", "binder", "jane", "dev"));
    escalation::check_binding(&chain, &jane, "rolebindings", "dev", &to("cluster-admin"), None).unwrap();
    escalation::check_role(&chain, &jane, "roles", "dev", &nodes, None).unwrap();
}

#[tokio::test]
async fn reviews_answer() {
    let (_fake, chain) = cluster().await;
    let masters = user("root", &["system:masters"]);
    let ask = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
    let answer = reviews::self_subject_access_review(&chain, &masters, &ask).unwrap();
    assert_eq!(answer["status"]["allowed"], true);
    assert_eq!(answer["kind"], "SelfSubjectAccessReview");
    let mut other = ask.clone();
    other["spec"]["user"] = "jane".into();
    assert_eq!(reviews::subject_access_review(&chain, &other).unwrap()["status"]["allowed"], false);
    other["spec"]["groups"] = json!(["system:masters"]);
    assert_eq!(reviews::subject_access_review(&chain, &other).unwrap()["status"]["allowed"], true);
    assert_eq!(reviews::local_subject_access_review(&chain, "other", &other).unwrap_err().code, 400);
    assert_eq!(reviews::subject_access_review(&chain, &json!({"spec": {"user": "x"}})).unwrap_err().code, 422);
    let rules = json!({"spec": {"namespace": "default"}});
    let answer = reviews::self_subject_rules_review(&chain, &user("jane", &[]), &rules).unwrap();
    assert_eq!(answer["status"]["incomplete"], false);
    assert!(answer["status"]["nonResourceRules"].to_string().contains("/healthz"));
}
