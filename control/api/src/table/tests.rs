use super::*;
use serde_json::json;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn cells(group: &str, kind: &str, mut object: Value) -> Vec<String> {
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T11:55:00Z");
    let row = row(group, kind, &object, now());
    assert_eq!(row.len(), columns(group, kind).len(), "{kind}: a cell for each column");
    row.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned)).collect()
}

#[test]
fn durations() {
    const D: i64 = 86400;
    for (seconds, expect) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (600, "10m"),
        (179 * 60, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 300, "3h5m"),
        (9 * 3600 + 300, "9h"),
        (2 * D, "2d"),
        (2 * D + 7200, "2d2h"),
        (8 * D + 7200, "8d"),
        (730 * D, "2y"),
        (731 * D, "2y1d"),
        (8 * 365 * D, "8y"),
    ] {
        assert_eq!(human_duration(jiff::SignedDuration::from_secs(seconds)), expect);
    }
}

#[test]
fn pod_status_column() {
    let running = json!({"ready": true, "state": {"running": {}}});
    let done = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let table = [
        (json!({"status": {"phase": "Pending"}}), "0/1", "Pending", "0"),
        (json!({"status": {"phase": "Running", "containerStatuses": [running]}}), "1/1", "Running", "0"),
        (
            json!({"status": {"phase": "Running", "containerStatuses": [{"restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2026-01-01T11:59:50Z"}}}]}}),
            "0/1",
            "CrashLoopBackOff",
            "3 (10s ago)",
        ),
        (json!({"status": {"phase": "Succeeded", "containerStatuses": [done]}}), "0/1", "Completed", "0"),
        (
            json!({"status": {"phase": "Running", "conditions": ready, "containerStatuses": [done, running]}}),
            "1/1",
            "Running",
            "0",
        ),
        (json!({"status": {"phase": "Running", "containerStatuses": [done, running]}}), "1/1", "NotReady", "0"),
        (
            json!({"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 137}}}]}}),
            "0/1",
            "ExitCode:137",
            "0",
        ),
        (
            json!({"spec": {"initContainers": [{"name": "a"}, {"name": "b"}]},
                "status": {"phase": "Pending", "initContainerStatuses": [
                    {"name": "a", "state": {"terminated": {"exitCode": 0}}}, {"name": "b", "state": {"running": {}}}]}}),
            "0/1",
            "Init:1/2",
            "0",
        ),
        (
            json!({"spec": {"initContainers": [{"name": "a"}]},
                "status": {"phase": "Pending", "initContainerStatuses": [{"name": "a", "restartCount": 1, "state": {"terminated": {"exitCode": 2}}}]}}),
            "0/1",
            "Init:ExitCode:2",
            "1",
        ),
        (
            json!({"spec": {"initContainers": [{"name": "s", "restartPolicy": "Always"}]},
                "status": {"phase": "Running", "containerStatuses": [running],
                    "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "state": {"running": {}}}]}}),
            "2/2",
            "Running",
            "0",
        ),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T12:00:00Z"}, "status": {"phase": "Running", "containerStatuses": [running]}}),
            "1/1",
            "Terminating",
            "0",
        ),
        (
            json!({"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}}),
            "0/1",
            "SchedulingGated",
            "0",
        ),
        (json!({"status": {"phase": "Failed", "reason": "Evicted"}}), "0/1", "Evicted", "0"),
    ];
    for (mut pod, ready, status, restarts) in table {
        pod["metadata"]["name"] = json!("p");
        pod["spec"]["containers"] = json!([{"name": "c"}]);
        let shown = pod.clone();
        assert_eq!(cells("", "Pod", pod)[..5], ["p", ready, status, restarts, "5m"], "{shown}");
    }
}

#[test]
fn services_and_endpoints() {
    let service = |spec: Value, status: Value| {
        cells("", "Service", json!({"metadata": {"name": "s"}, "spec": spec, "status": status}))[1..5].join(" ")
    };
    let ports = json!([{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "nodePort": 30053}]);
    assert_eq!(
        service(json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.1"], "ports": ports}), json!({})),
        "ClusterIP 10.96.0.1 <none> 80/TCP,53:30053/UDP"
    );
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "a.b"}), json!({})),
        "ExternalName <none> a.b <none>"
    );
    let balancer = json!({"type": "LoadBalancer", "clusterIPs": ["None"], "externalIPs": ["9.9.9.9"]});
    assert_eq!(
        service(balancer, json!({"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"ip": "1.1.1.1"}]}})),
        "LoadBalancer None 1.1.1.1,2.2.2.2,9.9.9.9 <none>"
    );
    let many = json!({"metadata": {"name": "e"}, "addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}],
        "endpoints": [{"addresses": ["1", "2"]}, {"addresses": ["3"]}, {"addresses": ["4"]}]});
    assert_eq!(cells("discovery.k8s.io", "EndpointSlice", many)[1..4], ["IPv4", "80,x", "1,2,3 + 1 more..."]);
}

#[test]
fn workloads_and_nodes() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 3, "template": template, "selector": {"matchLabels": {"x": "y"}}},
        "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}});
    assert_eq!(cells("apps", "Deployment", deployment), ["d", "2/3", "3", "2", "5m", "a,b", "i:1,j", "x=y"]);
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "a": "b"}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.36.2", "kernelVersion": "6.1", "architecture": "amd64"}}});
    assert_eq!(
        cells("", "Node", node),
        [
            "n",
            "Ready,SchedulingDisabled",
            "control-plane",
            "5m",
            "v1.36.2",
            "10.0.0.1",
            "<none>",
            "<unknown>",
            "6.1 (amd64)",
            "<unknown>"
        ]
    );
    let job = json!({"metadata": {"name": "j"}, "spec": {"completions": 2},
        "status": {"succeeded": 1, "startTime": "2026-01-01T11:58:00Z"}});
    assert_eq!(cells("batch", "Job", job)[..4], ["j", "Running", "1/2", "2m"]);
}

#[test]
fn every_layout_has_a_row_of_its_width() {
    for (group, kinds) in [
        (
            "",
            "PodTemplate ReplicationController Endpoints Namespace Secret ConfigMap ServiceAccount ResourceQuota PersistentVolume PersistentVolumeClaim ComponentStatus Event LimitRange",
        ),
        ("apps", "ReplicaSet DaemonSet StatefulSet ControllerRevision"),
        ("batch", "CronJob"),
        ("policy", "PodDisruptionBudget"),
        ("autoscaling", "HorizontalPodAutoscaler Scale"),
        ("networking.k8s.io", "Ingress IngressClass NetworkPolicy ServiceCIDR IPAddress"),
        ("rbac.authorization.k8s.io", "Role RoleBinding ClusterRoleBinding"),
        ("certificates.k8s.io", "CertificateSigningRequest"),
        ("coordination.k8s.io", "Lease"),
        ("storage.k8s.io", "StorageClass VolumeAttributesClass CSINode CSIDriver CSIStorageCapacity VolumeAttachment"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("node.k8s.io", "RuntimeClass"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration ValidatingAdmissionPolicy"),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
        ("events.k8s.io", "Event"),
        ("example.com", "Widget"),
    ] {
        for kind in kinds.split(' ') {
            cells(group, kind, json!({"metadata": {"name": "x"}}));
        }
    }
}
