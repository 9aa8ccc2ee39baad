//! Objects of one resource in the store: keys, reads, optimistic writes, and the watch cache over it.

pub(crate) mod cache;
pub(crate) mod compactor;
pub(crate) mod continuation;
pub(crate) mod encoding;
mod feeder;
pub(crate) mod object;
pub(crate) mod reader;
mod table;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orlop_api::registry::ResourceInfo;
use orlop_api::status::Status;
use orlop_store::{Compare, KeyRange, KeyValue, Op, OpResponse, RangeRequest, RangeResponse, Store, TxnRequest};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::errors;
use cache::Cache;
use object::Stored;
pub(crate) use table::Storages;

/// How long a read may wait for the cache to reach the revision it needs.
const FRESH_WITHIN: Duration = Duration::from_secs(3);
/// Waiting for progress, the store is asked again this often.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The first key after all that start with `prefix`.
pub(crate) fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::new()
}

/// `NAMESPACE/NAME` or `NAME`.
pub(crate) fn object_key(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{name}"),
        _ => name.to_owned(),
    }
}

/// Beginning of all keys of a namespace, or of all.
pub(crate) fn key_prefix(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/"),
        _ => String::new(),
    }
}

/// Outcome of an optimistic write.
pub(crate) enum Written {
    Done(Arc<Stored>),
    /// What is there instead.
    Conflict(Option<Arc<Stored>>),
}

/// A page read from the store itself.
pub(crate) struct StorePage {
    pub(crate) objects: Vec<Arc<Stored>>,
    pub(crate) revision: i64,
    pub(crate) more: bool,
    pub(crate) count: usize,
}

/// One resource's part of the store. Resources that are two views of the same objects share it.
pub(crate) struct ResourceStorage {
    /// The version that is stored.
    pub(crate) row: &'static ResourceInfo,
    /// `/registry/PREFIX/`.
    prefix: String,
    store: Arc<dyn Store>,
    pub(crate) cache: Arc<Cache>,
    ask_progress: feeder::AskProgress,
    shutdown: CancellationToken,
}

