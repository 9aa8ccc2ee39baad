//! What this program calls itself.

/// Version of Orlop itself.
pub(crate) const ORLOP: &str = env!("CARGO_PKG_VERSION");

/// Version of the Kubernetes API that is served and used; nodes report it as `kubeletVersion`.
pub(crate) const KUBERNETES: &str = "v1.36.2+orlop";

/// What `--version` prints after the program's name.
pub(crate) const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.36.2+orlop)");
