//! NodeRestriction: a kubelet changes only its own Node, Lease, CSINode and Pods, and of Pods it
//! makes only mirrors of static ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use orlop_api::status::Status;
use serde_json::{Map, Value};

use super::fields::{annotation, bool_at, list_at, name, str_at, strings_at, uid};
use super::pod_refs::{self, MIRROR_ANNOTATION};
use super::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::authz::node::node_identity;
use crate::reader::ObjectReader;

const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Labels of the `kubernetes.io` and `k8s.io` families that a kubelet may set on its Node.
const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const KUBELET_LABEL_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

pub(super) struct NodeRestriction {
    reader: Arc<dyn ObjectReader>,
}

impl NodeRestriction {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }

    fn check(&self, node: &str, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        match (request.resource.group, request.resource.plural) {
            ("", "pods") => match request.subresource {
                "" => self.pod(node, request),
                "status" => pod_status(node, request),
                "eviction" => self.own_pod(node, request, "can only evict pods with spec.nodeName set to itself"),
                other => Err(request
                    .forbid(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))),
            },
            ("", "nodes") => own_node(node, request),
            ("", "persistentvolumeclaims") => claim_status(node, request),
            ("", "serviceaccounts") => self.token(node, request),
            ("coordination.k8s.io", "leases") => {
                if request.namespace != Some("kube-node-lease") {
                    return Err(request.forbid("can only access leases in the \"kube-node-lease\" system namespace"));
                }
                same_name(node, request, "can only access node lease with the same name as the requesting node")
            }
            ("storage.k8s.io", "csinodes") => {
                same_name(node, request, "can only access CSINode with the same name as the requesting node")
            }
            ("resource.k8s.io", "resourceslices") => resource_slice(node, request),
            ("certificates.k8s.io", "certificatesigningrequests") => own_csr(request),
            _ => Ok(()),
        }
    }

    fn pod(&self, node: &str, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        match request.operation {
            Operation::Create => self.mirror_pod(node, request),
            Operation::Delete => self.own_pod(node, request, "can only delete pods with spec.nodeName set to itself"),
            other => Err(request.forbid(format!(
                "unexpected operation {other:?}, node {node:?} can only create and delete mirror pods"
            ))),
        }
    }

    /// The stored Pod of the request is bound to this node.
    fn own_pod(&self, node: &str, request: &AdmissionRequest<'_>, why: &str) -> Result<(), Status> {
        let pod = self
            .reader
            .get("", "pods", request.namespace, request.name)
            .ok_or_else(|| Status::not_found("pods", request.name))?;
        if str_at(&pod, "/spec/nodeName") == node {
            return Ok(());
        }
        Err(request.forbid(format!("node {node:?} {why}")))
    }

    fn mirror_pod(&self, node: &str, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(pod) = request.new_object() else { return Ok(()) };
        let refuse = |why: String| Err(request.forbid(why));
        if annotation(pod, MIRROR_ANNOTATION).is_none() {
            return refuse(format!(
                "pod does not have {MIRROR_ANNOTATION:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if str_at(pod, "/spec/nodeName") != node {
            return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        let [owner] = list_at(pod, "/metadata/ownerReferences") else {
            return refuse(format!("node {node:?} can only create pods with a single owner reference set to itself"));
        };
        let own =
            str_at(owner, "/apiVersion") == "v1" && str_at(owner, "/kind") == "Node" && str_at(owner, "/name") == node;
        if !own {
            return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
        }
        if !bool_at(owner, "/controller") {
            return refuse(format!(
                "node {node:?} can only create pods with a controller owner reference set to itself"
            ));
        }
        if bool_at(owner, "/blockOwnerDeletion") {
            return refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
        }
        let live = self.reader.get("", "nodes", None, node).ok_or_else(|| Status::not_found("nodes", node))?;
        let told = str_at(owner, "/uid");
        if told != uid(&live) {
            return refuse(format!("node {node} UID mismatch: expected {told} got {}", uid(&live)));
        }
        match pod_refs::first_reference(pod) {
            Some(what) => refuse(format!("node {node:?} can not create pods that reference {what}")),
            None => Ok(()),
        }
    }

    /// A node asks for tokens only on behalf of a Pod that runs on it, for an audience that the Pod mounts.
    fn token(&self, node: &str, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        if request.operation != Operation::Create || request.subresource != "token" {
            return Ok(());
        }
        let Some(body) = request.new_object() else { return Ok(()) };
        let bound = |key: &str| str_at(body, &format!("/spec/boundObjectRef/{key}"));
        if bound("apiVersion") != "v1" || bound("kind") != "Pod" || bound("name").is_empty() {
            return Err(request.forbid("node requested token not bound to a pod"));
        }
        let asked_uid = bound("uid");
        if asked_uid.is_empty() {
            return Err(request.forbid("node requested token with a pod binding without a uid"));
        }
        let pod = self
            .reader
            .get("", "pods", request.namespace, bound("name"))
            .ok_or_else(|| Status::not_found("pods", bound("name")))?;
        if asked_uid != uid(&pod) {
            return Err(request.forbid(format!(
                "the UID in the bound object reference ({asked_uid}) does not match the UID in record. The object might have been deleted and then recreated"
            )));
        }
        if str_at(&pod, "/spec/nodeName") != node {
            return Err(request.forbid("node requested token bound to a pod scheduled on a different node"));
        }
        let audiences = strings_at(body, "/spec/audiences");
        let asked = match audiences.as_slice() {
            [] => "",
            [one] => one,
            _ => return Err(request.forbid("node may only request 0 or 1 audiences")),
        };
        if self.mounts_audience(&pod, asked) {
            return Ok(());
        }
        Err(request.forbid(format!("audience {asked:?} not found in pod spec volume, system:node:{node} is not authorized to request tokens for this audience")))
    }

    fn mounts_audience(&self, pod: &Value, asked: &str) -> bool {
        list_at(pod, "/spec/volumes").iter().any(|volume| {
            let projected = list_at(volume, "/projected/sources")
                .iter()
                .filter_map(|s| s.get("serviceAccountToken").filter(|t| !t.is_null()))
                .any(|t| str_at(t, "/audience") == asked);
            projected || self.driver(pod, volume).is_some_and(|d| self.driver_wants(&d, asked))
        })
    }

    /// The CSI driver behind a volume, in line or through its claim.
    fn driver(&self, pod: &Value, volume: &Value) -> Option<String> {
        let inline = str_at(volume, "/csi/driver");
        if !inline.is_empty() {
            return Some(inline.to_owned());
        }
        let own = str_at(volume, "/persistentVolumeClaim/claimName");
        let claim = if !own.is_empty() {
            own.to_owned()
        } else if volume.get("ephemeral").is_some_and(|e| !e.is_null()) {
            format!("{}-{}", name(pod), str_at(volume, "/name"))
        } else {
            return None;
        };
        let claim = self.reader.get("", "persistentvolumeclaims", Some(super::fields::namespace(pod)), &claim)?;
        let pv = self.reader.get("", "persistentvolumes", None, str_at(&claim, "/spec/volumeName"))?;
        Some(str_at(&pv, "/spec/csi/driver").to_owned()).filter(|d| !d.is_empty())
    }

    fn driver_wants(&self, driver: &str, asked: &str) -> bool {
        let object = self.reader.get("storage.k8s.io", "csidrivers", None, driver);
        object.is_some_and(|d| list_at(&d, "/spec/tokenRequests").iter().any(|t| str_at(t, "/audience") == asked))
    }
}

#[async_trait::async_trait]
impl AdmissionPlugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let user = request.user.clone();
        let Some(node) = node_identity(&user) else { return Ok(()) };
        if request.operation == Operation::Connect {
            return Ok(());
        }
        if node.is_empty() {
            return Err(request.forbid(format!("could not determine node from user {:?}", user.name)));
        }
        self.check(node, request)
    }
}

