#![allow(clippy::needless_pass_by_value, reason = "tables read better with json! values passed as they are")]

use super::*;
use crate::defaults::apply_defaults;
use serde_json::json;

fn create(gvk: (&str, &str), mut object: Value) -> Vec<String> {
    apply_defaults(gvk.0, "v1", gvk.1, &mut object);
    validate_create(gvk.0, "v1", gvk.1, &object).iter().map(ToString::to_string).collect()
}

fn check(gvk: (&str, &str), object: Value, expect: &[&str]) {
    let shown = object.to_string();
    assert_eq!(create(gvk, object), expect, "{shown}");
}

fn pod(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn check_pod(spec: Value, expect: &[&str]) {
    check(("", "Pod"), pod(spec), expect);
}

fn container(fields: Value) -> Value {
    let mut c = json!({"name": "c", "image": "i"});
    for (key, value) in fields.as_object().unwrap() {
        c[key] = value.clone();
    }
    json!({ "containers": [c] })
}

#[test]
fn metadata() {
    let map = |meta: Value| json!({ "metadata": meta });
    let cm = ("", "ConfigMap");
    check(cm, map(json!({"name": "a.b-c", "namespace": "n", "labels": {"app": "x"}, "finalizers": ["a/b"]})), &[]);
    check(cm, map(json!({"namespace": "n"})), &["metadata.name: Required value: name or generateName is required"]);
    check(
        cm,
        map(json!({"name": "A_b", "namespace": "n"})),
        &[
            "metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ],
    );
    check(cm, map(json!({"name": "a"})), &["metadata.namespace: Required value"]);
    check(
        ("", "Node"),
        map(json!({"name": "a", "namespace": "n"})),
        &["metadata.namespace: Forbidden: not allowed on this type"],
    );
    check(
        ("", "Namespace"),
        map(json!({"name": "a.b", "labels": {"kubernetes.io/metadata.name": "a.b"}})),
        &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
    );
    check(("rbac.authorization.k8s.io", "ClusterRole"), map(json!({"name": "system:node"})), &[]);
    check(
        cm,
        map(json!({"name": "a", "namespace": "n", "annotations": {"k": "x".repeat(256 * 1024)}})),
        &["metadata.annotations: Too long: may not be more than 262144 bytes"],
    );
    check(
        cm,
        map(
            json!({"name": "a", "namespace": "n", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x"}]}),
        ),
        &["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
    );
}

#[test]
fn metadata_updates() {
    let old = json!({"metadata": {"name": "a", "namespace": "n", "uid": "1", "resourceVersion": "5", "deletionTimestamp": "t", "finalizers": ["x/y"]}});
    let mut new = old.clone();
    new["metadata"]["uid"] = json!("2");
    new["metadata"]["finalizers"] = json!(["x/z"]);
    new["metadata"]["resourceVersion"] = json!("");
    let errs: Vec<String> =
        validate_update("", "v1", "ConfigMap", &new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(
        errs,
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x/z\"}",
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            "metadata.uid: Invalid value: \"2\": field is immutable",
        ]
    );
}

#[test]
fn pods() {
    check_pod(json!({}), &[]);
    check_pod(json!({"containers": []}), &["spec.containers: Required value"]);
    check_pod(
        json!({"containers": [{"image": "i"}, {"name": "x"}, {"name": "x", "image": "i"}]}),
        &[
            "spec.containers[0].name: Required value",
            "spec.containers[1].image: Required value",
            "spec.containers[2].name: Duplicate value: \"x\"",
        ],
    );
    check_pod(
        json!({"restartPolicy": "Sometimes"}),
        &[
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ],
    );
    check_pod(
        json!({"volumes": [{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}, {"name": "v", "hostPath": {"path": "/a/../b"}}]}),
        &[
            "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
            "spec.volumes[1].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ],
    );
    check_pod(
        json!({"nodeSelector": {"a b": "c"}, "activeDeadlineSeconds": 0, "tolerations": [{"key": "", "operator": "Equal"}]}),
        &[
            "spec.nodeSelector: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ],
    );
}

#[test]
fn containers() {
    check_pod(
        container(
            json!({"ports": [{"containerPort": 80, "name": "a"}, {"containerPort": 70000, "name": "a", "protocol": "X"}]}),
        ),
        &[
            "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
            "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
    check_pod(
        container(json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}]})),
        &["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
    );
    check_pod(
        container(json!({"resources": {"requests": {"cpu": "2", "foo": "1"}, "limits": {"cpu": "1"}}})),
        &[
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource for containers",
        ],
    );
    check_pod(
        container(json!({"resources": {"requests": {"example.com/gpu": "1"}}})),
        &["spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"],
    );
    check_pod(
        container(
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.foo"}}}]}),
        ),
        &[
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.foo\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ],
    );
    check_pod(
        container(
            json!({"livenessProbe": {"successThreshold": 2}, "readinessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}}),
        ),
        &[
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            "spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        ],
    );
    check_pod(
        json!({"initContainers": [{"name": "c", "image": "i", "livenessProbe": {"exec": {"command": ["x"]}}}]}),
        &[
            "spec.initContainers[0].name: Duplicate value: \"c\"",
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
}

fn update_pod(change: impl Fn(&mut Value)) -> Vec<String> {
    let mut old = pod(json!({"tolerations": [{"key": "a", "operator": "Exists"}]}));
    old["metadata"]["resourceVersion"] = json!("1");
    apply_defaults("", "v1", "Pod", &mut old);
    let mut new = old.clone();
    change(&mut new);
    validate_update("", "v1", "Pod", &new, &old).iter().map(ToString::to_string).collect()
}

#[test]
fn pod_updates() {
    assert!(update_pod(|_| {}).is_empty());
    assert!(update_pod(|p| p["spec"]["containers"][0]["image"] = json!("j")).is_empty());
    assert!(update_pod(|p| p["spec"]["activeDeadlineSeconds"] = json!(9)).is_empty());
    assert!(update_pod(|p| p["metadata"]["labels"] = json!({"a": "b"})).is_empty());
    let more = json!([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]);
    assert!(update_pod(|p| p["spec"]["tolerations"] = more.clone()).is_empty());
    assert_eq!(
        update_pod(|p| p["spec"]["tolerations"] = json!([])),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
    let errs = update_pod(|p| p["spec"]["nodeName"] = json!("n"));
    assert_eq!(errs.len(), 1);
    assert!(
        errs[0]
            .starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,")
    );
    assert!(errs[0].ends_with("-  nodeName: null\n+  nodeName: \"n\""), "{}", errs[0]);
    assert_eq!(
        update_pod(|p| p["spec"]["containers"] = json!([])),
        ["spec.containers: Required value", "spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
}

fn service(spec: Value, expect: &[&str]) {
    check(("", "Service"), json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec}), expect);
}

#[test]
fn services() {
    let ip = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]});
    let with = |mut spec: Value| {
        spec["clusterIP"] = ip["clusterIP"].clone();
        spec["clusterIPs"] = ip["clusterIPs"].clone();
        spec
    };
    service(with(json!({"ports": [{"port": 80}]})), &[]);
    service(with(json!({})), &["spec.ports: Required value"]);
    service(json!({"clusterIP": "None", "clusterIPs": ["None"]}), &[]);
    service(
        with(json!({"ports": [{"port": 80}, {"port": 80, "name": "b", "nodePort": 30000}]})),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
        ],
    );
    service(
        with(json!({"type": "Foo", "ports": [{"port": 0, "targetPort": "UPPER"}]})),
        &[
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: \"UPPER\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            "spec.ports[0].targetPort: Invalid value: \"UPPER\": must contain at least one letter (a-z)",
            "spec.type: Unsupported value: \"Foo\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ],
    );
    service(json!({"type": "ExternalName"}), &["spec.externalName: Required value"]);
    service(
        json!({"clusterIP": "10.0.0.300", "clusterIPs": ["10.0.0.300"], "ports": [{"port": 1}]}),
        &[
            "spec.clusterIPs[0]: Invalid value: \"10.0.0.300\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
}

fn deployment(spec: Value) -> Value {
    let mut d = json!({"metadata": {"name": "d", "namespace": "n", "resourceVersion": "1"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    for (key, value) in spec.as_object().unwrap() {
        d["spec"][key] = value.clone();
    }
    d
}

#[test]
fn deployments() {
    let check = |spec: Value, expect: &[&str]| check(("apps", "Deployment"), deployment(spec), expect);
    check(json!({}), &[]);
    check(json!({"replicas": -1}), &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]);
    check(json!({"selector": null}), &["spec.selector: Required value"]);
    check(
        json!({"selector": {"matchLabels": {"a": "c"}}}),
        &["spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`"],
    );
    check(
        json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
        &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"],
    );
    let mut old = deployment(json!({}));
    apply_defaults("apps", "v1", "Deployment", &mut old);
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(7);
    assert!(validate_update("apps", "v1", "Deployment", &new, &old).is_empty());
    new["spec"]["selector"] = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
    let errs = validate_update("apps", "v1", "Deployment", &new, &old);
    assert_eq!(errs.len(), 1);
    assert!(errs[0].to_string().ends_with("field is immutable"));
    new = old.clone();
    new["status"] = json!({"replicas": 1, "readyReplicas": 2});
    assert_eq!(
        validate_status_update("apps", "v1", "Deployment", &new, &old)[0].to_string(),
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
    );
}

#[test]
fn configuration_and_access() {
    let meta = json!({"name": "x", "namespace": "n", "resourceVersion": "1"});
    check(
        ("", "ConfigMap"),
        json!({"metadata": meta, "data": {"a/b": "", "..": ""}}),
        &[
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            "data[..]: Invalid value: \"..\": must not be '..'",
        ],
    );
    let big = json!({"metadata": meta, "data": {"a": "x".repeat(1024 * 1024 + 1)}});
    check(("", "ConfigMap"), big, &["<nil>: Too long: may not be more than 1048576 bytes"]);
    check(
        ("", "Secret"),
        json!({"metadata": meta, "type": "kubernetes.io/tls", "data": {"tls.crt": ""}}),
        &["data[tls.key]: Required value"],
    );
    let old = json!({"metadata": meta, "immutable": true, "data": {"a": "b"}});
    let new = json!({"metadata": meta, "immutable": true, "data": {"a": "c"}});
    assert_eq!(
        validate_update("", "v1", "ConfigMap", &new, &old)[0].to_string(),
        "data: Forbidden: field is immutable when `immutable` is set"
    );
    check(
        ("rbac.authorization.k8s.io", "Role"),
        json!({"metadata": meta, "rules": [{"verbs": [], "nonResourceURLs": ["/x"]}, {"verbs": ["get"], "resources": ["pods"]}]}),
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            "rules[1].apiGroups: Required value: resource rules must supply at least one api group",
        ],
    );
    check(
        ("discovery.k8s.io", "EndpointSlice"),
        json!({"metadata": meta, "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1", "fd00::1"]}, {}]}),
        &[
            "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            "endpoints[0].addresses: Invalid value: \"fd00::1\": must be an IPv4 address",
            "endpoints[1].addresses: Required value: must contain at least 1 address",
        ],
    );
}

#[test]
fn semantic_equality() {
    for (a, b, expect) in [
        (json!({"a": null}), json!({}), true),
        (json!({"a": []}), json!({}), true),
        (json!({"a": {}}), json!({}), false),
        (json!({"labels": {}}), json!({}), true),
        (json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}), true),
        (json!([1, 2]), json!([2, 1]), false),
    ] {
        assert_eq!(semantically_equal(&a, &b), expect, "{a} {b}");
    }
}
