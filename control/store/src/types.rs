//! Requests, answers and events of the key space. Names and meanings are etcd's (`etcdserverpb`, `mvccpb`).

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

/// One key as of some revision. Mirrors etcd's `mvccpb.KeyValue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision of the write that made the key exist.
    pub create_revision: i64,
    /// Revision of the last write.
    pub mod_revision: i64,
    /// Writes since creation, from 1.
    pub version: i64,
    /// Lease that the key lives under, 0 for none.
    pub lease: i64,
}

/// Which keys: one key, or all `k` with `key <= k < end` (an empty `end` means "to the last key").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub key: Bytes,
    /// `None`: only `key` itself.
    pub end: Option<Bytes>,
}

#[derive(Clone, Debug)]
pub struct RangeRequest {
    pub range: KeyRange,
    /// 0 reads the newest revision.
    pub revision: i64,
    /// 0: no limit. Keys come in byte order.
    pub limit: usize,
    pub keys_only: bool,
    pub count_only: bool,
}

#[derive(Clone, Debug, Default)]
pub struct RangeResponse {
    /// The store's newest revision when the read was served (etcd's `header.revision`).
    pub revision: i64,
    pub kvs: Vec<KeyValue>,
    /// More keys follow in the range past `limit`.
    pub more: bool,
    /// All keys in the range, the limit left out.
    pub count: usize,
}

#[derive(Clone, Debug)]
pub enum Compare {
    /// `mod_revision == N`; 0 means "does not exist".
    ModRevision(Bytes, i64),
    CreateRevision(Bytes, i64),
    Version(Bytes, i64),
    Value(Bytes, Bytes),
}

#[derive(Clone, Debug)]
pub enum Op {
    Put { key: Bytes, value: Bytes, lease: i64 },
    Delete { range: KeyRange },
    Range(RangeRequest),
}

/// All compares hold: `success` runs; else `failure`. Either runs whole, at one revision.
#[derive(Clone, Debug, Default)]
pub struct TxnRequest {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

#[derive(Clone, Debug)]
pub enum OpResponse {
    /// The key before the write, where it existed.
    Put {
        prev: Option<KeyValue>,
    },
    Delete {
        deleted: Vec<KeyValue>,
    },
    Range(RangeResponse),
}

#[derive(Clone, Debug)]
pub struct TxnResponse {
    /// Newest revision after the transaction (its own, where it wrote).
    pub revision: i64,
    pub succeeded: bool,
    pub responses: Vec<OpResponse>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    Put {
        kv: KeyValue,
        prev: Option<KeyValue>,
    },
    /// `kv.value` is empty, `kv.mod_revision` is the deletion's revision; `prev` is what was deleted.
    Delete {
        kv: KeyValue,
        prev: Option<KeyValue>,
    },
}

#[derive(Clone, Debug)]
pub enum WatchMessage {
    /// Events of one or several whole revisions, in order; a revision is never split over two batches.
    Events { revision: i64, events: Vec<WatchEvent> },
    /// Everything up to `revision` was delivered.
    Progress { revision: i64 },
    /// The history that the watcher still needed was compacted. Nothing follows.
    Compacted { compact_revision: i64 },
    /// The watcher did not keep up with its bounded queue and was cut. Nothing follows.
    Lagged,
}

#[derive(Clone, Debug)]
pub struct WatchRequest {
    pub range: KeyRange,
    /// First revision wanted; 0 means "from now on".
    pub start_revision: i64,
    /// `start_revision` 0 only tells of what comes after this response's revision.
    pub prev_kv: bool,
}

/// A running watch. Dropping it ends it.
pub struct Watch {
    /// Newest revision when the watch was registered.
    pub revision: i64,
    pub events: mpsc::Receiver<WatchMessage>,
    /// Asks for a `Progress` message once everything known now was delivered.
    pub progress: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Clone, Debug, Default)]
pub struct StoreStatus {
    pub revision: i64,
    pub compact_revision: i64,
    pub keys: u64,
    /// Bytes of the file, and bytes of it in use.
    pub size_bytes: u64,
    pub size_in_use_bytes: u64,
}

impl KeyRange {
    /// Only `key`.
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), end: None }
    }

    /// Every key that begins with `prefix`; an empty prefix is every key.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let key = prefix.into();
        let end = prefix_end(&key);
        Self { key, end: Some(end) }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            None => key == self.key,
            Some(end) => key >= self.key.as_ref() && (end.is_empty() || key < end.as_ref()),
        }
    }
}

/// The first key behind all keys that begin with `prefix`; empty where there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    Bytes::from(end)
}

impl WatchEvent {
    /// The key as the event left it.
    pub fn kv(&self) -> &KeyValue {
        match self {
            WatchEvent::Put { kv, .. } | WatchEvent::Delete { kv, .. } => kv,
        }
    }
}
