//! What `k8s-openapi`'s schemas don't say: list types with their map keys, and patch strategies, as upstream's
//! API types declare them.

use super::{FieldFacts, ListType};

const PREFIX: &str = "io.k8s.";

/// The facts of one field; without a row all are the defaults (an atomic list, replaced by strategic merge).
pub(crate) fn of(definition: &str, field: &str) -> FieldFacts {
    let key = (definition.strip_prefix(PREFIX).unwrap_or(definition), field);
    match FIELDS.binary_search_by(|(d, f, _)| (*d, *f).cmp(&key)) {
        Ok(index) => parse(FIELDS[index].2),
        Err(_) => FieldFacts::default(),
    }
}

/// Whether server-side apply takes the struct as one value.
pub(crate) fn is_atomic(definition: &str) -> bool {
    let name = definition.strip_prefix(PREFIX).unwrap_or(definition);
    ATOMIC_STRUCTS.binary_search(&name).is_ok()
}

/// Whether upstream requires a field that the generated schema requires: `k8s-openapi` requires every metadata, and the
/// names of references that older clients leave empty.
pub(crate) fn is_required(definition: &str, field: &str) -> bool {
    match field {
        "metadata" => definition == "io.k8s.api.core.v1.Event",
        "name" => !definition.strip_prefix("io.k8s.api.core.v1.").is_some_and(|d| OPTIONAL_NAMES.contains(&d)),
        _ => true,
    }
}

/// A fact is `WORD` or `WORD(KEYS)`: `map(KEYS)` and `set` are list types; `merge(KEY)`, `retain-keys` and `replace`
/// patch strategies; `struct-atomic` and `granular` map types.
fn parse(text: &'static str) -> FieldFacts {
    let mut facts = FieldFacts::default();
    for fact in text.split(' ') {
        let (word, keys) = fact.strip_suffix(')').and_then(|f| f.split_once('(')).unwrap_or((fact, ""));
        match word {
            "map" => facts.list_type = ListType::Map(keys.split(',').collect()),
            "set" => facts.list_type = ListType::Set,
            "merge" => facts.merge_key = Some(keys),
            "retain-keys" => facts.retain_keys = true,
            "replace" => facts.replace = true,
            "struct-atomic" => facts.atomic_map = Some(true),
            "granular" => facts.atomic_map = Some(false),
            _ => {}
        }
    }
    facts
}

