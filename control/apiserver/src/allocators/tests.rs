//! Bands, races, updates, repair.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::addresses::{Range, static_band};
use super::*;
use crate::admission::fake_reader::FakeReader;

fn allocator(fake: &Arc<FakeReader>, cidrs: &[&str]) -> Arc<ServiceAllocator> {
    let config = AllocatorConfig {
        service_cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
        node_ports: (30000, 32767),
    };
    Arc::new(ServiceAllocator::new(fake.clone(), config))
}

fn service(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec.get("ports").is_none() {
        spec["ports"] = json!([{"port": 80, "protocol": "TCP"}]);
    }
    if spec.get("selector").is_none() {
        spec["selector"] = json!({"app": "x"});
    }
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

/// Allocates, stores, commits.
async fn create(
    fake: &Arc<FakeReader>,
    allocator: &Arc<ServiceAllocator>,
    name: &str,
    spec: &Value,
) -> Result<Value, Status> {
    let mut object = service(name, spec);
    let allocation = allocator.allocate(&mut object, None, false).await?;
    fake.put("", "services", object.clone());
    allocation.commit().await;
    Ok(object)
}

async fn update(
    fake: &Arc<FakeReader>,
    allocator: &Arc<ServiceAllocator>,
    name: &str,
    spec: &Value,
) -> Result<Value, Status> {
    let old = fake.get("", "services", Some("default"), name).unwrap();
    let mut object = service(name, spec);
    let allocation = allocator.allocate(&mut object, Some(&old), false).await?;
    fake.put("", "services", object.clone());
    allocation.commit().await;
    Ok(object)
}

fn addresses(fake: &FakeReader) -> HashSet<String> {
    fake.list("networking.k8s.io", "ipaddresses", None).iter().map(|o| name(o).to_owned()).collect()
}

#[test]
fn bands_are_upstreams() {
    for (size, band) in [(8, 0), (16, 0), (32, 16), (256, 16), (512, 32), (1 << 16, 256), (1 << 64, 256)] {
        assert_eq!(static_band(size, 16, 16, 256), band, "size {size}");
    }
    for (size, band) in [(8, 0), (64, 16), (2768, 86), (100_000, 128)] {
        assert_eq!(static_band(size, 16, 32, 128), band, "ports {size}");
    }
}

#[test]
fn candidates_are_all_usable_addresses_dynamic_ones_first() {
    let range = Range::new(&"10.0.0.0/24".parse().unwrap()).unwrap();
    let all: Vec<String> = range.candidates().map(|ip| ip.to_string()).collect();
    assert_eq!(all.len(), 254);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 254);
    assert!(!all.contains(&"10.0.0.0".to_owned()) && !all.contains(&"10.0.0.255".to_owned()));
    let last = |ip: &str| ip.rsplit('.').next().unwrap().parse::<u8>().unwrap();
    assert!(all[..238].iter().all(|ip| last(ip) > 16), "dynamic first");
    assert!(all[238..].iter().all(|ip| last(ip) <= 16), "static last");
    let v6 = Range::new(&"fd00::/112".parse().unwrap()).unwrap();
    assert_eq!(v6.candidates().count(), (1 << 16) - 1);
    assert!(Range::new(&"10.0.0.0/32".parse().unwrap()).is_none());
}

#[tokio::test]
async fn a_plain_service_is_filled() {
    let fake = FakeReader::new();
    let allocator = allocator(&fake, &["10.96.0.0/16"]);
    let object = create(&fake, &allocator, "web", &json!({"type": "NodePort", "ports": [
        {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "protocol": "TCP", "nodePort": 30080}]})).await.unwrap();
    let ip = object["spec"]["clusterIP"].as_str().unwrap();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert_eq!(object["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(object["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(object["spec"]["ipFamilyPolicy"], "SingleStack");
    let ports = &object["spec"]["ports"];
    assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"], "one port, two protocols");
    assert!((30086..=32767).contains(&ports[0]["nodePort"].as_u64().unwrap()), "of the dynamic band");
    assert_eq!(ports[2]["nodePort"], 30080);
    assert_eq!(addresses(&fake), HashSet::from([ip.to_owned()]));
    allocator.release(&object).await;
    assert!(addresses(&fake).is_empty());
    create(&fake, &allocator, "again", &json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30080}]}))
        .await
        .unwrap();
}

