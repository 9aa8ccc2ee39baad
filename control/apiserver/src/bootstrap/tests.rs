//! The policy is whole, reconciled, and quiet when nothing is missing.

use std::sync::atomic::Ordering;

use super::*;
use crate::admission::fake_reader::FakeReader;
use crate::admission::fields::list_at;

fn config() -> BootstrapConfig {
    BootstrapConfig {
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        advertise_address: "192.0.2.7".parse().unwrap(),
        secure_port: 6443,
        client_ca_pem: "CA".to_owned(),
        request_header_ca_pem: Some("FRONT".to_owned()),
        request_header_allowed_names: vec!["front-proxy-client".to_owned()],
    }
}

async fn boot(fake: &Arc<FakeReader>, config: &BootstrapConfig) -> u64 {
    let reader: Arc<dyn ObjectReader> = fake.clone();
    let before = fake.writes.load(Ordering::SeqCst);
    run(&reader, config, &CancellationToken::new()).await.unwrap();
    fake.writes.load(Ordering::SeqCst) - before
}

#[tokio::test]
async fn the_second_start_writes_nothing() {
    let fake = FakeReader::new();
    let first = boot(&fake, &config()).await;
    assert!(first > 140, "{first} objects");
    assert_eq!(boot(&fake, &config()).await, 0);
}

#[tokio::test]
async fn what_upstream_has_is_there() {
    let fake = FakeReader::new();
    boot(&fake, &config()).await;
    let rbac = "rbac.authorization.k8s.io";
    for (group, resource, ns, object) in [
        ("", "namespaces", None, "kube-node-lease"),
        (rbac, "clusterroles", None, "cluster-admin"),
        (rbac, "clusterroles", None, "system:aggregate-to-view"),
        (rbac, "clusterroles", None, "system:controller:replicaset-controller"),
        (rbac, "clusterrolebindings", None, "system:public-info-viewer"),
        (rbac, "roles", Some("kube-system"), "extension-apiserver-authentication-reader"),
        (rbac, "rolebindings", Some("kube-system"), "system::leader-locking-kube-scheduler"),
        ("scheduling.k8s.io", "priorityclasses", None, "system-node-critical"),
        ("networking.k8s.io", "servicecidrs", None, "kubernetes"),
        ("networking.k8s.io", "ipaddresses", None, "10.96.0.1"),
        ("", "services", Some("default"), "kubernetes"),
        ("", "endpoints", Some("default"), "kubernetes"),
        ("discovery.k8s.io", "endpointslices", Some("default"), "kubernetes"),
        ("", "configmaps", Some("kube-system"), "extension-apiserver-authentication"),
    ] {
        assert!(fake.get(group, resource, ns, object).is_some(), "{resource} {object}");
    }
    let config_map = fake.get("", "configmaps", Some("kube-system"), "extension-apiserver-authentication").unwrap();
    assert_eq!(config_map["data"]["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    let admin = fake.get(rbac, "clusterroles", None, "admin").unwrap();
    assert!(list_at(&admin, "/rules").len() > 10, "aggregated: {admin}");
    let node = fake.get(rbac, "clusterrolebindings", None, "system:node").unwrap();
    assert!(node.get("subjects").is_none());
}

#[tokio::test]
async fn damage_is_repaired_and_additions_stay() {
    let fake = FakeReader::new();
    boot(&fake, &config()).await;
    let rbac = "rbac.authorization.k8s.io";
    let mut role = Value::clone(&fake.get(rbac, "clusterroles", None, "system:discovery").unwrap());
    role["rules"] = json!([{"verbs": ["get"], "nonResourceURLs": ["/mine"]}]);
    fake.put(rbac, "clusterroles", role);
    let mut binding = Value::clone(&fake.get(rbac, "clusterrolebindings", None, "system:discovery").unwrap());
    binding["subjects"] = json!([]);
    fake.put(rbac, "clusterrolebindings", binding);
    let mut left_alone = Value::clone(&fake.get(rbac, "clusterroles", None, "view").unwrap());
    left_alone["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = "false".into();
    left_alone["aggregationRule"] = Value::Null;
    fake.put(rbac, "clusterroles", left_alone);
    assert_eq!(boot(&fake, &config()).await, 2);
    let role = fake.get(rbac, "clusterroles", None, "system:discovery").unwrap();
    assert_eq!(list_at(&role, "/rules").len(), 2);
    assert_eq!(role["rules"][0]["nonResourceURLs"][0], "/mine");
    let binding = fake.get(rbac, "clusterrolebindings", None, "system:discovery").unwrap();
    assert_eq!(binding["subjects"][0]["name"], "system:authenticated");
}

#[tokio::test]
async fn the_kubernetes_service_follows_address_port_and_range() {
    let fake = FakeReader::new();
    boot(&fake, &config()).await;
    let mut moved = config();
    moved.secure_port = 7443;
    moved.service_cidrs = vec!["10.43.0.0/16".parse().unwrap()];
    boot(&fake, &moved).await;
    let service = fake.get("", "services", Some("default"), "kubernetes").unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.43.0.1");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 7443);
    assert!(fake.get("networking.k8s.io", "ipaddresses", None, "10.96.0.1").is_none());
    let slice = fake.get("discovery.k8s.io", "endpointslices", Some("default"), "kubernetes").unwrap();
    assert_eq!(slice["ports"][0]["port"], 7443);
}

#[tokio::test]
async fn aggregation_is_written_when_a_labelled_role_appears() {
    let fake = FakeReader::new();
    boot(&fake, &config()).await;
    let rbac_group = "rbac.authorization.k8s.io";
    fake.put(
        rbac_group,
        "clusterroles",
        json!({
            "metadata": {"name": "crontabs", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
            "rules": [{"apiGroups": ["stable.example.com"], "resources": ["crontabs"], "verbs": ["get"]}],
        }),
    );
    let reader: Arc<dyn ObjectReader> = fake.clone();
    rbac::materialize_aggregation(&reader).await.unwrap();
    for role in ["view", "edit", "admin"] {
        let role = fake.get(rbac_group, "clusterroles", None, role).unwrap();
        assert!(role["rules"].to_string().contains("crontabs"), "{}", role["metadata"]["name"]);
    }
}
