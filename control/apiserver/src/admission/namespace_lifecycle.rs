//! NamespaceLifecycle: nothing new in a namespace that is missing or ending; system namespaces stay.

use std::sync::Arc;
use std::time::Duration;

use orlop_api::status::{Status, StatusCause};

use super::fields::str_at;
use super::{AdmissionPlugin, AdmissionRequest, Operation, get_soon};
use crate::reader::ObjectReader;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// Upstream's `missingNamespaceWait`.
const PATIENCE: Duration = Duration::from_millis(50);

pub(super) struct NamespaceLifecycle {
    reader: Arc<dyn ObjectReader>,
}

impl NamespaceLifecycle {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }

    async fn check(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let is_namespace = request.is("", "namespaces");
        if is_namespace && request.operation == Operation::Delete && IMMORTAL.contains(&request.name) {
            return Err(request.forbid("this namespace may not be deleted"));
        }
        let Some(ns) = request.namespace.filter(|ns| !is_namespace && !ns.is_empty()) else { return Ok(()) };
        if matches!(request.operation, Operation::Delete | Operation::Connect) {
            return Ok(());
        }
        // Reviews are questions, not content.
        if request.is("authorization.k8s.io", "localsubjectaccessreviews") {
            return Ok(());
        }
        let Some(namespace) = get_soon(self.reader.as_ref(), "namespaces", None, ns, PATIENCE).await else {
            return Err(Status::not_found("namespaces", ns));
        };
        if request.operation != Operation::Create || str_at(&namespace, "/status/phase") != "Terminating" {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {ns} because it is being terminated");
        Err(request.forbid(why).with_cause(StatusCause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {ns} is being terminated"),
            field: "metadata.namespace".to_owned(),
        }))
    }
}

#[async_trait::async_trait]
impl AdmissionPlugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        self.check(request).await
    }
}