#[tokio::test]
async fn refusals_read_like_upstreams() {
    let fake = FakeReader::new();
    let allocator = allocator(&fake, &["10.96.0.0/16"]);
    create(
        &fake,
        &allocator,
        "first",
        &json!({"clusterIP": "10.96.0.10", "type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}),
    )
    .await
    .unwrap();
    let table = [
        (
            json!({"clusterIP": "10.96.0.10"}),
            "Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: provided IP is already allocated",
        ),
        (
            json!({"clusterIP": "10.1.2.3"}),
            "Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"10.1.2.3\"]: failed to allocate IP 10.1.2.3: the provided network does not match the current range",
        ),
        (
            json!({"clusterIP": "10.96.0.0"}),
            "the provided IP (10.96.0.0) is not in the valid range. The range of valid IPs is 10.96.0.0/16",
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 80, "nodePort": 30080}]}),
            "Service \"x\" is invalid: spec.ports[1].nodePort: Invalid value: 30080: provided port is already allocated",
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (json!({"clusterIP": "nonsense"}), "must be a valid IP address"),
    ];
    for (spec, words) in table {
        let before = addresses(&fake);
        let error = create(&fake, &allocator, "x", &spec).await.unwrap_err();
        assert_eq!(error.code, 422, "{spec}");
        assert!(error.message.contains(words), "wanted {words:?}\n   got {:?}", error.message);
        assert_eq!(addresses(&fake), before, "{spec} leaks");
    }
}