fn pod_status(node: &str, request: &AdmissionRequest<'_>) -> Result<(), Status> {
    let (Some(old), Some(new), Operation::Update) = (request.old_object, request.new_object(), request.operation)
    else {
        return Err(request.forbid(format!("unexpected operation {:?}", request.operation)));
    };
    if str_at(old, "/spec/nodeName") != node {
        return Err(request
            .forbid(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")));
    }
    for (pointer, what) in [
        ("/metadata/labels", "labels through pod status"),
        ("/status/resourceClaimStatuses", "resource claim statues"),
        ("/status/extendedResourceClaimStatus", "extended resource claim status"),
    ] {
        if !same(old, new, pointer) {
            return Err(request.forbid(format!("node {node:?} cannot update {what}")));
        }
    }
    Ok(())
}

/// Equal, where nothing, null and empty are the same.
fn same(a: &Value, b: &Value, pointer: &str) -> bool {
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let get = |v: &Value| v.pointer(pointer).filter(|x| !empty(x)).cloned();
    get(a) == get(b)
}

fn same_name(node: &str, request: &AdmissionRequest<'_>, why: &str) -> Result<(), Status> {
    let own = request.new_object().map(name).unwrap_or_default();
    let asked = if request.operation == Operation::Create || request.name.is_empty() { own } else { request.name };
    if asked == node { Ok(()) } else { Err(request.forbid(why)) }
}

fn resource_slice(node: &str, request: &AdmissionRequest<'_>) -> Result<(), Status> {
    let object = match request.operation {
        Operation::Create => request.new_object(),
        _ => request.old_object,
    };
    let Some(slice) = object else { return Ok(()) };
    if str_at(slice, "/spec/nodeName") == node {
        return Ok(());
    }
    let verb = if request.operation == Operation::Create { "create" } else { "modify" };
    Err(request.forbid(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node")))
}

fn own_node(node: &str, request: &AdmissionRequest<'_>) -> Result<(), Status> {
    let own = request.new_object().map(name).unwrap_or_default();
    let asked = if request.name.is_empty() { own } else { request.name };
    if asked != node {
        return Err(request.forbid(format!("node {node:?} is not allowed to modify node {asked:?}")));
    }
    let Some(new) = request.new_object() else { return Ok(()) };
    match (request.operation, request.old_object) {
        (Operation::Create, _) => {
            if new.pointer("/spec/configSource").is_some_and(|c| !c.is_null()) {
                let why = format!("node {node:?} is not allowed to create pods with a non-nil configSource");
                return Err(request.forbid(why));
            }
            let forbidden = forbidden_labels(&modified_labels(new, &Value::Null));
            if !forbidden.is_empty() {
                let why = format!("node {node:?} is not allowed to set the following labels: {}", forbidden.join(", "));
                return Err(request.forbid(why));
            }
        }
        (Operation::Update, Some(old)) => {
            let new_source = new.pointer("/spec/configSource").filter(|c| !c.is_null());
            if new_source.is_some() && new_source != old.pointer("/spec/configSource") {
                let why = format!("node {node:?} is not allowed to update configSource to a new non-nil configSource");
                return Err(request.forbid(why));
            }
            for (pointer, what) in [("/spec/taints", "taints"), ("/metadata/ownerReferences", "ownerReferences")] {
                if !same(old, new, pointer) {
                    return Err(request.forbid(format!("node {node:?} is not allowed to modify {what}")));
                }
            }
            let forbidden = forbidden_labels(&modified_labels(new, old));
            if !forbidden.is_empty() {
                return Err(request.forbid(format!("is not allowed to modify labels: {}", forbidden.join(", "))));
            }
        }
        _ => {}
    }
    Ok(())
}

fn modified_labels(new: &Value, old: &Value) -> BTreeSet<String> {
    let empty = Map::new();
    let labels =
        |v: &'_ Value| v.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or(empty.clone());
    let (new, old) = (labels(new), labels(old));
    new.keys().chain(old.keys()).filter(|k| new.get(*k) != old.get(*k)).cloned().collect()
}

fn forbidden_labels(modified: &BTreeSet<String>) -> Vec<String> {
    let below =
        |domain: &str, root: &str| domain == root || domain.strip_suffix(root).is_some_and(|d| d.ends_with('.'));
    modified
        .iter()
        .filter(|label| {
            let domain = label.split_once('/').map(|(d, _)| d).unwrap_or_default();
            let kubernetes = below(domain, "kubernetes.io") || below(domain, "k8s.io");
            let kubelets = KUBELET_LABELS.contains(&label.as_str())
                || KUBELET_LABEL_DOMAINS.iter().any(|root| below(domain, root));
            below(domain, RESTRICTED) || (kubernetes && !kubelets)
        })
        .cloned()
        .collect()
}

/// A kubelet asks for certificates in its own name only.
fn own_csr(request: &AdmissionRequest<'_>) -> Result<(), Status> {
    let Some(csr) = request.new_object().filter(|_| request.operation == Operation::Create) else { return Ok(()) };
    let signer = str_at(csr, "/spec/signerName");
    if !matches!(signer, "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet") {
        return Ok(());
    }
    let subject = super::certificates::requested_subject(csr)
        .ok_or_else(|| request.forbid("unable to parse csr: no PEM encoded certificate request"))?;
    if subject.common_name == request.user.name {
        return Ok(());
    }
    Err(request.forbid("can only create a node CSR with CN=".to_owned() + &request.user.name))
}

/// A kubelet tells of a finished expansion, and of nothing else about a claim.
fn claim_status(node: &str, request: &AdmissionRequest<'_>) -> Result<(), Status> {
    if request.subresource != "status" {
        return Err(request.forbid("may only update PVC status"));
    }
    let (Some(old), Some(new), Operation::Update) = (request.old_object, request.new_object(), request.operation)
    else {
        return Err(request.forbid(format!("unexpected operation {:?}", request.operation)));
    };
    let stripped = |claim: &Value| {
        let mut claim = claim.clone();
        for (parent, keys) in [
            ("/metadata", &["resourceVersion", "managedFields"][..]),
            ("/status", &["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"][..]),
        ] {
            if let Some(map) = claim.pointer_mut(parent).and_then(Value::as_object_mut) {
                keys.iter().for_each(|k| drop(map.shift_remove(*k)));
            }
        }
        claim
    };
    if stripped(old) == stripped(new) {
        return Ok(());
    }
    Err(request.forbid(format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
    )))
}
