//! Endpoints of Pods, and how slices change.
#![allow(clippy::needless_pass_by_value, reason = "json! literals read best where they stand")]

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::plan::{MAX_ENDPOINTS, Observed, Plan, plan};

fn service(spec: Value) -> Service {
    let mut whole = json!({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]});
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    serde_json::from_value(
        json!({"metadata": {"name": "web", "namespace": "ns", "uid": "s", "labels": {"a": "b"}}, "spec": whole}),
    )
    .unwrap()
}

fn pod(n: usize, changes: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": format!("p{n}"), "namespace": "ns", "uid": format!("u{n:04}")},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": format!("10.1.{}.{}", n / 250, n % 250 + 1),
            "podIPs": [{"ip": format!("10.1.{}.{}", n / 250, n % 250 + 1)}, {"ip": format!("fd00::{n:x}")}],
            "conditions": [{"type": "Ready", "status": "True"}]},
    });
    for (pointer, value) in changes.as_object().unwrap() {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn run(service: &Service, pods: &[Pod], slices: &[EndpointSlice]) -> Plan {
    plan(&Observed {
        service,
        pods: pods.iter().collect(),
        node: &|_| {
            Some(std::sync::Arc::new(
                serde_json::from_value(
                    json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z"}}}),
                )
                .unwrap(),
            ))
        },
        slices: slices.iter().collect(),
    })
}

fn named(mut slices: Vec<EndpointSlice>) -> Vec<EndpointSlice> {
    for (n, slice) in slices.iter_mut().enumerate() {
        slice.metadata.name = Some(format!("web-{n}"));
    }
    slices
}

fn count(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

#[test]
fn the_first_slice() {
    let plan = run(&service(json!({})), &[pod(1, json!({}))], &[]);
    assert_eq!(
        serde_json::to_value(&plan.create).unwrap(),
        json!([{
            "addressType": "IPv4", "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "endpoints": [{"addresses": ["10.1.0.2"], "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "p1", "namespace": "ns", "uid": "u0001"}, "zone": "z"}],
            "metadata": {"generateName": "web-", "namespace": "ns",
                "labels": {"a": "b", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io", "kubernetes.io/service-name": "web"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "s", "controller": true, "blockOwnerDeletion": true}]},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }])
    );
    assert_eq!((plan.update.len(), plan.delete.len()), (0, 0));
}

#[test]
fn conditions() {
    for (what, spec, changes, expect) in [
        ("not ready", json!({}), json!({"/status/conditions": []}), [false, false, false]),
        ("going", json!({}), json!({"/metadata/deletionTimestamp": "2026-01-01T00:00:00Z"}), [false, true, true]),
        (
            "published anyway",
            json!({"publishNotReadyAddresses": true}),
            json!({"/status/conditions": []}),
            [true, false, false],
        ),
    ] {
        let plan = run(&service(spec), &[pod(1, changes)], &[]);
        let c = plan.create[0].endpoints.as_ref().unwrap()[0].conditions.clone().unwrap();
        assert_eq!([c.ready, c.serving, c.terminating], expect.map(Some), "{what}");
    }
    for changes in [json!({"/status/phase": "Failed"}), json!({"/status/podIP": null, "/status/podIPs": null})] {
        let plan = run(&service(json!({})), &[pod(1, changes)], &[]);
        assert_eq!(count(&plan.create[0]), 0, "an empty slice stands for a service without endpoints");
    }
}

#[test]
fn families_and_ports() {
    let dual = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let plan = run(&dual, &[pod(1, json!({}))], &[]);
    let types: Vec<_> = plan
        .create
        .iter()
        .map(|s| (s.address_type.as_str(), s.endpoints.as_ref().unwrap()[0].addresses[0].as_str()))
        .collect();
    assert_eq!(types, [("IPv4", "10.1.0.2"), ("IPv6", "fd00::1")]);
    // Named ports with different numbers need slices of their own.
    let other = pod(2, json!({"/spec/containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 9090}]}]}));
    let plan = run(&service(json!({})), &[pod(1, json!({})), other], &[]);
    let ports: Vec<_> = plan.create.iter().map(|s| s.ports.as_ref().unwrap()[0].port.unwrap()).collect();
    assert_eq!(ports, [8080, 9090]);
    let headless = run(&service(json!({"clusterIP": "None"})), &[], &[]);
    assert!(headless.create[0].metadata.labels.as_ref().unwrap().contains_key("service.kubernetes.io/headless"));
}

#[test]
fn slices_change_as_little_as_possible() {
    let service = service(json!({}));
    let pods: Vec<Pod> = (0..250).map(|n| pod(n, json!({}))).collect();
    let slices = named(run(&service, &pods, &[]).create);
    assert_eq!(slices.iter().map(count).collect::<Vec<_>>(), [MAX_ENDPOINTS, MAX_ENDPOINTS, 50]);
    assert_eq!(run(&service, &pods, &slices), Plan::default(), "nothing changed");

    // One more: into the slice with room.
    let mut more = pods.clone();
    more.push(pod(900, json!({})));
    let plan = run(&service, &more, &slices);
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 0));
    assert_eq!(plan.update.iter().map(count).collect::<Vec<_>>(), [51]);

    // One replaced: its slice takes the new one.
    let mut replaced = pods.clone();
    replaced[5] = pod(901, json!({}));
    let plan = run(&service, &replaced, &slices);
    assert_eq!(
        plan.update.iter().map(|s| (s.metadata.name.clone().unwrap(), count(s))).collect::<Vec<_>>(),
        [("web-0".to_owned(), 100)]
    );

    // All gone but one slice's: emptied slices go.
    let plan = run(&service, &pods[200..], &slices);
    assert_eq!((plan.create.len(), plan.update.len()), (0, 0));
    assert_eq!(plan.delete, ["web-0", "web-1"]);

    // All gone: one empty slice stays.
    let plan = run(&service, &[], &slices);
    assert_eq!(plan.update.iter().map(count).collect::<Vec<_>>(), [0]);
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 2));
    // A family that the service lost.
    let mut six = slices[2].clone();
    six.address_type = "IPv6".to_owned();
    six.metadata.name = Some("six".to_owned());
    assert_eq!(run(&service, &pods[200..], &[slices[2].clone(), six]).delete, ["six"]);
}
