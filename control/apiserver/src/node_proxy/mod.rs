//! Requests that end at a kubelet, a pod or a service: logs, exec, attach, port-forward, proxy.
//!
//! ```text
//! client ═══ this server ─── TLS, apiserver-kubelet-client certificate ───► kubelet
//!         upgraded: bytes are copied both ways, whatever protocol they are (SPDY, WebSocket)
//! ```

mod dial;
mod forward;
mod guarded;
mod kubelet;
mod target;

use orlop_api::status::Status;

use crate::admission::{AdmissionRequest, Operation};
use crate::call::Call;
use crate::wire::{Request, Response};
pub(crate) use dial::KubeletDialer;

/// `guard` is held until the stream ends.
pub(crate) async fn serve(call: &Call, request: Request, guard: impl Send + 'static) -> Result<Response, Status> {
    let subresource = call.row.subresource(&call.info.subresource).ok_or_else(Status::path_not_found)?;
    if !subresource.has_verb(&call.info.verb) {
        return Err(Status::method_not_allowed());
    }
    if subresource.name != "log" {
        let mut admission = AdmissionRequest {
            operation: Operation::Connect,
            resource: call.row,
            subresource: subresource.name,
            namespace: call.namespace(),
            name: &call.info.name,
            object: None,
            old_object: None,
            user: call.user.clone(),
            dry_run: false,
            warnings: Vec::new(),
        };
        call.app.admission.mutate(&mut admission).await?;
        call.app.admission.validate(&mut admission).await?;
    }
    let target = match (call.row.plural, subresource.name) {
        ("pods", "log") => kubelet::log(call).await?,
        ("pods", "exec" | "attach") => kubelet::exec_or_attach(call).await?,
        ("pods", "portforward") => kubelet::port_forward(call).await?,
        ("nodes", "proxy") => kubelet::node(call).await?,
        ("pods", "proxy") => target::pod(call).await?,
        ("services", "proxy") => target::service(call).await?,
        _ => return Err(Status::path_not_found()),
    };
    forward::forward(call, request, target, guard).await
}
