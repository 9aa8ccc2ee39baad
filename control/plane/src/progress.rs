//! What a start tells while it runs, one line per step.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// One step that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Store { path: PathBuf, revision: i64, keys: u64 },
    Certificates { dir: PathBuf, issued: usize },
    ApiServer { address: SocketAddr },
    Kubeconfig { path: PathBuf, written: bool },
    Scheduler,
    Controllers,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store { path, keys: 0, .. } => write!(f, "store {} created", path.display()),
            Self::Store { path, revision, keys } => {
                write!(f, "store {} opened at revision {revision}, {keys} keys", path.display())
            }
            Self::Certificates { dir, issued: 0 } => write!(f, "certificates in {} are valid", dir.display()),
            Self::Certificates { dir, issued } => {
                write!(f, "{issued} certificates and keys issued in {}", dir.display())
            }
            Self::ApiServer { address } => write!(f, "API server ready on https://{address}"),
            Self::Kubeconfig { path, written: true } => write!(f, "admin kubeconfig written to {}", path.display()),
            Self::Kubeconfig { path, written: false } => write!(f, "admin kubeconfig {} is valid", path.display()),
            Self::Scheduler => f.write_str("scheduler started"),
            Self::Controllers => f.write_str("controllers started"),
        }
    }
}

/// Called once per finished step, in order.
pub type Progress = Arc<dyn Fn(&Step) + Send + Sync>;
