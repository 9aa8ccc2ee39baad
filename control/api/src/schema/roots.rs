//! Which Rust type speaks which kind: the one place where the registry's names meet `k8s-openapi`'s.

use k8s_openapi::{api, apiextensions_apiserver, apimachinery, kube_aggregator};
use schemars::{Schema, SchemaGenerator};

/// A kind whose schema can be generated.
pub(crate) struct Root {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    /// Puts the kind's definitions into the generator and returns a reference to it.
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

macro_rules! roots {
    ($($group:literal $version:literal $($module:ident)::+: $($kind:ident),+;)+) => {
        roots!(@list [] $([$group $version [$($module)::+] $($kind)+])+)
    };
    (@list [$($done:tt)*] [$group:literal $version:literal $path:tt $($kind:ident)+] $($rest:tt)*) => {
        roots!(@list [$($done)* $(roots!(@one $group $version $kind $path),)+] $($rest)*)
    };
    (@list [$($done:tt)*]) => { &[$($done)*] };
    (@one $group:literal $version:literal $kind:ident [$($module:ident)::+]) => {
        Root {
            group: $group,
            version: $version,
            kind: stringify!($kind),
            schema: |generator| generator.subschema_for::<$($module)::+::$kind>(),
        }
    };
}

/// Every kind of the registry, what its subresources speak, and the options of deletes.
#[rustfmt::skip]
pub(crate) static ROOTS: &[Root] = roots! {
    "" "v1" api::core::v1: Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node,
        PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret,
        Service, ServiceAccount;
    "apiregistration.k8s.io" "v1" kube_aggregator::pkg::apis::apiregistration::v1: APIService;
    "apps" "v1" api::apps::v1: ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet;
    "events.k8s.io" "v1" api::events::v1: Event;
    "authentication.k8s.io" "v1" api::authentication::v1: SelfSubjectReview, TokenRequest, TokenReview;
    "authorization.k8s.io" "v1" api::authorization::v1: LocalSubjectAccessReview, SelfSubjectAccessReview,
        SelfSubjectRulesReview, SubjectAccessReview;
    "autoscaling" "v2" api::autoscaling::v2: HorizontalPodAutoscaler;
    "autoscaling" "v1" api::autoscaling::v1: HorizontalPodAutoscaler, Scale;
    "batch" "v1" api::batch::v1: CronJob, Job;
    "certificates.k8s.io" "v1" api::certificates::v1: CertificateSigningRequest;
    "networking.k8s.io" "v1" api::networking::v1: IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR;
    "policy" "v1" api::policy::v1: Eviction, PodDisruptionBudget;
    "rbac.authorization.k8s.io" "v1" api::rbac::v1: ClusterRole, ClusterRoleBinding, Role, RoleBinding;
    "storage.k8s.io" "v1" api::storage::v1: CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
        VolumeAttributesClass;
    "admissionregistration.k8s.io" "v1" api::admissionregistration::v1: MutatingAdmissionPolicy,
        MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration;
    "apiextensions.k8s.io" "v1" apiextensions_apiserver::pkg::apis::apiextensions::v1: CustomResourceDefinition;
    "scheduling.k8s.io" "v1" api::scheduling::v1: PriorityClass;
    "coordination.k8s.io" "v1" api::coordination::v1: Lease;
    "node.k8s.io" "v1" api::node::v1: RuntimeClass;
    "discovery.k8s.io" "v1" api::discovery::v1: EndpointSlice;
    "resource.k8s.io" "v1" api::resource::v1: DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
    "flowcontrol.apiserver.k8s.io" "v1" api::flowcontrol::v1: FlowSchema, PriorityLevelConfiguration;
    "meta.k8s.io" "v1" apimachinery::pkg::apis::meta::v1: DeleteOptions, Status, ListMeta;
};
