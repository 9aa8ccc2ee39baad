//! What a write becomes before it is stored, and whether it may be.
//!
//! [`Chain`] runs `mutate` of every plugin in upstream's order, then `validate` of every plugin.

pub(crate) mod fields;
pub(crate) mod pod_refs;

use std::sync::Arc;

use orlop_api::registry::ResourceInfo;
use orlop_api::status::Status;
use serde_json::Value;

use crate::authn::UserInfo;
use crate::authz;
use crate::reader::ObjectReader;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write on its way to the store.
pub struct AdmissionRequest<'a> {
    pub operation: Operation,
    pub resource: &'static ResourceInfo,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    pub namespace: Option<&'a str>,
    pub name: &'a str,
    /// `None` for deletes.
    pub object: Option<&'a mut Value>,
    /// `None` for creates.
    pub old_object: Option<&'a Value>,
    pub user: Arc<UserInfo>,
    pub dry_run: bool,
    /// Warning headers for the client.
    pub warnings: Vec<String>,
}

/// One admission plugin; the seam at which webhooks and policies join the built-in ones.
#[async_trait::async_trait]
pub trait AdmissionPlugin: Send + Sync {
    fn name(&self) -> &'static str;
    async fn mutate(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        Ok(())
    }
    async fn validate(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        Ok(())
    }
}

/// What the built-in plugins need.
#[derive(Clone)]
pub struct AdmissionDeps {
    pub reader: Arc<dyn ObjectReader>,
    pub authorizer: Arc<authz::Chain>,
}

/// The plugins in upstream's order.
pub struct Chain {
    plugins: Vec<Box<dyn AdmissionPlugin>>,
}

impl Chain {
    /// The plugins that are on by default, and NodeRestriction (which kubeadm turns on).
    #[must_use]
    pub fn default_chain(deps: &AdmissionDeps) -> Self {
        let _ = deps;
        Self { plugins: Vec::new() }
    }

    /// Lets every plugin change the object; the first refusal ends it.
    pub async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.mutate(request).await?;
        }
        Ok(())
    }

    /// Asks every plugin about the object as it will be stored (after defaulting and validation).
    pub async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.validate(request).await?;
        }
        Ok(())
    }
}
