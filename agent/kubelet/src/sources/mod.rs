//! Where pods come from. Each source publishes its complete set; the kubelet merges them.
//!
//! ```text
//! file.rs  manifests directory: inotify, and a rescan     api.rs  watch of spec.nodeName=NODE
//!              └──────── watch<SourceState> ────────┬──────────────────┘
//!                                              sync loop (lib.rs)
//! ```
//!
//! A source that has nothing to say (an API server that is away) keeps its last set: losing a source
//! never kills a pod.

pub mod api;
pub mod file;
pub mod manifest;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

/// The set of one source.
#[derive(Clone, Debug, Default)]
pub struct SourceState {
    /// The source has been read completely at least once.
    pub synced: bool,
    pub pods: Vec<Arc<Pod>>,
}
