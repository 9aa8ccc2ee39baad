//! The kubelet: pods on this node.
//!
//! ```text
//! sources/ file ┐                        ┌► status/ ─► API server            (one writer)
//!          api  ┴► sync loop ─► pod_workers/ ─► kuberuntime/ ─► CRI          (one task per pod)
//!  watch channels  pod_manager   ▲       └► volumes/, container_manager/, images/, prober/
//!                                └── pleg: CRI events, relist as audit       (one task)
//! beside them: mirror, records, housekeeping, events, node_conditions, node_status/, node_lease/, server/
//! ```
//!
//! [`Kubelet::start`] makes all of it; every task ends with the shutdown token, and pods go on running.

pub mod admission;
pub mod backoff;
pub mod container_manager;
pub mod events;
mod housekeeping;
pub mod images;
pub mod kuberuntime;
pub mod mirror;
pub mod node_conditions;
pub mod node_lease;
pub mod node_status;
pub mod objects;
pub mod options;
pub mod pleg;
pub mod pod;
pub mod pod_manager;
pub mod pod_workers;
pub mod prober;
mod provider;
pub mod reasons;
pub mod records;
pub mod server;
pub mod services;
pub mod sources;
mod start;
pub mod stats;
pub mod status;
pub mod volumes;

pub use options::KubeletOptions;
pub use start::{Kubelet, KubeletError, KubeletHandle};
