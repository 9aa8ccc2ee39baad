//! Whether they may.
//!
//! [`Chain`]: `system:masters`, then the node authorizer, then RBAC.

pub mod reviews;

use std::sync::Arc;

use orlop_api::status::Status;

use crate::admission::reject;
use crate::authn::UserInfo;
use crate::reader::ObjectReader;

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
    reader: Arc<dyn ObjectReader>,
}

impl Chain {
    #[must_use]
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }

    /// The first authorizer with an opinion decides; none at all is a refusal.
    #[must_use]
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        let _ = &self.reader;
        if attributes.user.in_group(UserInfo::MASTERS) {
            return Decision::Allow(String::new());
        }
        Decision::NoOpinion(String::new())
    }
}

/// The 403 answer for a refused request, in upstream's words.
#[must_use]
pub fn forbidden(attributes: &Attributes, reason: &str) -> Status {
    let _ = reason;
    reject::forbidden(&attributes.api_group, &attributes.resource, &attributes.name, "")
}
