//! Whether they may.
//!
//! [`Chain`]: `system:masters`, then the node authorizer, then RBAC.

pub(crate) mod escalation;
pub(crate) mod node;
mod node_graph;
pub(crate) mod rbac;
pub mod reviews;
pub mod rule;

use std::sync::Arc;

use orlop_api::field::quote;
use orlop_api::status::Status;

use crate::authn::UserInfo;
use crate::reader::ObjectReader;
use node::NodeAuthorizer;
use rbac::Rbac;
use rule::Rule;

/// What is asked of an authorizer (upstream `authorizer.Attributes`).
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    pub user: Arc<UserInfo>,
    /// get list watch create update patch delete deletecollection, or the lower-case HTTP method for paths.
    pub verb: String,
    /// Empty for non-resource requests.
    pub resource: String,
    pub subresource: String,
    pub api_group: String,
    pub api_version: String,
    pub namespace: String,
    pub name: String,
    pub path: String,
    pub resource_request: bool,
    /// The request's field selector, for the node authorizer (AuthorizeWithSelectors).
    pub field_selector: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(String),
    /// Stops the chain.
    Deny(String),
    NoOpinion(String),
}

impl Decision {
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(r) | Self::Deny(r) | Self::NoOpinion(r) => r,
        }
    }
}

/// The authorizers in order.
pub struct Chain {
    node: NodeAuthorizer,
    rbac: Rbac,
}

impl Chain {
    #[must_use]
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { node: NodeAuthorizer::new(reader.clone(), crate::bootstrap::node_rules()), rbac: Rbac::new(reader) }
    }

    /// The first authorizer with an opinion decides; none at all is a refusal.
    #[must_use]
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        if attributes.user.in_group(UserInfo::MASTERS) {
            return Decision::Allow(String::new());
        }
        let node = self.node.authorize(attributes);
        if !matches!(node, Decision::NoOpinion(_)) {
            return node;
        }
        match self.rbac.authorize(attributes) {
            // Upstream joins the reasons of all that had no opinion.
            Decision::NoOpinion(why) if why.is_empty() => node,
            Decision::NoOpinion(why) if !node.reason().is_empty() => {
                Decision::NoOpinion(format!("{}, {why}", node.reason()))
            }
            decision => decision,
        }
    }

    /// Every RBAC rule that holds for `user` in `namespace` (empty: cluster-wide only).
    pub(crate) fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.rbac.rules_for(user, namespace)
    }

    pub(crate) fn role_rules(&self, kind: &str, namespace: &str, role: &str) -> Option<Vec<Rule>> {
        self.rbac.role_rules(kind, namespace, role)
    }
}

/// The 403 answer for a refused request, in upstream's words.
#[must_use]
pub fn forbidden(attributes: &Attributes, reason: &str) -> Status {
    let why = refusal(attributes);
    let why = if reason.is_empty() { why } else { format!("{why}: {reason}") };
    Status::forbidden((attributes.api_group.as_str(), attributes.resource.as_str()), &attributes.name, why)
}

/// `User "x" cannot list resource "pods" in API group "" in the namespace "default"`.
fn refusal(a: &Attributes) -> String {
    let user = quote(&a.user.name);
    if !a.resource_request {
        return format!("User {user} cannot {} path {}", a.verb, quote(&a.path));
    }
    let resource =
        if a.subresource.is_empty() { a.resource.clone() } else { format!("{}/{}", a.resource, a.subresource) };
    let place = if a.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {}", quote(&a.namespace))
    };
    format!("User {user} cannot {} resource {} in API group {} {place}", a.verb, quote(&resource), quote(&a.api_group))
}

#[cfg(test)]
mod tests;