/// (definition, field, facts), sorted.
#[rustfmt::skip]
pub(super) static FIELDS: &[(&str, &str, &str)] = &[
    ("api.admissionregistration.v1.MutatingAdmissionPolicySpec", "matchConditions", "map(name) merge(name)"),
    ("api.admissionregistration.v1.MutatingWebhook", "matchConditions", "map(name) merge(name)"),
    ("api.admissionregistration.v1.MutatingWebhookConfiguration", "webhooks", "map(name) merge(name)"),
    ("api.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec", "validationActions", "set"),
    ("api.admissionregistration.v1.ValidatingAdmissionPolicySpec", "matchConditions", "map(name) merge(name)"),
    ("api.admissionregistration.v1.ValidatingAdmissionPolicySpec", "variables", "map(name) merge(name)"),
    ("api.admissionregistration.v1.ValidatingAdmissionPolicyStatus", "conditions", "map(type)"),
    ("api.admissionregistration.v1.ValidatingWebhook", "matchConditions", "map(name) merge(name)"),
    ("api.admissionregistration.v1.ValidatingWebhookConfiguration", "webhooks", "map(name) merge(name)"),
    ("api.apps.v1.DaemonSetStatus", "conditions", "map(type) merge(type)"),
    ("api.apps.v1.DeploymentSpec", "strategy", "retain-keys"),
    ("api.apps.v1.DeploymentStatus", "conditions", "map(type) merge(type)"),
    ("api.apps.v1.ReplicaSetStatus", "conditions", "map(type) merge(type)"),
    ("api.apps.v1.StatefulSetStatus", "conditions", "map(type) merge(type)"),
    ("api.autoscaling.v2.HorizontalPodAutoscalerStatus", "conditions", "map(type) merge(type)"),
    ("api.batch.v1.JobStatus", "conditions", "merge(type)"),
    ("api.batch.v1.PodFailurePolicyOnExitCodesRequirement", "values", "set"),
    ("api.batch.v1.UncountedTerminatedPods", "failed", "set"),
    ("api.batch.v1.UncountedTerminatedPods", "succeeded", "set"),
    ("api.certificates.v1.CertificateSigningRequestStatus", "conditions", "map(type)"),
    ("api.core.v1.ComponentStatus", "conditions", "map(type) merge(type)"),
    ("api.core.v1.Container", "env", "map(name) merge(name)"),
    ("api.core.v1.Container", "ports", "map(containerPort,protocol) merge(containerPort)"),
    ("api.core.v1.Container", "volumeDevices", "map(devicePath) merge(devicePath)"),
    ("api.core.v1.Container", "volumeMounts", "map(mountPath) merge(mountPath)"),
    ("api.core.v1.ContainerRestartRuleOnExitCodes", "values", "set"),
    ("api.core.v1.ContainerStatus", "allocatedResourcesStatus", "map(name) merge(name)"),
    ("api.core.v1.ContainerStatus", "volumeMounts", "map(mountPath) merge(mountPath)"),
    ("api.core.v1.EphemeralContainer", "env", "map(name) merge(name)"),
    ("api.core.v1.EphemeralContainer", "ports", "map(containerPort,protocol) merge(containerPort)"),
    ("api.core.v1.EphemeralContainer", "volumeDevices", "map(devicePath) merge(devicePath)"),
    ("api.core.v1.EphemeralContainer", "volumeMounts", "map(mountPath) merge(mountPath)"),
    ("api.core.v1.NamespaceStatus", "conditions", "map(type) merge(type)"),
    ("api.core.v1.NodeAllocatableResourceClaimStatus", "containers", "set"),
    ("api.core.v1.NodeSpec", "podCIDRs", "set merge()"),
    ("api.core.v1.NodeStatus", "addresses", "map(type) merge(type)"),
    ("api.core.v1.NodeStatus", "conditions", "map(type) merge(type)"),
    ("api.core.v1.PersistentVolumeClaimStatus", "allocatedResourceStatuses", "granular"),
    ("api.core.v1.PersistentVolumeClaimStatus", "conditions", "map(type) merge(type)"),
    ("api.core.v1.PersistentVolumeSpec", "claimRef", "granular"),
    ("api.core.v1.PodSpec", "containers", "map(name) merge(name)"),
    ("api.core.v1.PodSpec", "ephemeralContainers", "map(name) merge(name)"),
    ("api.core.v1.PodSpec", "hostAliases", "map(ip) merge(ip)"),
    ("api.core.v1.PodSpec", "imagePullSecrets", "map(name) merge(name)"),
    ("api.core.v1.PodSpec", "initContainers", "map(name) merge(name)"),
    ("api.core.v1.PodSpec", "nodeSelector", "struct-atomic"),
    ("api.core.v1.PodSpec", "resourceClaims", "map(name) merge(name) retain-keys"),
    ("api.core.v1.PodSpec", "schedulingGates", "map(name) merge(name)"),
    ("api.core.v1.PodSpec", "topologySpreadConstraints", "map(topologyKey,whenUnsatisfiable) merge(topologyKey)"),
    ("api.core.v1.PodSpec", "volumes", "map(name) merge(name) retain-keys"),
    ("api.core.v1.PodStatus", "conditions", "map(type) merge(type)"),
    ("api.core.v1.PodStatus", "hostIPs", "merge(ip)"),
    ("api.core.v1.PodStatus", "podIPs", "map(ip) merge(ip)"),
    ("api.core.v1.PodStatus", "resourceClaimStatuses", "map(name) merge(name) retain-keys"),
    ("api.core.v1.ReplicationControllerSpec", "selector", "struct-atomic"),
    ("api.core.v1.ReplicationControllerStatus", "conditions", "map(type) merge(type)"),
    ("api.core.v1.ResourceRequirements", "claims", "map(name)"),
    ("api.core.v1.ResourceStatus", "resources", "map(resourceID)"),
    ("api.core.v1.ServiceAccount", "secrets", "map(name) merge(name)"),
    ("api.core.v1.ServiceSpec", "ports", "map(port,protocol) merge(port)"),
    ("api.core.v1.ServiceSpec", "selector", "struct-atomic"),
    ("api.core.v1.ServiceStatus", "conditions", "map(type) merge(type)"),
    ("api.discovery.v1.Endpoint", "addresses", "set"),
    ("api.flowcontrol.v1.FlowSchemaStatus", "conditions", "map(type) merge(type)"),
    ("api.flowcontrol.v1.NonResourcePolicyRule", "nonResourceURLs", "set"),
    ("api.flowcontrol.v1.NonResourcePolicyRule", "verbs", "set"),
    ("api.flowcontrol.v1.PriorityLevelConfigurationStatus", "conditions", "map(type) merge(type)"),
    ("api.flowcontrol.v1.ResourcePolicyRule", "apiGroups", "set"),
    ("api.flowcontrol.v1.ResourcePolicyRule", "namespaces", "set"),
    ("api.flowcontrol.v1.ResourcePolicyRule", "resources", "set"),
    ("api.flowcontrol.v1.ResourcePolicyRule", "verbs", "set"),
    ("api.networking.v1.ServiceCIDRStatus", "conditions", "map(type) merge(type)"),
    ("api.node.v1.Scheduling", "nodeSelector", "struct-atomic"),
    ("api.policy.v1.PodDisruptionBudgetSpec", "selector", "replace"),
    ("api.policy.v1.PodDisruptionBudgetStatus", "conditions", "map(type) merge(type)"),
    ("api.resource.v1.AllocatedDeviceStatus", "conditions", "map(type)"),
    ("api.resource.v1.ResourceClaimStatus", "devices", "map(driver,device,pool,shareID)"),
    ("api.resource.v1.ResourceClaimStatus", "reservedFor", "map(uid) merge(uid)"),
    ("api.storage.v1.CSIDriverSpec", "volumeLifecycleModes", "set"),
    ("api.storage.v1.CSINodeSpec", "drivers", "map(name) merge(name)"),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus", "conditions", "map(type)"),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps", "x-kubernetes-validations", "map(rule) merge(rule)"),
    ("apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers", "set merge()"),
    ("apimachinery.pkg.apis.meta.v1.ObjectMeta", "ownerReferences", "map(uid) merge(uid)"),
    ("kube-aggregator.pkg.apis.apiregistration.v1.APIServiceStatus", "conditions", "map(type) merge(type)"),
];

