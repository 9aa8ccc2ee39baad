//! The node authorizer: a kubelet sees and writes only what its own Pods need.

use std::sync::Arc;

use super::node_graph::{Kind, NodeGraph};
use super::rule::Rule;
use super::{Attributes, Decision};
use crate::admission::fields::str_at;
use crate::authn::UserInfo;
use crate::reader::ObjectReader;

const NODES_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// The node that `user` is, where it is one; a member of `system:nodes` with another name is `Some("")`.
pub(crate) fn node_identity(user: &UserInfo) -> Option<&str> {
    // Upstream's identifier asks for both: the name's prefix and the group.
    let node = user.name.strip_prefix(NODE_PREFIX)?;
    user.in_group(NODES_GROUP).then_some(node)
}

/// The authorizer.
pub(crate) struct NodeAuthorizer {
    reader: Arc<dyn ObjectReader>,
    graph: NodeGraph,
    /// What every node may do alike (upstream `bootstrappolicy.NodeRules`).
    rules: Vec<Rule>,
}

type Answer = Result<(), String>;

fn deny(why: impl Into<String>) -> Answer {
    Err(why.into())
}

impl NodeAuthorizer {
    pub(crate) fn new(reader: Arc<dyn ObjectReader>, rules: Vec<Rule>) -> Self {
        Self { graph: NodeGraph::new(reader.clone()), reader, rules }
    }

    pub(crate) fn authorize(&self, a: &Attributes) -> Decision {
        let Some(node) = node_identity(&a.user) else { return Decision::NoOpinion(String::new()) };
        if node.is_empty() {
            return Decision::NoOpinion(format!("unknown node for user {:?}", a.user.name));
        }
        match self.answer(node, a) {
            Ok(()) => Decision::Allow(String::new()),
            Err(why) => Decision::NoOpinion(why),
        }
    }

    fn answer(&self, node: &str, a: &Attributes) -> Answer {
        if a.resource_request {
            match (a.api_group.as_str(), a.resource.as_str()) {
                ("", "secrets") => return self.read_namespaced(node, Kind::Secret, a),
                ("", "configmaps") => return self.read_namespaced(node, Kind::ConfigMap, a),
                ("", "persistentvolumeclaims") => return self.claim(node, a),
                ("", "persistentvolumes") => {
                    return get_only(a).and_then(|()| related(node, self.graph.reaches_volume(node, &a.name)));
                }
                ("resource.k8s.io", "resourceclaims") => {
                    return get_only(a).and_then(|()| self.reaches(node, Kind::ResourceClaim, a));
                }
                ("storage.k8s.io", "volumeattachments") => {
                    return get_only(a)
                        .and_then(|()| self.names_node(node, "storage.k8s.io", "volumeattachments", None, a));
                }
                ("", "serviceaccounts") => return self.service_account(node, a),
                ("coordination.k8s.io", "leases") => return lease(node, a),
                ("storage.k8s.io", "csinodes") => return csi_node(node, a),
                ("resource.k8s.io", "resourceslices") => return self.resource_slice(node, a),
                ("", "nodes") => return own_node(node, a),
                ("", "pods") => return self.pod(node, a),
                ("certificates.k8s.io", "podcertificaterequests") => return self.pod_certificate(node, a),
                _ => {}
            }
        }
        if self.rules.iter().any(|r| r.matches(a)) { Ok(()) } else { deny("") }
    }

    fn reaches(&self, node: &str, kind: Kind, a: &Attributes) -> Answer {
        if a.name.is_empty() {
            return deny("No Object name found");
        }
        related(node, self.graph.reaches(node, kind, &a.namespace, &a.name))
    }

    fn read_namespaced(&self, node: &str, kind: Kind, a: &Attributes) -> Answer {
        if !matches!(a.verb.as_str(), "get" | "list" | "watch") {
            return deny("can only read resources of this type");
        }
        if !a.subresource.is_empty() {
            return deny("cannot read subresource");
        }
        if a.namespace.is_empty() {
            return deny("can only read namespaced object of this type");
        }
        self.reaches(node, kind, a)
    }

    fn claim(&self, node: &str, a: &Attributes) -> Answer {
        if a.subresource == "status" {
            if !matches!(a.verb.as_str(), "update" | "patch") {
                return deny("can only get/update/patch this type");
            }
            return self.reaches(node, Kind::Claim, a);
        }
        get_only(a)?;
        self.reaches(node, Kind::Claim, a)
    }

