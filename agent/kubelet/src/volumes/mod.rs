//! Volumes of pods on this node: mounted before the first container, kept fresh, taken down last.
//!
//! ```text
//! <root-dir>/pods/<uid>/volumes/kubernetes.io~configmap/<name>     and ~secret, ~empty-dir, …
//! <root-dir>/pods/<uid>/volume-subpaths/<name>/<container>/<index>
//! ```
//! Nothing that a pod chooses (names, sub-paths, symlinks in its volumes) is followed out of its place.

pub mod atomic_writer;
mod container_mounts;
pub mod downward;
mod empty_dir;
mod error;
pub mod expansion;
mod host_path;
mod manager;
mod payload;

pub use container_mounts::{Mount, PodVolumes, Propagation};
pub use downward::NodeAllocatable;
pub use error::VolumeError;
pub use manager::{VolumeManager, VolumeManagerConfig};
