//! What the kernel says: safe wrappers over cgroups, mounts, `/proc`, netlink and systemd.
//!
//! Nothing here knows Kubernetes. Every call that can block for long is async or says so.

pub mod cgroup;
pub mod file_system;
mod for_tests;
pub mod machine;
pub mod mounts;
pub mod netlink;
pub mod netns;
pub mod process;
pub mod safe_path;
pub mod slices;
pub mod sysctl;
pub mod systemd;

#[doc(hidden)]
pub use for_tests::skip;
