//! What a write becomes before it is stored, and whether it may be.
//!
//! [`Chain`] runs `mutate` of every plugin in upstream's order, then `validate` of every plugin.

mod certificates;
mod defaults;
mod escalation;
pub(crate) mod fields;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
pub(crate) mod pod_refs;
mod pod_security;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod taints;

use std::sync::Arc;
use std::time::Duration;

use orlop_api::registry::ResourceInfo;
use orlop_api::status::Status;
use serde_json::Value;

use crate::authn::UserInfo;
use crate::authz;
use crate::reader::{Object, ObjectReader};

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

impl AdmissionRequest<'_> {
    /// Whether this is about `resource` of `group` itself or one of its subresources.
    pub(crate) fn is(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.plural == resource
    }

    /// A create of the resource itself.
    pub(crate) fn creates(&self, group: &str, resource: &str) -> bool {
        self.operation == Operation::Create && self.subresource.is_empty() && self.is(group, resource)
    }

    /// The new object, for reading.
    pub(crate) fn new_object(&self) -> Option<&Value> {
        self.object.as_deref()
    }

    /// 403 `pods "x" is forbidden: WHY`.
    pub(crate) fn forbid(&self, why: impl std::fmt::Display) -> Status {
        let own = self.new_object().map(fields::name).unwrap_or_default();
        let generated = self.new_object().map(|o| fields::str_at(o, "/metadata/generateName")).unwrap_or_default();
        let shown = [self.name, own, generated].into_iter().find(|n| !n.is_empty()).unwrap_or("Unknown");
        Status::forbidden(self.resource, shown, why)
    }
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
        let reader = || deps.reader.clone();
        let plugins: Vec<Box<dyn AdmissionPlugin>> = vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle::new(reader())),
            Box::new(limit_ranger::LimitRanger::new(reader())),
            Box::new(service_account::ServiceAccount::new(reader())),
            Box::new(node_restriction::NodeRestriction::new(reader())),
            Box::new(taints::TaintNodesByCondition),
            Box::new(pod_security::PodSecurity::new(reader())),
            Box::new(priority::Priority::new(reader())),
            Box::new(taints::DefaultTolerationSeconds),
            Box::new(defaults::DefaultStorageClass::new(reader())),
            Box::new(runtime_class::RuntimeClass::new(reader())),
            Box::new(certificates::Certificates::new(deps.authorizer.clone())),
            Box::new(defaults::DefaultIngressClass::new(reader())),
            Box::new(escalation::RbacEscalation::new(deps.authorizer.clone())),
            Box::new(resource_quota::ResourceQuota::new(reader())),
        ];
        Self { plugins }
    }

    /// Lets every plugin change the object; the first refusal ends it.
    pub async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.mutate(request).await.inspect_err(|e| refused(plugin.name(), e))?;
        }
        Ok(())
    }

    /// Asks every plugin about the object as it will be stored (after defaulting and validation).
    pub async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.validate(request).await.inspect_err(|e| refused(plugin.name(), e))?;
        }
        Ok(())
    }
}

fn refused(plugin: &str, status: &Status) {
    tracing::debug!(plugin, %status, "admission refused");
}

/// An object that somebody may just have made: the cache may lag a write by a moment.
pub(crate) async fn get_soon(
    reader: &dyn ObjectReader,
    resource: &str,
    namespace: Option<&str>,
    name: &str,
    patience: Duration,
) -> Option<Object> {
    const STEP: Duration = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        if let Some(found) = reader.get("", resource, namespace, name) {
            return Some(found);
        }
        if waited >= patience {
            return None;
        }
        tokio::time::sleep(STEP).await;
        waited += STEP;
    }
}

#[cfg(test)]
pub(crate) mod fake_reader;
#[cfg(test)]
mod tests;
