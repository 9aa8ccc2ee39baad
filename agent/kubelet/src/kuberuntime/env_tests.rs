//! Expansion, services, references.

use k8s_openapi::api::core::v1::{EnvVar, ObjectFieldSelector, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::*;

#[test]
fn expansion() {
    let mut env = Environment::default();
    env.set("A", "1".into());
    env.set("B", "$(A)".into());
    let check = |text: &str, expect: &str| assert_eq!(env.expand(text), expect, "{text}");
    check("x$(A)y", "x1y");
    check("$(B)", "$(A)");
    check("$$(A)", "$(A)");
    check("$(C)", "$(C)");
    check("$A $", "$A $");
    check("$(A", "$(A");
    check("$$$(A)", "$1");
}

#[test]
fn services() {
    let service = Service {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: Some("my-svc".into()),
            ..Default::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("10.0.0.1".into()),
            ports: Some(vec![ServicePort { name: Some("http".into()), port: 80, ..Default::default() }]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let names: Vec<String> = service_variables(&[service]).into_iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(
        names,
        [
            "MY_SVC_SERVICE_HOST=10.0.0.1",
            "MY_SVC_SERVICE_PORT=80",
            "MY_SVC_SERVICE_PORT_HTTP=80",
            "MY_SVC_PORT=tcp://10.0.0.1:80",
            "MY_SVC_PORT_80_TCP=tcp://10.0.0.1:80",
            "MY_SVC_PORT_80_TCP_PROTO=tcp",
            "MY_SVC_PORT_80_TCP_PORT=80",
            "MY_SVC_PORT_80_TCP_ADDR=10.0.0.1",
        ]
    );
}

#[test]
fn resources() {
    let resources = Some(k8s_openapi::api::core::v1::ResourceRequirements {
        limits: Some(BTreeMap::from([
            ("cpu".to_owned(), ApiQuantity("1500m".into())),
            ("memory".to_owned(), ApiQuantity("100Mi".into())),
        ])),
        ..Default::default()
    });
    let mut container = Container { resources, ..Container::default() };
    let node = BTreeMap::from([("memory".to_owned(), 1 << 30)]);
    let check = |resource: &str, divisor: &str, expect: &str| {
        assert_eq!(resource_value(&container, resource, divisor, &node).unwrap(), expect, "{resource}/{divisor}");
    };
    check("limits.cpu", "", "2");
    check("limits.cpu", "1m", "1500");
    check("limits.memory", "1Mi", "100");
    check("requests.cpu", "1", "0");
    container.resources = None;
    assert_eq!(resource_value(&container, "limits.memory", "1Mi", &node).unwrap(), "1024");
    assert!(resource_value(&container, "nonsense", "", &node).is_err());
}

#[tokio::test]
async fn order_and_references() {
    let pod = Pod {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: Some("p".into()),
            labels: Some(BTreeMap::from([("a".to_owned(), "b".to_owned())])),
            ..Default::default()
        },
        ..Default::default()
    };
    let variable = |name: &str, value: &str| EnvVar { name: name.into(), value: Some(value.into()), value_from: None };
    let field = |name: &str, path: &str| EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: None, field_path: path.into() }),
            ..Default::default()
        }),
    };
    let env = Some(vec![
        variable("X", "1"),
        field("N", "metadata.name"),
        field("L", "metadata.labels['a']"),
        field("I", "status.podIP"),
        variable("Y", "$(X)-$(N)"),
    ]);
    let mut container = Container { env, ..Container::default() };
    let allocatable = BTreeMap::new();
    let ips = ["10.1.1.1".to_owned()];
    let context = EnvContext {
        pod: &pod,
        node_name: "n",
        host_ips: &[],
        pod_ips: &ips,
        services: &[],
        node_allocatable: &allocatable,
    };
    let objects = ObjectManager::new(None);
    let env = resolve(&context, &container, &objects).await.unwrap();
    let all: Vec<(&str, &str)> = env.iter().collect();
    assert_eq!(all, [("X", "1"), ("N", "p"), ("L", "b"), ("I", "10.1.1.1"), ("Y", "1-p")]);
    container.env = Some(vec![field("Z", "spec.nonsense")]);
    assert!(resolve(&context, &container, &objects).await.is_err());
}
