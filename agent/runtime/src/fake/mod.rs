//! A stateful CRI server on a unix socket: sandboxes, containers and images as data, with faults
//! that a test injects. It keeps CRI's rules (a container needs its sandbox, only a created one
//! starts, stopping is idempotent), so that a client that breaks them fails here too.

mod service;
mod state;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::cri;
pub use state::{FakeContainer, FakeSandbox, FakeState, Fault};
pub use tonic::Code;

/// The running fake. Dropping it closes the socket; its state goes with it.
#[derive(Debug)]
pub struct FakeRuntime {
    socket: PathBuf,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<FakeState>,
    events: broadcast::Sender<cri::ContainerEventResponse>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn emit(&self, container: &str, kind: cri::ContainerEventType) {
        let event = {
            let state = self.lock();
            let Some(found) = state.containers.get(container) else {
                return;
            };
            cri::ContainerEventResponse {
                container_id: container.to_owned(),
                container_event_type: kind.into(),
                created_at: state.now(),
                pod_sandbox_status: state.sandboxes.get(&found.sandbox).map(FakeSandbox::status),
                containers_statuses: Vec::new(),
            }
        };
        // Nobody listening is no error.
        let _ = self.events.send(event);
    }
}

impl FakeRuntime {
    /// Serves on `socket` (created anew).
    pub fn start(socket: &Path) -> std::io::Result<Self> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket)?;
        let (events, _) = broadcast::channel(256);
        let shared = Arc::new(Shared { state: Mutex::new(FakeState::default()), events });
        let shutdown = CancellationToken::new();
        let service = service::FakeService { shared: Arc::clone(&shared) };
        let server = Server::builder()
            .add_service(cri::runtime_service_server::RuntimeServiceServer::new(service.clone()))
            .add_service(cri::image_service_server::ImageServiceServer::new(service));
        let stop = shutdown.clone();
        tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            if let Err(error) = server.serve_with_incoming_shutdown(incoming, stop.cancelled()).await {
                tracing::warn!(%error, "fake CRI server ended");
            }
        });
        Ok(Self { socket: socket.to_owned(), shared, shutdown })
    }

    /// `unix://` endpoint for the client.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// A client of this fake with a short time limit.
    pub fn client(&self) -> Result<crate::RuntimeClient, crate::EndpointError> {
        crate::RuntimeClient::new(crate::RuntimeOptions {
            endpoint: self.endpoint(),
            request_timeout: Duration::from_secs(10),
            ..Default::default()
        })
    }

    /// The whole state, to look at or to change.
    pub fn state(&self) -> MutexGuard<'_, FakeState> {
        self.shared.lock()
    }

    /// A container's process ends by itself.
    pub fn exit_container(&self, id: &str, exit_code: i32, reason: &str) {
        self.shared.lock().exit(id, exit_code, reason);
        self.shared.emit(id, cri::ContainerEventType::ContainerStoppedEvent);
    }

    /// The next `times` calls of `call` (for example `"RunPodSandbox"`) meet `fault`.
    pub fn inject(&self, call: &str, times: usize, fault: &Fault) {
        self.shared.lock().faults.entry(call.to_owned()).or_default().extend(std::iter::repeat_n(fault.clone(), times));
    }

    /// Names of the calls so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.shared.lock().calls.clone()
    }
}

impl Drop for FakeRuntime {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
