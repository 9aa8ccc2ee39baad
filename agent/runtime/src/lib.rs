//! The CRI client: `RuntimeService` and `ImageService` of a container runtime over a unix socket.
//!
//! ```text
//! RuntimeClient ─► Channel (unix socket, 16 MiB messages, reconnects by itself)
//!   service.rs   sandboxes, containers, exec, stats, events, status
//!   images.rs    images: list, inspect, pull, remove, file systems
//!   error.rs     RuntimeError: which call, on which socket, and what to do about it (`retry()`)
//!   fake/        a stateful server for tests (feature `fake`)
//! ```
//!
//! Every call has a time limit, so a runtime that hangs never hangs its caller. Answers are the
//! types of CRI v1 as they come over the wire (re-exported as [`cri`]).

mod client;
mod error;
mod images;
mod service;

#[cfg(any(test, feature = "fake"))]
pub mod fake;

pub use client::{ImagePull, RuntimeClient, RuntimeOptions};
pub use error::{EndpointError, Retry, RuntimeError};
pub use k8s_cri::v1 as cri;
pub use service::ContainerEvents;

/// The only CRI API version that is spoken.
pub const CRI_API_VERSION: &str = "v1";

/// The largest message either way, upstream's limit. A runtime's answer beyond it is an error, not memory.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
