//! The seam to whatever carries the rules out in the kernel.

use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::plan::Plan;
use crate::state::{Frontend, ProxyState};

/// What a backend may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// IPv6 services.
    Ipv6,
    /// SCTP ports.
    Sctp,
    /// `sessionAffinity: ClientIP`.
    SessionAffinity,
    /// `loadBalancerSourceRanges`.
    SourceRanges,
    /// NodePorts on 127.0.0.1 and ::1, for the host itself.
    LocalhostNodePorts,
}

impl Feature {
    /// All of them, for tables.
    pub const ALL: [Self; 5] =
        [Self::Ipv6, Self::Sctp, Self::SessionAffinity, Self::SourceRanges, Self::LocalhostNodePorts];
}

/// Whether a backend has a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    Yes,
    /// With the reason, for the user.
    No(String),
}

impl Support {
    /// It has.
    pub fn is_yes(&self) -> bool {
        *self == Self::Yes
    }
}

/// How soon trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Now,
    Backoff,
    Never,
}

/// The kernel didn't do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// A table of the backend has no room; what fits was installed.
    #[error("{table} is full at {limit} entries ({failed} frontends are not installed): raise its limit")]
    Full { table: &'static str, limit: u32, failed: usize },
    /// A call into the kernel failed.
    #[error("{operation} failed for {subject}")]
    Kernel {
        operation: &'static str,
        subject: String,
        #[source]
        source: std::io::Error,
    },
    /// A file that the backend keeps could not be handled.
    #[error("{operation} failed for {}", path.display())]
    Path {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The desired state names a frontend that it doesn't hold.
    #[error("plan and desired state disagree about {frontend}")]
    Inconsistent { frontend: Frontend },
}

impl SyncError {
    /// How soon trying again may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Inconsistent { .. } => Retry::Now,
            Self::Full { .. } | Self::Kernel { .. } | Self::Path { .. } => Retry::Backoff,
        }
    }
}

/// Carries out plans, and reads back what is in the kernel.
#[async_trait]
pub trait Backend: Send {
    /// Its `--proxy-mode`, as `/proxyMode` tells it.
    fn mode(&self) -> &'static str;

    /// Whether it has a feature. Rules that need one it lacks are never given to it.
    fn supports(&self, feature: Feature) -> Support;

    /// Addresses of the node's interfaces, for `nodePortAddresses`.
    async fn local_addresses(&mut self) -> Result<Vec<IpAddr>, SyncError>;

    /// Reads everything back from the kernel; repairs what is not a rule (attachments).
    async fn installed(&mut self) -> Result<ProxyState, SyncError>;

    /// Carries out `plan` as far as possible. A service keeps its old endpoints until the new ones are there.
    async fn apply(&mut self, plan: &Plan, desired: &ProxyState) -> Result<(), SyncError>;

    /// Repairs what isn't a rule (attachments, interfaces), cheaply.
    async fn attend(&mut self) -> Result<(), SyncError> {
        Ok(())
    }

    /// Waits until the kernel says that something was changed which may need [`Backend::attend`].
    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }

    /// Counters that the kernel keeps, by name.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Removes everything of ours from the kernel, going on past errors.
    async fn cleanup(&mut self) -> Result<(), Vec<SyncError>>;
}
