//! The rows of the registry: every stable built-in resource of Kubernetes 1.36, groups in upstream's
//! preference order, names and verbs as upstream's discovery prints them.

use super::{ResourceInfo, Subresource};

const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const GPU: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];
const GET: &[&str] = &["get"];
const GET_LIST: &[&str] = &["get", "list"];
const UPDATE: &[&str] = &["update"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

/// `row!(GROUP VERSION KIND PLURAL SINGULAR SCOPE [SHORT] [CATEGORY] VERBS GENERATION STORAGE [SUBRESOURCE])`, where a
/// subresource is `(NAME VERBS)` when it speaks the resource's own kind, else `(NAME GROUP VERSION KIND VERBS)`.
/// GENERATION is `SPEC` where a change of the spec bumps `metadata.generation`.
macro_rules! row {
    ($g:literal $v:literal $k:literal $plural:literal $singular:literal $scope:ident [$($short:literal),*] [$($cat:literal),*]
     $verbs:ident $gen:ident $storage:literal [$($sub:tt)*]) => {
        ResourceInfo {
            group: $g,
            version: $v,
            kind: $k,
            plural: $plural,
            singular: $singular,
            namespaced: row!(@scope $scope),
            short_names: &[$($short),*],
            categories: &[$($cat),*],
            verbs: $verbs,
            subresources: &[$(row!(@sub $g $v $k $sub)),*],
            generation: row!(@gen $gen),
            storage_prefix: $storage,
        }
    };
    (@scope Namespaced) => { true };
    (@scope Cluster) => { false };
    (@gen SPEC) => { true };
    (@gen NONE) => { false };
    (@sub $g:literal $v:literal $k:literal ($name:literal $verbs:ident)) => {
        Subresource { name: $name, group: $g, version: $v, kind: $k, verbs: $verbs }
    };
    (@sub $og:literal $ov:literal $ok:literal ($name:literal $g:literal $v:literal $k:literal $verbs:ident)) => {
        Subresource { name: $name, group: $g, version: $v, kind: $k, verbs: $verbs }
    };
}

pub(super) static ROWS: &[ResourceInfo] = &[
    // core
    row!("" "v1" "Binding" "bindings" "binding" Namespaced [] [] CREATE NONE "bindings" []),
    row!("" "v1" "ComponentStatus" "componentstatuses" "componentstatus" Cluster ["cs"] [] GET_LIST NONE "componentstatuses" []),
    row!("" "v1" "ConfigMap" "configmaps" "configmap" Namespaced ["cm"] [] ALL NONE "configmaps" []),
    row!("" "v1" "Endpoints" "endpoints" "endpoints" Namespaced ["ep"] [] ALL NONE "services/endpoints" []),
    row!("" "v1" "Event" "events" "event" Namespaced ["ev"] [] ALL NONE "events" []),
    row!("" "v1" "LimitRange" "limitranges" "limitrange" Namespaced ["limits"] [] ALL NONE "limitranges" []),
    row!("" "v1" "Namespace" "namespaces" "namespace" Cluster ["ns"] [] NO_COLLECTION NONE "namespaces" [("finalize" UPDATE) ("status" GPU)]),
    row!("" "v1" "Node" "nodes" "node" Cluster ["no"] [] ALL NONE "minions" [("proxy" "" "v1" "NodeProxyOptions" PROXY) ("status" GPU)]),
    row!("" "v1" "PersistentVolumeClaim" "persistentvolumeclaims" "persistentvolumeclaim" Namespaced ["pvc"] [] ALL NONE "persistentvolumeclaims" [("status" GPU)]),
    row!("" "v1" "PersistentVolume" "persistentvolumes" "persistentvolume" Cluster ["pv"] [] ALL NONE "persistentvolumes" [("status" GPU)]),
    row!("" "v1" "Pod" "pods" "pod" Namespaced ["po"] ["all"] ALL SPEC "pods" [("attach" "" "v1" "PodAttachOptions" CONNECT) ("binding" "" "v1" "Binding" CREATE) ("ephemeralcontainers" GPU) ("eviction" "policy" "v1" "Eviction" CREATE) ("exec" "" "v1" "PodExecOptions" CONNECT) ("log" GET) ("portforward" "" "v1" "PodPortForwardOptions" CONNECT) ("proxy" "" "v1" "PodProxyOptions" PROXY) ("resize" GPU) ("status" GPU)]),
    row!("" "v1" "PodTemplate" "podtemplates" "podtemplate" Namespaced [] [] ALL SPEC "podtemplates" []),
    row!("" "v1" "ReplicationController" "replicationcontrollers" "replicationcontroller" Namespaced ["rc"] ["all"] ALL SPEC "controllers" [("scale" "autoscaling" "v1" "Scale" GPU) ("status" GPU)]),
    row!("" "v1" "ResourceQuota" "resourcequotas" "resourcequota" Namespaced ["quota"] [] ALL NONE "resourcequotas" [("status" GPU)]),
    row!("" "v1" "Secret" "secrets" "secret" Namespaced [] [] ALL NONE "secrets" []),
    row!("" "v1" "ServiceAccount" "serviceaccounts" "serviceaccount" Namespaced ["sa"] [] ALL NONE "serviceaccounts" [("token" "authentication.k8s.io" "v1" "TokenRequest" CREATE)]),
    row!("" "v1" "Service" "services" "service" Namespaced ["svc"] ["all"] ALL NONE "services/specs" [("proxy" "" "v1" "ServiceProxyOptions" PROXY) ("status" GPU)]),
    // apiregistration.k8s.io
    row!("apiregistration.k8s.io" "v1" "APIService" "apiservices" "apiservice" Cluster [] ["api-extensions"] ALL NONE "apiregistration.k8s.io/apiservices" [("status" GPU)]),
    // apps
    row!("apps" "v1" "ControllerRevision" "controllerrevisions" "controllerrevision" Namespaced [] [] ALL NONE "controllerrevisions" []),
    row!("apps" "v1" "DaemonSet" "daemonsets" "daemonset" Namespaced ["ds"] ["all"] ALL SPEC "daemonsets" [("status" GPU)]),
    row!("apps" "v1" "Deployment" "deployments" "deployment" Namespaced ["deploy"] ["all"] ALL SPEC "deployments" [("scale" "autoscaling" "v1" "Scale" GPU) ("status" GPU)]),
    row!("apps" "v1" "ReplicaSet" "replicasets" "replicaset" Namespaced ["rs"] ["all"] ALL SPEC "replicasets" [("scale" "autoscaling" "v1" "Scale" GPU) ("status" GPU)]),
    row!("apps" "v1" "StatefulSet" "statefulsets" "statefulset" Namespaced ["sts"] ["all"] ALL SPEC "statefulsets" [("scale" "autoscaling" "v1" "Scale" GPU) ("status" GPU)]),
    // events.k8s.io
    row!("events.k8s.io" "v1" "Event" "events" "event" Namespaced ["ev"] [] ALL NONE "events" []),
    // authentication.k8s.io
    row!("authentication.k8s.io" "v1" "SelfSubjectReview" "selfsubjectreviews" "selfsubjectreview" Cluster [] [] CREATE NONE "selfsubjectreviews" []),
    row!("authentication.k8s.io" "v1" "TokenReview" "tokenreviews" "tokenreview" Cluster [] [] CREATE NONE "tokenreviews" []),
    // authorization.k8s.io
    row!("authorization.k8s.io" "v1" "LocalSubjectAccessReview" "localsubjectaccessreviews" "localsubjectaccessreview" Namespaced [] [] CREATE NONE "localsubjectaccessreviews" []),
    row!("authorization.k8s.io" "v1" "SelfSubjectAccessReview" "selfsubjectaccessreviews" "selfsubjectaccessreview" Cluster [] [] CREATE NONE "selfsubjectaccessreviews" []),
    row!("authorization.k8s.io" "v1" "SelfSubjectRulesReview" "selfsubjectrulesreviews" "selfsubjectrulesreview" Cluster [] [] CREATE NONE "selfsubjectrulesreviews" []),
    row!("authorization.k8s.io" "v1" "SubjectAccessReview" "subjectaccessreviews" "subjectaccessreview" Cluster [] [] CREATE NONE "subjectaccessreviews" []),
    // autoscaling
    row!("autoscaling" "v2" "HorizontalPodAutoscaler" "horizontalpodautoscalers" "horizontalpodautoscaler" Namespaced ["hpa"] ["all"] ALL NONE "horizontalpodautoscalers" [("status" GPU)]),
    row!("autoscaling" "v1" "HorizontalPodAutoscaler" "horizontalpodautoscalers" "horizontalpodautoscaler" Namespaced ["hpa"] ["all"] ALL NONE "horizontalpodautoscalers" [("status" GPU)]),
    // batch
    row!("batch" "v1" "CronJob" "cronjobs" "cronjob" Namespaced ["cj"] ["all"] ALL SPEC "cronjobs" [("status" GPU)]),
    row!("batch" "v1" "Job" "jobs" "job" Namespaced [] ["all"] ALL SPEC "jobs" [("status" GPU)]),
    // certificates.k8s.io
    row!("certificates.k8s.io" "v1" "CertificateSigningRequest" "certificatesigningrequests" "certificatesigningrequest" Cluster ["csr"] [] ALL NONE "certificatesigningrequests" [("approval" GPU) ("status" GPU)]),
    // networking.k8s.io
    row!("networking.k8s.io" "v1" "IngressClass" "ingressclasses" "ingressclass" Cluster [] [] ALL SPEC "ingressclasses" []),
    row!("networking.k8s.io" "v1" "Ingress" "ingresses" "ingress" Namespaced ["ing"] [] ALL SPEC "ingress" [("status" GPU)]),
    row!("networking.k8s.io" "v1" "IPAddress" "ipaddresses" "ipaddress" Cluster ["ip"] [] ALL NONE "ipaddresses" []),
    row!("networking.k8s.io" "v1" "NetworkPolicy" "networkpolicies" "networkpolicy" Namespaced ["netpol"] [] ALL SPEC "networkpolicies" []),
    row!("networking.k8s.io" "v1" "ServiceCIDR" "servicecidrs" "servicecidr" Cluster [] [] ALL NONE "servicecidrs" [("status" GPU)]),
    // policy
    row!("policy" "v1" "PodDisruptionBudget" "poddisruptionbudgets" "poddisruptionbudget" Namespaced ["pdb"] [] ALL SPEC "poddisruptionbudgets" [("status" GPU)]),
    // rbac.authorization.k8s.io
    row!("rbac.authorization.k8s.io" "v1" "ClusterRoleBinding" "clusterrolebindings" "clusterrolebinding" Cluster [] [] ALL NONE "clusterrolebindings" []),
    row!("rbac.authorization.k8s.io" "v1" "ClusterRole" "clusterroles" "clusterrole" Cluster [] [] ALL NONE "clusterroles" []),
    row!("rbac.authorization.k8s.io" "v1" "RoleBinding" "rolebindings" "rolebinding" Namespaced [] [] ALL NONE "rolebindings" []),
    row!("rbac.authorization.k8s.io" "v1" "Role" "roles" "role" Namespaced [] [] ALL NONE "roles" []),
    // storage.k8s.io
    row!("storage.k8s.io" "v1" "CSIDriver" "csidrivers" "csidriver" Cluster [] [] ALL SPEC "csidrivers" []),
    row!("storage.k8s.io" "v1" "CSINode" "csinodes" "csinode" Cluster [] [] ALL NONE "csinodes" []),
    row!("storage.k8s.io" "v1" "CSIStorageCapacity" "csistoragecapacities" "csistoragecapacity" Namespaced [] [] ALL NONE "csistoragecapacities" []),
    row!("storage.k8s.io" "v1" "StorageClass" "storageclasses" "storageclass" Cluster ["sc"] [] ALL NONE "storageclasses" []),
    row!("storage.k8s.io" "v1" "VolumeAttachment" "volumeattachments" "volumeattachment" Cluster [] [] ALL NONE "volumeattachments" [("status" GPU)]),
    row!("storage.k8s.io" "v1" "VolumeAttributesClass" "volumeattributesclasses" "volumeattributesclass" Cluster ["vac"] [] ALL NONE "volumeattributesclasses" []),
    // admissionregistration.k8s.io
    row!("admissionregistration.k8s.io" "v1" "MutatingAdmissionPolicy" "mutatingadmissionpolicies" "mutatingadmissionpolicy" Cluster [] ["api-extensions"] ALL SPEC "mutatingadmissionpolicies" []),
    row!("admissionregistration.k8s.io" "v1" "MutatingAdmissionPolicyBinding" "mutatingadmissionpolicybindings" "mutatingadmissionpolicybinding" Cluster [] ["api-extensions"] ALL SPEC "mutatingadmissionpolicybindings" []),
    row!("admissionregistration.k8s.io" "v1" "MutatingWebhookConfiguration" "mutatingwebhookconfigurations" "mutatingwebhookconfiguration" Cluster [] ["api-extensions"] ALL SPEC "mutatingwebhookconfigurations" []),
    row!("admissionregistration.k8s.io" "v1" "ValidatingAdmissionPolicy" "validatingadmissionpolicies" "validatingadmissionpolicy" Cluster [] ["api-extensions"] ALL SPEC "validatingadmissionpolicies" [("status" GPU)]),
    row!("admissionregistration.k8s.io" "v1" "ValidatingAdmissionPolicyBinding" "validatingadmissionpolicybindings" "validatingadmissionpolicybinding" Cluster [] ["api-extensions"] ALL SPEC "validatingadmissionpolicybindings" []),
    row!("admissionregistration.k8s.io" "v1" "ValidatingWebhookConfiguration" "validatingwebhookconfigurations" "validatingwebhookconfiguration" Cluster [] ["api-extensions"] ALL SPEC "validatingwebhookconfigurations" []),
    // apiextensions.k8s.io
    row!("apiextensions.k8s.io" "v1" "CustomResourceDefinition" "customresourcedefinitions" "customresourcedefinition" Cluster ["crd", "crds"] ["api-extensions"] ALL SPEC "apiextensions.k8s.io/customresourcedefinitions" [("status" GPU)]),
    // scheduling.k8s.io
    row!("scheduling.k8s.io" "v1" "PriorityClass" "priorityclasses" "priorityclass" Cluster ["pc"] [] ALL SPEC "priorityclasses" []),
    // coordination.k8s.io
    row!("coordination.k8s.io" "v1" "Lease" "leases" "lease" Namespaced [] [] ALL NONE "leases" []),
    // node.k8s.io
    row!("node.k8s.io" "v1" "RuntimeClass" "runtimeclasses" "runtimeclass" Cluster [] [] ALL NONE "runtimeclasses" []),
    // discovery.k8s.io
    row!("discovery.k8s.io" "v1" "EndpointSlice" "endpointslices" "endpointslice" Namespaced [] [] ALL SPEC "endpointslices" []),
    // resource.k8s.io
    row!("resource.k8s.io" "v1" "DeviceClass" "deviceclasses" "deviceclass" Cluster [] [] ALL SPEC "deviceclasses" []),
    row!("resource.k8s.io" "v1" "ResourceClaim" "resourceclaims" "resourceclaim" Namespaced [] [] ALL NONE "resourceclaims" [("status" GPU)]),
    row!("resource.k8s.io" "v1" "ResourceClaimTemplate" "resourceclaimtemplates" "resourceclaimtemplate" Namespaced [] [] ALL NONE "resourceclaimtemplates" []),
    row!("resource.k8s.io" "v1" "ResourceSlice" "resourceslices" "resourceslice" Cluster [] [] ALL SPEC "resourceslices" []),
    // flowcontrol.apiserver.k8s.io
    row!("flowcontrol.apiserver.k8s.io" "v1" "FlowSchema" "flowschemas" "flowschema" Cluster [] [] ALL SPEC "flowschemas" [("status" GPU)]),
    row!("flowcontrol.apiserver.k8s.io" "v1" "PriorityLevelConfiguration" "prioritylevelconfigurations" "prioritylevelconfiguration" Cluster [] [] ALL SPEC "prioritylevelconfigurations" [("status" GPU)]),
];
