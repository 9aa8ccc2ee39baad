//! The smaller API groups.

use serde_json::{Value, json};

use super::{Object, child, child_or_new, default_nonzero, default_to, each, has_items, is_unset, is_zero, text};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn apply(group: &str, version: &str, kind: &str, root: &mut Object) {
    match (group, kind) {
        (RBAC, "RoleBinding" | "ClusterRoleBinding") => binding(root),
        ("networking.k8s.io", "NetworkPolicy") => network_policy(root),
        ("networking.k8s.io", "IngressClass") => {
            if let Some(parameters) = child(root, "spec").and_then(|s| child(s, "parameters")) {
                default_to(parameters, "scope", || "Cluster".into());
            }
        }
        ("storage.k8s.io", "StorageClass") => {
            default_to(root, "reclaimPolicy", || "Delete".into());
            default_to(root, "volumeBindingMode", || "Immediate".into());
        }
        ("storage.k8s.io", "CSIDriver") => csi_driver(root),
        ("discovery.k8s.io", "EndpointSlice") => {
            for port in each(root, "ports") {
                default_to(port, "name", || "".into());
                default_to(port, "protocol", || "TCP".into());
            }
        }
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler(version, root),
        ("scheduling.k8s.io", "PriorityClass") => {
            default_to(root, "preemptionPolicy", || "PreemptLowerPriority".into());
        }
        ("admissionregistration.k8s.io", _) => admission(kind, root),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => {
            if let Some(spec) = child(root, "spec") {
                default_nonzero(spec, "matchingPrecedence", 1000);
            }
        }
        ("apiregistration.k8s.io", "APIService") => {
            if let Some(service) = child(root, "spec").and_then(|s| child(s, "service")) {
                default_to(service, "port", || 443.into());
            }
        }
        _ => {}
    }
}

fn binding(root: &mut Object) {
    if let Some(role) = child(root, "roleRef") {
        default_nonzero(role, "apiGroup", RBAC);
    }
    for subject in each(root, "subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") {
            default_nonzero(subject, "apiGroup", RBAC);
        }
    }
}

fn network_policy(root: &mut Object) {
    let Some(spec) = child(root, "spec") else {
        return;
    };
    // Not a pointer upstream: an absent selector is the empty one and means every Pod.
    default_to(spec, "podSelector", || json!({}));
    for direction in ["ingress", "egress"] {
        for rule in each(spec, direction) {
            for port in each(rule, "ports") {
                default_to(port, "protocol", || "TCP".into());
            }
        }
    }
    if !has_items(spec, "policyTypes") {
        let mut types = vec!["Ingress"];
        if has_items(spec, "egress") {
            types.push("Egress");
        }
        spec.insert("policyTypes".to_owned(), json!(types));
    }
}

fn csi_driver(root: &mut Object) {
    let Some(spec) = child(root, "spec") else {
        return;
    };
    default_to(spec, "attachRequired", || true.into());
    for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        default_to(spec, key, || false.into());
    }
    default_to(spec, "fsGroupPolicy", || "ReadWriteOnceWithFSType".into());
    if !has_items(spec, "volumeLifecycleModes") {
        spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
    }
}

fn autoscaler(version: &str, root: &mut Object) {
    let Some(spec) = child(root, "spec") else {
        return;
    };
    default_to(spec, "minReplicas", || 1.into());
    if version == "v1" {
        return;
    }
    if !has_items(spec, "metrics") {
        let target = json!({ "type": "Utilization", "averageUtilization": 80 });
        let metrics = json!([{ "type": "Resource", "resource": { "name": "cpu", "target": target } }]);
        spec.insert("metrics".to_owned(), metrics);
    }
    if let Some(behavior) = child(spec, "behavior") {
        let percent = || json!({ "type": "Percent", "value": 100, "periodSeconds": 15 });
        let pods = json!({ "type": "Pods", "value": 4, "periodSeconds": 15 });
        if let Some(up) = child_or_new(behavior, "scaleUp") {
            default_to(up, "stabilizationWindowSeconds", || 0.into());
            default_to(up, "selectPolicy", || "Max".into());
            default_to(up, "policies", || json!([pods, percent()]));
        }
        if let Some(down) = child_or_new(behavior, "scaleDown") {
            default_to(down, "selectPolicy", || "Max".into());
            default_to(down, "policies", || json!([percent()]));
        }
    }
}

fn match_scope(object: &mut Object) {
    default_to(object, "matchPolicy", || "Equivalent".into());
    default_to(object, "namespaceSelector", || json!({}));
    default_to(object, "objectSelector", || json!({}));
}

fn rule_scopes(object: &mut Object, key: &str) {
    for rule in each(object, key) {
        default_to(rule, "scope", || "*".into());
    }
}

fn admission(kind: &str, root: &mut Object) {
    let mutating = kind.starts_with("Mutating");
    match kind {
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => {
            for hook in each(root, "webhooks") {
                default_to(hook, "failurePolicy", || "Fail".into());
                match_scope(hook);
                default_to(hook, "timeoutSeconds", || 10.into());
                if mutating {
                    default_to(hook, "reinvocationPolicy", || "Never".into());
                }
                rule_scopes(hook, "rules");
                if let Some(service) = child(hook, "clientConfig").and_then(|c| child(c, "service")) {
                    default_to(service, "port", || 443.into());
                }
            }
        }
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => {
            if let Some(spec) = child(root, "spec") {
                default_to(spec, "failurePolicy", || "Fail".into());
                match_resources(spec, "matchConstraints");
            }
        }
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            if let Some(spec) = child(root, "spec") {
                match_resources(spec, "matchResources");
            }
        }
        _ => {}
    }
}

fn match_resources(spec: &mut Object, key: &str) {
    if is_unset(spec, key) || is_zero(spec, key) && !matches!(spec.get(key), Some(Value::Object(_))) {
        return;
    }
    if let Some(resources) = child(spec, key) {
        match_scope(resources);
        rule_scopes(resources, "resourceRules");
        rule_scopes(resources, "excludeResourceRules");
    }
}