impl ResourceStorage {
    fn new(
        row: &'static ResourceInfo,
        store: Arc<dyn Store>,
        ring: (usize, usize),
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            row,
            prefix: format!("/registry/{}/", row.storage_prefix),
            store,
            cache: Arc::new(Cache::new(ring.0, ring.1)),
            ask_progress: feeder::AskProgress::default(),
            shutdown,
        }
    }

    /// Starts the one store watch of the resource, once.
    pub(crate) fn start_cache(&self) {
        if self.cache.claim_start() {
            let feeder = feeder::Feeder {
                prefix: self.prefix.clone(),
                store: self.store.clone(),
                cache: self.cache.clone(),
                ask_progress: self.ask_progress.clone(),
            };
            tokio::spawn(feeder.run(self.shutdown.clone()));
        }
    }

    fn store_key(&self, key: &str) -> Bytes {
        Bytes::from(format!("{}{key}", self.prefix))
    }

    fn stored(&self, kv: &KeyValue) -> Arc<Stored> {
        Arc::new(stored_from(&self.prefix, kv))
    }

    fn range_request(key: Bytes, end: Option<Bytes>) -> RangeRequest {
        RangeRequest { range: KeyRange { key, end }, revision: 0, limit: 0, keys_only: false, count_only: false }
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        self.store.range(request).await.map_err(|e| errors::from_store(&e))
    }

    /// The newest version, read from the store.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Arc<Stored>>, Status> {
        let response = self.range(Self::range_request(self.store_key(key), None)).await?;
        Ok(response.kvs.first().map(|kv| self.stored(kv)))
    }

    /// The newest version as far as the cache knows it, else from the store.
    pub(crate) async fn get_cached(&self, key: &str) -> Result<Option<Arc<Stored>>, Status> {
        match self.cache.get(key) {
            Some(found) => Ok(Some(found)),
            None => self.get(key).await,
        }
    }

    /// Revision of the store now.
    pub(crate) async fn current_revision(&self) -> Result<i64, Status> {
        let mut request = Self::range_request(Bytes::from_static(b"/registry/-"), None);
        request.count_only = true;
        Ok(self.range(request).await?.revision)
    }

    /// Waits until the cache has seen `revision`.
    pub(crate) async fn wait_fresh(&self, revision: i64) -> Result<(), Status> {
        self.start_cache();
        let mut seen = self.cache.subscribe();
        // A cache that has not listed yet is at 0; nobody may read it.
        let wanted = revision.max(1);
        let waited = tokio::time::timeout(FRESH_WITHIN, async {
            while *seen.borrow_and_update() < wanted {
                self.ask_progress.ask();
                let _ = tokio::time::timeout(ASK_EVERY, seen.changed()).await;
            }
        });
        match waited.await {
            Ok(()) => Ok(()),
            Err(_) if *seen.borrow() == 0 => Err(Status::service_unavailable("storage is (re)initializing")),
            Err(_) => Err(errors::too_large_resource_version(revision, *seen.borrow())),
        }
    }

    /// Waits until the cache has seen everything that was written until now.
    pub(crate) async fn wait_current(&self) -> Result<(), Status> {
        let revision = self.current_revision().await?;
        self.wait_fresh(revision).await
    }

    /// After a write: lets readers of the cache (admission, authorization) see it before the client
    /// hears of it. A cache that is behind for long does not hold up the answer.
    async fn settle(&self, revision: i64) {
        if !self.cache.is_started() {
            return;
        }
        let mut seen = self.cache.subscribe();
        let _ = tokio::time::timeout(Duration::from_millis(500), async {
            while *seen.borrow_and_update() < revision {
                if seen.changed().await.is_err() {
                    return;
                }
            }
        })
        .await;
    }

    /// A page as of `revision` (0: now), straight from the store.
    pub(crate) async fn list_store(
        &self,
        prefix: &str,
        start: &str,
        limit: usize,
        revision: i64,
    ) -> Result<StorePage, Status> {
        let full = format!("{}{prefix}", self.prefix);
        let from = if start > prefix { self.store_key(start) } else { Bytes::from(full.clone()) };
        let request = RangeRequest { revision, limit, ..Self::range_request(from, Some(prefix_end(&full))) };
        let response = self.range(request).await?;
        Ok(StorePage {
            objects: response.kvs.iter().map(|kv| self.stored(kv)).collect(),
            revision: if revision > 0 { revision } else { response.revision },
            more: response.more,
            count: response.count,
        })
    }

    /// Stores a new object; `Conflict` when the name is taken.
    pub(crate) async fn create(&self, key: &str, object: &Value, lease: i64) -> Result<Written, Status> {
        self.put(key, 0, object, lease).await
    }

    /// Replaces the version at `revision`.
    pub(crate) async fn update(&self, old: &Stored, object: &Value) -> Result<Written, Status> {
        self.put(&old.key, old.revision, object, old.lease).await
    }

    async fn put(&self, key: &str, expected: i64, object: &Value, lease: i64) -> Result<Written, Status> {
        let value = encoding::encode(object);
        let store_key = self.store_key(key);
        let response =
            self.txn(store_key.clone(), expected, Op::Put { key: store_key, value: value.clone(), lease }).await?;
        match response {
            Ok(revision) => {
                self.settle(revision).await;
                Ok(Written::Done(Arc::new(Stored::from_store(Arc::from(key), revision, lease, &value))))
            }
            Err(current) => Ok(Written::Conflict(current)),
        }
    }

    /// Deletes the version at `revision`; `Done` tells the last state at the deletion's revision.
    pub(crate) async fn delete(&self, old: &Stored) -> Result<Written, Status> {
        let key = self.store_key(&old.key);
        let op = Op::Delete { range: KeyRange { key: key.clone(), end: None } };
        match self.txn(key, old.revision, op).await? {
            Ok(revision) => {
                self.settle(revision).await;
                let value = old.value();
                let last = encoding::encode(&value);
                Ok(Written::Done(Arc::new(Stored::from_store(old.key.clone(), revision, old.lease, &last))))
            }
            Err(current) => Ok(Written::Conflict(current)),
        }
    }

    /// `Ok(revision)` when the key was at `expected`, else what is there.
    async fn txn(&self, key: Bytes, expected: i64, op: Op) -> Result<Result<i64, Option<Arc<Stored>>>, Status> {
        let request = TxnRequest {
            compare: vec![Compare::ModRevision(key.clone(), expected)],
            success: vec![op],
            failure: vec![Op::Range(Self::range_request(key, None))],
        };
        let response = self.store.txn(request).await.map_err(|e| errors::from_store(&e))?;
        if response.succeeded {
            return Ok(Ok(response.revision));
        }
        let current = match response.responses.into_iter().next() {
            Some(OpResponse::Range(range)) => range.kvs.first().map(|kv| self.stored(kv)),
            _ => None,
        };
        Ok(Err(current))
    }
}

fn stored_from(prefix: &str, kv: &KeyValue) -> Stored {
    Stored::from_store(relative_key(prefix, &kv.key), kv.mod_revision, kv.lease, &kv.value)
}

fn relative_key(prefix: &str, key: &[u8]) -> Arc<str> {
    Arc::from(String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()))
}