/// Sorted.
pub(super) static ATOMIC_STRUCTS: &[&str] = &[
    "api.admissionregistration.v1.MatchResources",
    "api.admissionregistration.v1.NamedRuleWithOperations",
    "api.admissionregistration.v1.ParamKind",
    "api.admissionregistration.v1.ParamRef",
    "api.admissionregistration.v1.Variable",
    "api.autoscaling.v1.CrossVersionObjectReference",
    "api.core.v1.ConfigMapKeySelector",
    "api.core.v1.EndpointAddress",
    "api.core.v1.EndpointPort",
    "api.core.v1.FileKeySelector",
    "api.core.v1.LocalObjectReference",
    "api.core.v1.NodeSelector",
    "api.core.v1.NodeSelectorTerm",
    "api.core.v1.ObjectFieldSelector",
    "api.core.v1.ObjectReference",
    "api.core.v1.ResourceFieldSelector",
    "api.core.v1.ScopeSelector",
    "api.core.v1.SecretKeySelector",
    "api.core.v1.SecretReference",
    "api.core.v1.TopologySelectorTerm",
    "api.core.v1.TypedLocalObjectReference",
    "api.discovery.v1.EndpointPort",
    "api.networking.v1.ServiceBackendPort",
    "api.rbac.v1.RoleRef",
    "api.rbac.v1.Subject",
    "apimachinery.pkg.apis.meta.v1.LabelSelector",
    "apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// Definitions of core/v1 whose `name` may be left out.
static OPTIONAL_NAMES: &[&str] = &[
    "ConfigMapEnvSource",
    "ConfigMapKeySelector",
    "ConfigMapProjection",
    "ConfigMapVolumeSource",
    "LocalObjectReference",
    "SecretEnvSource",
    "SecretKeySelector",
    "SecretProjection",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(FIELDS.is_sorted_by_key(|(d, f, _)| (*d, *f)));
        assert!(ATOMIC_STRUCTS.is_sorted());
    }

    #[test]
    fn words_are_known() {
        for (_, _, text) in FIELDS {
            assert_ne!(parse(text), FieldFacts::default(), "{text}");
        }
        let ports = of("io.k8s.api.core.v1.Container", "ports");
        assert_eq!(ports.list_type, ListType::Map(vec!["containerPort", "protocol"]));
        assert_eq!(ports.merge_key, Some("containerPort"));
        assert_eq!(of("io.k8s.api.core.v1.NodeSpec", "podCIDRs").merge_key, Some(""));
    }
}
