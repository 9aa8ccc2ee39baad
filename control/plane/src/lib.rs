//! The control plane in one process: store, API server, scheduler and controllers, with the
//! certificates between them.
//!
//! Everything that is kept lives below one data directory; [`start`] makes what is missing, renews
//! what ends, and refuses with a remedy what it can't use. Scheduler and controllers are clients of
//! the API server like any other, over a client that needs no socket.

mod config;
mod data_dir;
mod kubeconfig;
mod pki;
mod plane;
mod progress;

pub use config::{PlaneConfig, PlaneError};
pub use data_dir::DataDirError;
pub use orlop_apiserver::authn::{Clock, UserInfo};
pub use pki::{KubeletPki, PkiError};
pub use plane::{Plane, start};
pub use progress::{Progress, Step};