    fn service_account(&self, node: &str, a: &Attributes) -> Answer {
        if a.verb == "get" && a.subresource.is_empty() {
            return self.read_namespaced(node, Kind::ServiceAccount, a);
        }
        if a.verb != "create" || a.name.is_empty() {
            return deny("can only create tokens for individual service accounts");
        }
        if a.subresource != "token" {
            return deny("can only create token subresource of serviceaccount");
        }
        self.reaches(node, Kind::ServiceAccount, a)
    }

    fn pod(&self, node: &str, a: &Attributes) -> Answer {
        let bound_here = || self.names_node(node, "", "pods", Some(&a.namespace), a);
        match (a.subresource.as_str(), a.verb.as_str()) {
            ("", "get") => bound_here(),
            ("", "list" | "watch") => {
                if selects_node(&a.field_selector, node) {
                    return Ok(());
                }
                if a.name.is_empty() {
                    return deny("can only list/watch pods with spec.nodeName field selector");
                }
                bound_here()
            }
            // NodeRestriction keeps these to mirror Pods and Pods of this node.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => deny(""),
        }
    }

    fn resource_slice(&self, node: &str, a: &Attributes) -> Answer {
        if !a.subresource.is_empty() {
            return deny("cannot authorize ResourceSlice subresources");
        }
        match a.verb.as_str() {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => {
                self.names_node(node, "resource.k8s.io", "resourceslices", None, a)
            }
            "watch" | "list" | "deletecollection" if selects_node(&a.field_selector, node) => Ok(()),
            "watch" | "list" | "deletecollection" => {
                deny("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => deny(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod_certificate(&self, node: &str, a: &Attributes) -> Answer {
        if !a.subresource.is_empty() {
            return deny("nodes may not access the status subresource of PodCertificateRequests");
        }
        match a.verb.as_str() {
            "create" => Ok(()),
            "get" => self.names_node(node, "certificates.k8s.io", "podcertificaterequests", Some(&a.namespace), a),
            "list" | "watch" if selects_node(&a.field_selector, node) => Ok(()),
            "list" | "watch" => deny("can only list/watch podcertificaterequests with nodeName field selector"),
            verb => deny(format!("nodes may not {verb} podcertificaterequests")),
        }
    }

    /// The stored object's `spec.nodeName` is this node.
    fn names_node(&self, node: &str, group: &str, resource: &str, namespace: Option<&str>, a: &Attributes) -> Answer {
        if a.name.is_empty() {
            return deny("No Object name found");
        }
        let object = self.reader.get(group, resource, namespace, &a.name);
        related(node, object.is_some_and(|o| str_at(&o, "/spec/nodeName") == node))
    }
}

fn related(node: &str, yes: bool) -> Answer {
    if yes { Ok(()) } else { deny(format!("no relationship found between node '{node}' and this object")) }
}

fn get_only(a: &Attributes) -> Answer {
    if a.verb != "get" {
        return deny("can only get individual resources of this type");
    }
    if !a.subresource.is_empty() {
        return deny("cannot get subresource");
    }
    Ok(())
}

fn lease(node: &str, a: &Attributes) -> Answer {
    if !matches!(a.verb.as_str(), "get" | "create" | "update" | "patch" | "delete") {
        return deny("can only get, create, update, patch, or delete a node lease");
    }
    if a.namespace != "kube-node-lease" {
        return deny("can only access leases in the \"kube-node-lease\" system namespace");
    }
    // A create's name is not known yet: NodeRestriction checks it.
    if a.verb != "create" && a.name != node {
        return deny("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(node: &str, a: &Attributes) -> Answer {
    if !matches!(a.verb.as_str(), "get" | "create" | "update" | "patch" | "delete") {
        return deny("can only get, create, update, patch, or delete a CSINode");
    }
    if !a.subresource.is_empty() {
        return deny("cannot authorize CSINode subresources");
    }
    if a.verb != "create" && a.name != node {
        return deny("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

fn own_node(node: &str, a: &Attributes) -> Answer {
    match (a.subresource.as_str(), a.verb.as_str()) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => match a.name.as_str() {
            own if own == node => Ok(()),
            "" => deny(format!("node '{node}' cannot read all nodes, only its own Node object")),
            other => deny(format!("node '{node}' cannot read '{other}', only its own Node object")),
        },
        _ => deny(""),
    }
}

/// Whether a field selector keeps the answer to one node's objects.
fn selects_node(selector: &str, node: &str) -> bool {
    selector.split(',').any(|term| {
        let value = ["spec.nodeName==", "spec.nodeName="].iter().find_map(|p| term.trim().strip_prefix(p));
        value == Some(node)
    })
}
