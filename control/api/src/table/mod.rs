//! Tables for `kubectl get`: columns and cells of the built-in kinds, as upstream's printers make them.

mod cells;
mod cluster;
mod duration;
mod pod;
mod workloads;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

pub use duration::human_duration;

use cells::{age, array, name, text};

/// One `TableColumnDefinition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    pub name: String,
    /// `string`, `integer`, `boolean` or `date`.
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// `name` marks the column that identifies the row.
    pub format: &'static str,
    pub description: String,
    /// 0 is always shown, 1 only by `-o wide`.
    pub priority: i32,
}

/// The columns of a kind. Kinds without a printer have name and creation time.
#[must_use]
pub fn columns(group: &str, kind: &str) -> Vec<Column> {
    layout(group, kind).split('|').map(column).collect()
}

fn column(spec: &str) -> Column {
    let (spec, priority) = spec.strip_suffix('+').map_or((spec, 0), |s| (s, 1));
    let (title, type_) = if let Some(title) = spec.strip_suffix('#') {
        (title, "integer")
    } else if let Some(title) = spec.strip_suffix('?') {
        (title, "boolean")
    } else if let Some(title) = spec.strip_suffix('@') {
        (title, "date")
    } else {
        (spec, "string")
    };
    Column {
        name: title.to_owned(),
        type_,
        format: if title == "Name" { "name" } else { "" },
        description: describe(title).to_owned(),
        priority,
    }
}

fn describe(title: &str) -> &'static str {
    match title {
        "Name" => "Name of the object, unique within its namespace.",
        "Age" | "Created At" => "Time at which the object was created.",
        "Ready" => "How many of the desired parts are ready.",
        "Status" => "Summary of the state of the object.",
        "Restarts" => "How often containers of the pod were restarted, and when last.",
        "Containers" => "Names of each container in the template.",
        "Images" => "Images referenced by each container in the template.",
        "Selector" => "Label selector of the pods that belong to the object.",
        _ => "",
    }
}

/// Titles by kind: `#` integer, `?` boolean, `@` date, `+` only with `-o wide`.
fn layout(group: &str, kind: &str) -> &'static str {
    match (group, kind) {
        ("", "Pod") => "Name|Ready|Status|Restarts|Age|IP+|Node+|Nominated Node+|Readiness Gates+",
        ("", "PodTemplate") => "Name|Containers|Images|Pod Labels",
        ("policy", "PodDisruptionBudget") => "Name|Min Available|Max Unavailable|Allowed Disruptions#|Age",
        ("", "ReplicationController") | ("apps", "ReplicaSet") => {
            "Name|Desired#|Current#|Ready#|Age|Containers+|Images+|Selector+"
        }
        ("apps", "DaemonSet") => {
            "Name|Desired#|Current#|Ready#|Up-to-date#|Available#|Node Selector|Age|Containers+|Images+|Selector+"
        }
        ("apps", "Deployment") => "Name|Ready|Up-to-date|Available|Age|Containers+|Images+|Selector+",
        ("apps", "StatefulSet") => "Name|Ready|Age|Containers+|Images+",
        ("apps", "ControllerRevision") => "Name|Controller|Revision|Age",
        ("batch", "Job") => "Name|Status|Completions|Duration|Age|Containers+|Images+|Selector+",
        ("batch", "CronJob") => {
            "Name|Schedule|Timezone|Suspend?|Active#|Last Schedule|Age|Containers+|Images+|Selector+"
        }
        ("", "Service") => "Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector+",
        ("networking.k8s.io", "Ingress") => "Name|Class|Hosts|Address|Ports|Age",
        ("networking.k8s.io", "IngressClass") => "Name|Controller|Parameters|Age",
        ("networking.k8s.io", "NetworkPolicy") => "Name|Pod-Selector|Age",
        ("networking.k8s.io", "ServiceCIDR") => "Name|CIDRs|Age",
        ("networking.k8s.io", "IPAddress") => "Name|ParentRef",
        ("", "Endpoints") => "Name|Endpoints|Age",
        ("discovery.k8s.io", "EndpointSlice") => "Name|AddressType|Ports|Endpoints|Age",
        ("", "Node") => {
            "Name|Status|Roles|Age|Version|Internal-IP+|External-IP+|OS-Image+|Kernel-Version+|Container-Runtime+"
        }
        ("" | "events.k8s.io", "Event") => {
            "Last Seen|Type|Reason|Object|Subobject+|Source+|Message|First Seen+|Count+|Name+"
        }
        ("", "Namespace") => "Name|Status|Age",
        ("", "Secret") => "Name|Type|Data|Age",
        ("", "ConfigMap") => "Name|Data|Age",
        ("", "ServiceAccount") => "Name|Age",
        ("", "ResourceQuota") => "Name|Request|Limit|Age",
        ("", "PersistentVolume") => {
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode+"
        }
        ("", "PersistentVolumeClaim") => {
            "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode+"
        }
        ("", "ComponentStatus") => "Name|Status|Message|Error",
        ("autoscaling", "Scale") => "Name|Desired#|Available#|Age",
        ("autoscaling", "HorizontalPodAutoscaler") => "Name|Reference|Targets|MinPods|MaxPods|Replicas|Age",
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            "Name|Role|Age|Users+|Groups+|ServiceAccounts+"
        }
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            "Name|Age|SignerName|Requestor|RequestedDuration|Condition"
        }
        ("coordination.k8s.io", "Lease") => "Name|Holder|Age",
        ("storage.k8s.io", "StorageClass") => {
            "Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age"
        }
        ("storage.k8s.io", "VolumeAttributesClass") => "Name|DriverName|Age",
        ("storage.k8s.io", "CSINode") => "Name|Drivers#|Age",
        ("storage.k8s.io", "CSIDriver") => {
            "Name|AttachRequired?|PodInfoOnMount?|StorageCapacity?|TokenRequests|RequiresRepublish?|Modes|Age"
        }
        ("storage.k8s.io", "CSIStorageCapacity") => "Name|StorageClassName|Capacity",
        ("storage.k8s.io", "VolumeAttachment") => "Name|Attacher|PV|Node|Attached?|Age",
        ("scheduling.k8s.io", "PriorityClass") => "Name|Value#|Global-Default?|Age|PreemptionPolicy+",
        ("node.k8s.io", "RuntimeClass") => "Name|Handler|Age",
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            "Name|Webhooks#|Age"
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => "Name|Validations#|ParamKind|Age",
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => "Name|Mutations#|ParamKind|Age",
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => {
            "Name|PriorityLevel|MatchingPrecedence|DistinguisherMethod|Age|MissingPL"
        }
        _ if is_built_in(group) => "Name|Created At@",
        _ => "Name|Age@",
    }
}

