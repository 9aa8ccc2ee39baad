use super::*;

fn facts<'a>(runtime: Result<&'a RuntimeReport, &'a str>, identity: &'a MachineIdentity, now_s: i64) -> Facts<'a> {
    Facts {
        addresses: &[],
        hostname: "n1",
        capacity: BTreeMap::from([("cpu".to_owned(), 2500), ("memory".to_owned(), 3 << 30), ("pods".to_owned(), 110)]),
        allocatable: BTreeMap::from([("cpu".to_owned(), 2000)]),
        identity,
        swap_bytes: 0,
        kubelet_version: "v1.36.2+orlop",
        kubelet_port: 10250,
        runtime,
        images: &[],
        max_images: 50,
        unhealthy: None,
        now: Timestamp::from_second(now_s).unwrap(),
    }
}

fn ready(status: &NodeStatus) -> (String, String, String) {
    let c = condition_of(status, "Ready").unwrap();
    (c.status.clone(), c.reason.clone().unwrap(), c.message.clone().unwrap())
}

#[test]
fn ready_says_why_not() {
    let identity = MachineIdentity::default();
    let fine = RuntimeReport::default();
    let status = build(&facts(Ok(&fine), &identity, 1), None);
    assert_eq!(ready(&status), ("True".into(), "KubeletReady".into(), "kubelet is posting ready status".into()));
    assert!(is_ready(&status));
    let kinds: Vec<_> = status.conditions.iter().flatten().map(|c| c.type_.as_str()).collect();
    assert_eq!(kinds, ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]);

    let no_network = RuntimeReport { network_error: Some("container runtime network not ready: x".into()), ..fine };
    let mut facts = facts(Ok(&no_network), &identity, 1);
    facts.unhealthy = Some("PLEG is not healthy".into());
    assert_eq!(ready(&build(&facts, None)).2, "[container runtime network not ready: x, PLEG is not healthy]");
    facts.unhealthy = None;
    facts.runtime = Err("container runtime is down");
    assert_eq!(ready(&build(&facts, None)).2, "container runtime is down");
}

#[test]
fn transition_times_move_with_the_status_only() {
    let identity = MachineIdentity::default();
    let fine = RuntimeReport::default();
    let first = build(&facts(Ok(&fine), &identity, 100), None);
    let second = build(&facts(Ok(&fine), &identity, 200), Some(&first));
    let times = |s: &NodeStatus| {
        let c = condition_of(s, "Ready").unwrap();
        let second = |t: &Option<Time>| t.as_ref().unwrap().0.as_second();
        (second(&c.last_transition_time), second(&c.last_heartbeat_time))
    };
    assert_eq!(times(&second), (100, 200));
    assert!(!differs(&first, &second), "a heartbeat is no change");
    let third = build(&facts(Err("down"), &identity, 300), Some(&second));
    assert_eq!(times(&third), (300, 300));
    assert!(differs(&second, &third));
}

#[test]
fn quantities_are_written_as_upstream_writes_them() {
    let identity = MachineIdentity::default();
    let fine = RuntimeReport::default();
    let capacity = build(&facts(Ok(&fine), &identity, 1), None).capacity.unwrap();
    assert_eq!(capacity["cpu"].0, "2500m");
    assert_eq!(capacity["memory"].0, "3Gi");
    assert_eq!(capacity["pods"].0, "110");
}

#[test]
fn images_are_the_largest_and_bounded() {
    let image = |name: &str, size_bytes, names: usize| ImageReport {
        names: (0..names).map(|i| format!("{name}:{i}")).collect(),
        size_bytes,
    };
    let all = [image("small", 1, 1), image("large", 9, 7), image("unnamed", 99, 0), image("middle", 5, 1)];
    let got = images(&all, 2);
    assert_eq!(got.iter().map(|i| i.size_bytes.unwrap()).collect::<Vec<_>>(), [9, 5]);
    assert_eq!(got[0].names.as_ref().unwrap().len(), 5);
}

#[test]
fn a_patch_holds_what_changed() {
    let identity = MachineIdentity::default();
    let fine = RuntimeReport::default();
    let addresses = ["10.0.0.1".parse().unwrap()];
    let mut with_address = facts(Ok(&fine), &identity, 1);
    let old = build(&with_address, None);
    with_address.addresses = &addresses;
    with_address.capacity.remove("memory");
    let new = build(&with_address, Some(&old));
    let patch = patch(&old, &new);
    let fields: Vec<_> = patch["status"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["addresses", "capacity"]);
    assert_eq!(patch["status"]["addresses"].as_array().unwrap().last().unwrap()["$patch"], "replace");
    assert_eq!(patch["status"]["capacity"]["memory"], Value::Null);
}
