//! The revisioned key space that the API server stands on: etcd v3's data model behind one trait.
//!
//! Every successful write gets the next **revision** of one store-wide counter. A key remembers the
//! revision it was created at, the one it was last modified at, and how often it was written since
//! (`version`). Old revisions stay readable until [`Store::compact`], and [`Store::watch`] replays
//! them in order, so a reader that lists at revision N and watches from N+1 misses nothing.
//!
//! ```text
//! Embedded ─► embedded/writer (one thread, group commit) ─► redb file
//!    │  range: embedded/read on a redb snapshot               │ after the commit
//!    └─ watch: embedded/hub (ring of recent events) ◄─────────┘
//! ```

mod embedded;
mod error;
mod types;

use async_trait::async_trait;

pub use embedded::{Embedded, Options};
pub use error::StoreError;
pub use types::{
    Compare, KeyRange, KeyValue, Op, OpResponse, RangeRequest, RangeResponse, StoreStatus, TxnRequest, TxnResponse,
    Watch, WatchEvent, WatchMessage, WatchRequest, prefix_end,
};

/// The seam between the API server and whatever keeps its data (embedded file, or an etcd cluster).
#[async_trait]
pub trait Store: Send + Sync + 'static {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError>;
    /// Acknowledged only once it is durable.
    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError>;
    async fn watch(&self, request: WatchRequest) -> Result<Watch, StoreError>;
    /// Drops history below `revision`; keys alive at it stay.
    async fn compact(&self, revision: i64) -> Result<(), StoreError>;
    /// Grants a lease of `ttl_s` seconds; its keys are deleted when it expires.
    async fn lease_grant(&self, ttl_s: i64) -> Result<i64, StoreError>;
    async fn lease_keep_alive(&self, lease: i64) -> Result<i64, StoreError>;
    async fn lease_revoke(&self, lease: i64) -> Result<(), StoreError>;
    async fn status(&self) -> Result<StoreStatus, StoreError>;
}
