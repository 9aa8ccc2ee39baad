//! Short ways to say reads and writes in tests.

use std::time::Duration;

use bytes::Bytes;
use orlop_store::{
    Compare, KeyRange, Op, RangeRequest, RangeResponse, Store, StoreError, TxnRequest, TxnResponse, Watch, WatchEvent,
    WatchMessage, WatchRequest,
};

/// Long enough that only a hang runs into it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn put_op(key: &str, value: &str, lease: i64) -> Op {
    Op::Put { key: Bytes::from(key.to_owned()), value: Bytes::from(value.to_owned()), lease }
}

pub(crate) fn delete_op(range: KeyRange) -> Op {
    Op::Delete { range }
}

pub(crate) fn key(key: &str) -> KeyRange {
    KeyRange::one(key.to_owned())
}

pub(crate) fn prefix(prefix: &str) -> KeyRange {
    KeyRange::prefix(prefix.to_owned())
}

pub(crate) fn read(range: KeyRange, revision: i64) -> RangeRequest {
    RangeRequest { range, revision, limit: 0, keys_only: false, count_only: false }
}

pub(crate) async fn write(store: &dyn Store, ops: Vec<Op>) -> Result<TxnResponse, StoreError> {
    store.txn(TxnRequest { compare: vec![], success: ops, failure: vec![] }).await
}

pub(crate) async fn put(store: &dyn Store, key: &str, value: &str) -> i64 {
    write(store, vec![put_op(key, value, 0)]).await.expect("put").revision
}

pub(crate) async fn delete(store: &dyn Store, name: &str) -> i64 {
    write(store, vec![delete_op(key(name))]).await.expect("delete").revision
}

pub(crate) async fn put_if(store: &dyn Store, name: &str, value: &str, mod_revision: i64) -> TxnResponse {
    store
        .txn(TxnRequest {
            compare: vec![Compare::ModRevision(Bytes::from(name.to_owned()), mod_revision)],
            success: vec![put_op(name, value, 0)],
            failure: vec![Op::Range(read(key(name), 0))],
        })
        .await
        .expect("txn")
}

/// `key=value` of each key in the answer.
pub(crate) fn pairs(answer: &RangeResponse) -> Vec<String> {
    answer
        .kvs
        .iter()
        .map(|kv| format!("{}={}", String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value)))
        .collect()
}

pub(crate) async fn list(store: &dyn Store, range: KeyRange, revision: i64) -> Vec<String> {
    pairs(&store.range(read(range, revision)).await.expect("range"))
}

pub(crate) async fn watch(store: &dyn Store, range: KeyRange, start_revision: i64) -> Watch {
    store.watch(WatchRequest { range, start_revision, prev_kv: true }).await.expect("watch")
}

pub(crate) async fn next(watch: &mut Watch) -> Option<WatchMessage> {
    tokio::time::timeout(PATIENCE, watch.events.recv()).await.expect("a watch message in time")
}

/// `revision+key=value` or `revision-key` per event, `(was V)` where the event says what was before.
pub(crate) fn tell(event: &WatchEvent) -> String {
    let (text, prev) = match event {
        WatchEvent::Put { kv, prev } => (
            format!("{}+{}={}", kv.mod_revision, String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value)),
            prev,
        ),
        WatchEvent::Delete { kv, prev } => (format!("{}-{}", kv.mod_revision, String::from_utf8_lossy(&kv.key)), prev),
    };
    match prev {
        Some(prev) => format!("{text} (was {})", String::from_utf8_lossy(&prev.value)),
        None => text,
    }
}

/// The next `count` events, over as many messages as they come in.
pub(crate) async fn take(watch: &mut Watch, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < count {
        match next(watch).await {
            Some(WatchMessage::Events { events, .. }) => told.extend(events.iter().map(tell)),
            Some(WatchMessage::Progress { .. }) => {}
            other => panic!("after {told:?} came {other:?}"),
        }
    }
    assert_eq!(told.len(), count, "{told:?}");
    told
}
