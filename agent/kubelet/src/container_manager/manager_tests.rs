use super::*;
use serde_json::json;

fn pod(uid: &str, containers: &serde_json::Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "uid": uid }, "spec": { "containers": containers } })).unwrap()
}

fn manager(root: &str) -> Option<Arc<ContainerManager>> {
    match for_this_machine(ContainerManagerConfig::for_tests(root)) {
        Ok(manager) => Some(manager),
        Err(error) => {
            orlop_host::skip("cgroups", &error.to_string());
            None
        }
    }
}

#[tokio::test]
async fn pods_come_and_go_in_the_real_tree() {
    let root = format!("/orlop-test-cm-{}", std::process::id());
    let Some(manager) = manager(&root) else { return };
    if let Err(error) = manager.setup().await {
        return orlop_host::skip("cgroups", &error.to_string());
    }
    let burstable = pod("b-1", &json!([{ "name": "a", "resources": { "requests": { "cpu": "500m" } } }]));
    let best_effort = pod("e-1", &json!([{ "name": "a" }]));
    manager.ensure_pod(&burstable).await.unwrap();
    manager.ensure_pod(&best_effort).await.unwrap();
    assert_eq!(manager.pod_cgroup_parent(&burstable), format!("{root}/kubepods/burstable/podb-1"));
    assert_eq!(manager.list_pod_cgroups(), ["b-1", "e-1"]);
    let shares = |class| {
        let dir = manager.hierarchies.dir("cpu", &manager.names.qos(class)).unwrap();
        std::fs::read_to_string(dir.join("cpu.shares")).ok().map(|s| s.trim().to_owned())
    };
    if manager.hierarchies.version() == CgroupVersion::V1 {
        assert_eq!(shares(QosClass::Burstable).as_deref(), Some("512"));
        assert_eq!(shares(QosClass::BestEffort).as_deref(), Some("2"));
    }
    let mut sleeper = tokio::process::Command::new("sleep").arg("60").spawn().unwrap();
    let path = manager.pod_path(&burstable).unwrap();
    manager.hierarchies.add_process(&path, sleeper.id().unwrap()).unwrap();
    let (destroyed, status) = tokio::join!(manager.destroy_pod("b-1"), sleeper.wait());
    destroyed.unwrap();
    assert!(!status.unwrap().success());
    assert_eq!(manager.list_pod_cgroups(), ["e-1"]);
    if manager.hierarchies.version() == CgroupVersion::V1 {
        assert_eq!(shares(QosClass::Burstable).as_deref(), Some("2"));
    }
    manager.destroy_pod("e-1").await.unwrap();
    manager.destroy_pod("never-was").await.unwrap();
    assert!(manager.destroy_pod("../..").await.is_err());
    manager.destroy_all().await.unwrap();
    assert!(!manager.hierarchies.exists(&CgroupPath::parse(&root).unwrap()), "an empty cgroupRoot goes too");
}

#[test]
fn allocatable_is_capacity_less_what_is_reserved() {
    let Some(hierarchies) = Hierarchies::discover().ok() else { return };
    let mut config = ContainerManagerConfig::for_tests("/");
    config.reserved = BTreeMap::from([("cpu".to_owned(), 500), ("memory".to_owned(), 1 << 30)]);
    let capacity = MachineCapacity {
        cpus: 4,
        memory_bytes: 8 << 30,
        huge_pages: BTreeMap::from([(2 << 20, 512)]),
        ..MachineCapacity::default()
    };
    let manager = ContainerManager::new(config, hierarchies, capacity).unwrap();
    assert_eq!(manager.capacity()["cpu"], 4000);
    assert_eq!(manager.capacity()["hugepages-2Mi"], 1 << 30);
    let allocatable = manager.allocatable();
    assert_eq!(allocatable["cpu"], 3500);
    assert_eq!(allocatable["memory"], 6 << 30);
    assert_eq!(allocatable["pods"], 110);
}