/// Groups whose kinds without a printer get upstream's default columns; the rest are custom
/// resources.
fn is_built_in(group: &str) -> bool {
    matches!(
        group,
        "" | "apps"
            | "batch"
            | "policy"
            | "autoscaling"
            | "rbac.authorization.k8s.io"
            | "networking.k8s.io"
            | "storage.k8s.io"
            | "coordination.k8s.io"
            | "certificates.k8s.io"
            | "discovery.k8s.io"
            | "node.k8s.io"
            | "scheduling.k8s.io"
            | "admissionregistration.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "apiextensions.k8s.io"
            | "apiregistration.k8s.io"
            | "resource.k8s.io"
            | "events.k8s.io"
    )
}

/// The cells of one object, one for each of [`columns`], wide ones included.
#[must_use]
pub fn row(group: &str, kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    match (group, kind) {
        ("", "Pod") => pod::row(object, now),
        ("" | "apps" | "batch" | "policy" | "autoscaling", _) => {
            { workloads::row(kind, object, now).or_else(|| cluster::row(group, kind, object, now)) }
                .unwrap_or_else(|| plain(group, object, now))
        }
        _ => cluster::row(group, kind, object, now).unwrap_or_else(|| plain(group, object, now)),
    }
}

fn plain(group: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    let created =
        if is_built_in(group) { json!(text(object, "/metadata/creationTimestamp")) } else { age(object, now) };
    vec![name(object), created]
}

/// `conditions` of a row: Pods that ended are marked so.
#[must_use]
pub fn row_conditions(group: &str, kind: &str, object: &Value) -> Vec<Value> {
    let (reason, message) = match (group, kind, text(object, "/status/phase")) {
        ("", "Pod", "Succeeded") => ("Succeeded", "The pod has completed successfully."),
        ("", "Pod", "Failed") => ("Failed", "The pod failed."),
        _ => return Vec::new(),
    };
    vec![json!({ "type": "Completed", "status": "True", "reason": reason, "message": message })]
}

/// Condition of a type in `status.conditions`.
fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    array(object, "/status/conditions").find(|c| text(c, "/type") == type_)
}

fn condition_is_true(object: &Value, type_: &str) -> bool {
    condition(object, type_).is_some_and(|c| text(c, "/status") == "True")
}
