//! RBAC objects: nobody grants more than they hold, or may `escalate` or `bind`. Upstream checks
//! this in the storage of each kind; here it is one more plugin.

use std::sync::Arc;

use orlop_api::status::Status;

use super::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::authz::{self, escalation, rbac};

pub(super) struct RbacEscalation {
    authorizer: Arc<authz::Chain>,
}

impl RbacEscalation {
    pub(super) fn new(authorizer: Arc<authz::Chain>) -> Self {
        Self { authorizer }
    }
}

#[async_trait::async_trait]
impl AdmissionPlugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || request.resource.group != rbac::GROUP {
            return Ok(());
        }
        let Some(object) = request.new_object() else { return Ok(()) };
        let (plural, ns) = (request.resource.plural, request.namespace.unwrap_or_default());
        let (chain, user, old) = (self.authorizer.as_ref(), &request.user, request.old_object);
        match plural {
            "roles" | "clusterroles" => escalation::check_role(chain, user, plural, ns, object, old),
            "rolebindings" | "clusterrolebindings" => escalation::check_binding(chain, user, plural, ns, object, old),
            _ => Ok(()),
        }
    }
}
