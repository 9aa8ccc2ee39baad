use super::*;
use serde_json::json;

fn check(gvk: (&str, &str, &str), mut input: Value, expect: &Value) {
    apply_defaults(gvk.0, gvk.1, gvk.2, &mut input);
    assert_eq!(&input, expect);
    let again = input.clone();
    apply_defaults(gvk.0, gvk.1, gvk.2, &mut input);
    assert_eq!(input, again, "defaulting twice must change nothing");
}

#[test]
fn pod_with_everything_nested() {
    check(
        ("", "v1", "Pod"),
        json!({"spec": {
            "hostNetwork": true,
            "containers": [{
                "name": "c", "image": "registry.local:5000/app",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
                "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}, "requests": {"cpu": "0.5"}},
                "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 5},
            }],
            "volumes": [{"name": "e"}, {"name": "h", "hostPath": {"path": "/x"}},
                {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
                    {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}},
                {"name": "s", "secret": {"secretName": "s"}}, {"name": "c", "configMap": {"name": "c", "defaultMode": 256}}],
        }}),
        &json!({"spec": {
            "hostNetwork": true,
            "containers": [{
                "name": "c", "image": "registry.local:5000/app",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP", "apiVersion": "v1"}}},
                        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
                "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "periodSeconds": 5,
                    "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3},
                "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/x", "type": ""}},
                {"name": "p", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                    {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}]}}]}},
                {"name": "s", "secret": {"secretName": "s", "defaultMode": 420}}, {"name": "c", "configMap": {"name": "c", "defaultMode": 256}}],
            "enableServiceLinks": true, "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler",
        }}),
    );
}

#[test]
fn pull_policies() {
    for (image, expect) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.29", "IfNotPresent"),
        ("r:5000/nginx", "Always"),
        ("r:5000/nginx:2", "IfNotPresent"),
        ("nginx@sha256:00", "IfNotPresent"),
        ("nginx:latest@sha256:00", "Always"),
        ("", "IfNotPresent"),
    ] {
        assert_eq!(image_pull_policy(image), expect, "{image}");
    }
}

#[test]
fn services() {
    check(
        ("", "v1", "Service"),
        json!({"spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}}),
        &json!({"spec": {
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}],
            "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster"},
            "status": {"loadBalancer": {}}}),
    );
    check(
        ("", "v1", "Service"),
        json!({"spec": {"type": "NodePort", "sessionAffinity": "ClientIP"}}),
        &json!({"spec": {
            "type": "NodePort", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster"},
            "status": {"loadBalancer": {}}}),
    );
    check(
        ("", "v1", "Service"),
        json!({"spec": {"type": "ExternalName", "externalName": "x.y"}}),
        &json!({"spec": {"type": "ExternalName", "externalName": "x.y", "sessionAffinity": "None"}, "status": {"loadBalancer": {}}}),
    );
}

#[test]
fn workloads() {
    check(
        ("apps", "v1", "Deployment"),
        json!({"spec": {"template": {"spec": {"containers": [{"image": "a:1", "resources": {"limits": {"cpu": "1000m"}}}]}}}}),
        &json!({"spec": {
            "template": {"spec": {
                "containers": [{"image": "a:1", "resources": {"limits": {"cpu": "1"}}, "imagePullPolicy": "IfNotPresent",
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
                "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler"}},
            "replicas": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}}),
    );
    check(
        ("apps", "v1", "Deployment"),
        json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}}),
        &json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}}),
    );
    check(
        ("batch", "v1", "Job"),
        json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
        &json!({"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}},
            "completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": false,
            "podReplacementPolicy": "TerminatingOrFailed", "manualSelector": false}}),
    );
}

#[test]
fn smaller_groups() {
    check(
        ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
        json!({"roleRef": {"kind": "Role"}, "subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}]}),
        &json!({"roleRef": {"kind": "Role", "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount"}]}),
    );
    check(
        ("", "v1", "Namespace"),
        json!({"metadata": {"name": "n"}}),
        &json!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}}, "status": {"phase": "Active"}}),
    );
    check(
        ("networking.k8s.io", "v1", "NetworkPolicy"),
        json!({"spec": {"egress": [{"ports": [{"port": 53}]}]}}),
        &json!({"spec": {"egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}], "podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}),
    );
    check(
        ("", "v1", "LimitRange"),
        json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2000m"}, "min": {"memory": "1Mi"}}]}}),
        &json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"},
            "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}}]}}),
    );
}

#[test]
fn odd_shapes_are_left_alone() {
    for odd in [json!(null), json!([]), json!({"spec": 3}), json!({"spec": {"containers": {"a": 1}, "volumes": [1]}})] {
        let mut value = odd;
        for (group, kind) in [("", "Pod"), ("", "Service"), ("apps", "Deployment"), ("batch", "CronJob")] {
            apply_defaults(group, "v1", kind, &mut value);
        }
    }
}

#[test]
fn string_data_of_a_secret_becomes_data() {
    let mut secret = json!({"data": {"a": "b2xk", "b": "a2VwdA=="}, "stringData": {"a": "new", "c": "d"}});
    apply_defaults("", "v1", "Secret", &mut secret);
    assert_eq!(secret, json!({"data": {"a": "bmV3", "b": "a2VwdA==", "c": "ZA=="}, "type": "Opaque"}));
    let mut empty = json!({"stringData": {}});
    apply_defaults("", "v1", "Secret", &mut empty);
    assert_eq!(empty.get("stringData"), None);
}