#[tokio::test]
async fn headless_and_external_name_take_nothing() {
    let fake = FakeReader::new();
    let allocator = allocator(&fake, &["10.96.0.0/16"]);
    let headless = create(&fake, &allocator, "h", &json!({"clusterIP": "None"})).await.unwrap();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(headless["spec"]["ipFamilies"], json!(["IPv4"]));
    let selectorless = create(&fake, &allocator, "s", &json!({"clusterIP": "None", "selector": {}})).await.unwrap();
    assert_eq!(selectorless["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(selectorless["spec"]["ipFamilyPolicy"], "RequireDualStack");
    let external =
        create(&fake, &allocator, "e", &json!({"type": "ExternalName", "externalName": "example.org"})).await.unwrap();
    assert!(external["spec"].get("clusterIP").is_none());
    assert!(addresses(&fake).is_empty());
}

#[tokio::test]
async fn dual_stack() {
    let fake = FakeReader::new();
    let allocator = allocator(&fake, &["10.96.0.0/16", "fd00::/112"]);
    let single = create(&fake, &allocator, "one", &json!({})).await.unwrap();
    assert_eq!(single["spec"]["clusterIPs"].as_array().unwrap().len(), 1);
    let both = update(&fake, &allocator, "one", &json!({"ipFamilyPolicy": "PreferDualStack"})).await.unwrap();
    assert_eq!(both["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(both["spec"]["clusterIPs"][0], single["spec"]["clusterIP"]);
    assert!(both["spec"]["clusterIPs"][1].as_str().unwrap().starts_with("fd00::"));
    assert_eq!(addresses(&fake).len(), 2);
    let mut spec = both["spec"].clone();
    spec["ipFamilyPolicy"] = "SingleStack".into();
    let back = update(&fake, &allocator, "one", &spec).await.unwrap();
    assert_eq!(back["spec"]["clusterIPs"].as_array().unwrap().len(), 1);
    assert_eq!(addresses(&fake).len(), 1);
    let v6 = create(&fake, &allocator, "six", &json!({"ipFamilies": ["IPv6"]})).await.unwrap();
    assert!(v6["spec"]["clusterIP"].as_str().unwrap().starts_with("fd00::"));
}

#[tokio::test]
async fn updates_keep_what_they_leave_out_and_types_give_back() {
    let fake = FakeReader::new();
    let allocator = allocator(&fake, &["10.96.0.0/16"]);
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
    let first = create(&fake, &allocator, "web", &local).await.unwrap();
    let check_port = first["spec"]["healthCheckNodePort"].clone();
    assert!(check_port.is_u64());
    let same = update(&fake, &allocator, "web", &local).await.unwrap();
    assert_eq!(first["spec"], same["spec"], "nothing said, nothing changed");
    let mut plain = same["spec"].clone();
    plain["type"] = "ClusterIP".into();
    let plain = update(&fake, &allocator, "web", &plain).await.unwrap();
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none());
    assert!(plain["spec"].get("healthCheckNodePort").is_none());
    assert!(allocator.ports.lock().unwrap().used().is_empty(), "ports given back");
    assert_eq!(plain["spec"]["clusterIP"], first["spec"]["clusterIP"]);
    let mut external = plain["spec"].clone();
    external["type"] = "ExternalName".into();
    let external = update(&fake, &allocator, "web", &external).await.unwrap();
    assert!(external["spec"].get("clusterIP").is_none());
    assert!(addresses(&fake).is_empty(), "address given back");
    let again = update(&fake, &allocator, "web", &json!({"type": "ClusterIP"})).await.unwrap();
    assert!(again["spec"]["clusterIP"].is_string());
}

#[tokio::test]
async fn rollback_and_dry_run_leave_nothing() {
    let fake = FakeReader::new();
    let allocator = allocator(&fake, &["10.96.0.0/16"]);
    let spec = json!({"type": "NodePort"});
    let mut object = service("x", &spec);
    allocator.allocate(&mut object, None, false).await.unwrap().rollback().await;
    let mut dry = service("x", &spec);
    let allocation = allocator.allocate(&mut dry, None, true).await.unwrap();
    assert!(dry["spec"]["clusterIP"].is_string() && dry["spec"]["ports"][0]["nodePort"].is_u64());
    allocation.rollback().await;
    assert!(addresses(&fake).is_empty());
    assert!(allocator.ports.lock().unwrap().used().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_creates_share_nothing() {
    let fake = FakeReader::new();
    // 14 usable addresses for 20 Services that all want one and the same NodePort range.
    let allocator = allocator(&fake, &["10.0.0.0/28"]);
    let tasks: Vec<_> = (0..20)
        .map(|i| {
            let (fake, allocator) = (fake.clone(), allocator.clone());
            tokio::spawn(async move { create(&fake, &allocator, &format!("s{i}"), &json!({"type": "NodePort"})).await })
        })
        .collect();
    let mut ips = HashSet::new();
    let mut ports = HashSet::new();
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(object) => {
                assert!(ips.insert(object["spec"]["clusterIP"].as_str().unwrap().to_owned()));
                assert!(ports.insert(object["spec"]["ports"][0]["nodePort"].as_u64().unwrap()));
            }
            Err(error) => {
                assert!(error.message.contains("range is full"), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!((ips.len(), refused), (14, 6));
    assert_eq!(allocator.ports.lock().unwrap().used().len(), 14, "refused ones hold no port");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_asked_address_has_one_winner() {
    let fake = FakeReader::new();
    let allocator = allocator(&fake, &["10.96.0.0/16"]);
    let tasks: Vec<_> = (0..16)
        .map(|i| {
            let (fake, allocator) = (fake.clone(), allocator.clone());
            tokio::spawn(async move {
                create(&fake, &allocator, &format!("s{i}"), &json!({"clusterIP": "10.96.0.10"})).await.is_ok()
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
}

#[tokio::test(start_paused = true)]
async fn repair_finds_leaks_and_losses() {
    let fake = FakeReader::new();
    fake.put("", "services", service("held", &json!({"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 1, "nodePort": 30009}]})));
    fake.put("networking.k8s.io", "ipaddresses", ip_address_object("10.96.0.66".parse().unwrap(), "default", "gone"));
    let allocator = allocator(&fake, &["10.96.0.0/16"]);
    allocator.repair().await.unwrap();
    assert_eq!(addresses(&fake), HashSet::from(["10.96.0.9".to_owned()]));
    assert!(
        create(&fake, &allocator, "x", &json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30009}]}))
            .await
            .is_err()
    );

    // What a cut request holds is only let go when two rounds saw it.
    let mut cut = service("cut", &json!({"type": "NodePort"}));
    drop(allocator.allocate(&mut cut, None, false).await.unwrap());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(allocator.clone().run(shutdown.clone()));
    tokio::time::sleep(REPAIR_EVERY + Duration::from_secs(1)).await;
    assert_eq!(addresses(&fake).len(), 2);
    tokio::time::sleep(REPAIR_EVERY).await;
    assert_eq!(addresses(&fake), HashSet::from(["10.96.0.9".to_owned()]));
    assert_eq!(allocator.ports.lock().unwrap().used(), &HashSet::from([30009]));
    shutdown.cancel();
    running.await.unwrap();
}
