//! What every store does, embedded or etcd: etcd's data model as the API server relies on it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orlop_store::{
    Compare, Embedded, KeyRange, Op, OpResponse, Options, RangeRequest, Store, StoreError, TxnRequest, WatchMessage,
    WatchRequest,
};

use crate::support::{
    delete, delete_op, key, list, next, pairs, prefix, put, put_if, put_op, read, take, tell, watch, write,
};

/// Runs each contract on a store of its own.
macro_rules! on_every_store {
    ($($contract:ident),* $(,)?) => {
        mod embedded_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $contract() {
                super::$contract(std::sync::Arc::new(orlop_store::Embedded::in_memory().unwrap())).await;
            })*
        }
        mod embedded_file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $contract() {
                let dir = tempfile::tempdir().unwrap();
                let store = orlop_store::Embedded::open(dir.path().join("store.redb"), Default::default());
                super::$contract(std::sync::Arc::new(store.unwrap())).await;
            })*
        }
    };
}

on_every_store!(
    revisions_versions_and_previous_values,
    compare_decides_the_branch,
    ranges_limits_and_counts,
    reads_at_older_revisions,
    compaction_ends_history,
    one_transaction_is_one_revision,
    impossible_requests_leave_nothing,
    watch_from_now,
    watch_from_the_past_then_live,
    watch_progress,
    watch_sees_only_its_range,
    leases_end_with_their_keys,
    concurrent_writers_get_revisions_of_their_own,
);

type AnyStore = Arc<dyn Store>;

async fn revisions_versions_and_previous_values(store: AnyStore) {
    let first = put(&*store, "a", "1").await;
    let second = put(&*store, "a", "2").await;
    assert_eq!(second, first + 1);
    let kv = store.range(read(key("a"), 0)).await.unwrap().kvs.remove(0);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (first, second, 2));

    let answer = write(&*store, vec![delete_op(key("a"))]).await.unwrap();
    let OpResponse::Delete { deleted } = &answer.responses[0] else { panic!("{answer:?}") };
    assert_eq!(deleted, &vec![kv]);
    // Deleting nothing is no change.
    assert_eq!(delete(&*store, "a").await, answer.revision);

    let third = put(&*store, "a", "3").await;
    let kv = store.range(read(key("a"), 0)).await.unwrap().kvs.remove(0);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (third, third, 1));
}

async fn compare_decides_the_branch(store: AnyStore) {
    let created = put_if(&*store, "a", "1", 0).await;
    assert!(created.succeeded);
    let again = put_if(&*store, "a", "2", 0).await;
    assert!(!again.succeeded);
    assert_eq!(again.revision, created.revision, "a read takes no revision");
    let OpResponse::Range(found) = &again.responses[0] else { panic!("{again:?}") };
    assert_eq!(pairs(found), ["a=1"]);
    assert!(put_if(&*store, "a", "2", created.revision).await.succeeded);

    let name = || Bytes::from_static(b"a");
    for (compare, holds) in [
        (Compare::CreateRevision(name(), created.revision), true),
        (Compare::CreateRevision(name(), 0), false),
        (Compare::Version(name(), 2), true),
        (Compare::Version(name(), 1), false),
        (Compare::Value(name(), Bytes::from_static(b"2")), true),
        (Compare::Value(name(), Bytes::from_static(b"1")), false),
        (Compare::Value(Bytes::from_static(b"none"), Bytes::new()), false),
        (Compare::Version(Bytes::from_static(b"none"), 0), true),
    ] {
        let request = TxnRequest { compare: vec![compare.clone()], ..TxnRequest::default() };
        assert_eq!(store.txn(request).await.unwrap().succeeded, holds, "{compare:?}");
    }
}

async fn ranges_limits_and_counts(store: AnyStore) {
    for name in ["a/1", "a/2", "a/3", "b/1"] {
        put(&*store, name, "v").await;
    }
    let answer = store.range(RangeRequest { limit: 2, ..read(prefix("a/"), 0) }).await.unwrap();
    assert_eq!((pairs(&answer), answer.more, answer.count), (vec!["a/1=v".into(), "a/2=v".into()], true, 3));
    let answer = store.range(RangeRequest { limit: 3, ..read(prefix("a/"), 0) }).await.unwrap();
    assert_eq!((answer.kvs.len(), answer.more), (3, false));
    let answer = store.range(RangeRequest { count_only: true, ..read(prefix(""), 0) }).await.unwrap();
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 4, false));
    let answer = store.range(RangeRequest { keys_only: true, ..read(prefix("b"), 0) }).await.unwrap();
    assert_eq!(pairs(&answer), ["b/1="]);
    let all_from = KeyRange { key: Bytes::from_static(b"a/3"), end: Some(Bytes::new()) };
    assert_eq!(list(&*store, all_from, 0).await, ["a/3=v", "b/1=v"]);
    let backwards = KeyRange { key: Bytes::from_static(b"b"), end: Some(Bytes::from_static(b"a")) };
    assert_eq!(list(&*store, backwards, 0).await, Vec::<String>::new());
}

async fn reads_at_older_revisions(store: AnyStore) {
    let r1 = put(&*store, "a", "1").await;
    let r2 = put(&*store, "b", "1").await;
    let r3 = put(&*store, "a", "2").await;
    let r4 = delete(&*store, "b").await;
    let r5 = put(&*store, "b", "2").await;
    for (revision, expect) in [
        (r1, vec!["a=1"]),
        (r2, vec!["a=1", "b=1"]),
        (r3, vec!["a=2", "b=1"]),
        (r4, vec!["a=2"]),
        (r5, vec!["a=2", "b=2"]),
        (0, vec!["a=2", "b=2"]),
    ] {
        assert_eq!(list(&*store, prefix(""), revision).await, expect, "at {revision}");
    }
    let error = store.range(read(key("a"), r5 + 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::FutureRevision { .. }), "{error}");
}

async fn compaction_ends_history(store: AnyStore) {
    let r1 = put(&*store, "a", "1").await;
    put(&*store, "gone", "1").await;
    let r3 = put(&*store, "a", "2").await;
    delete(&*store, "gone").await;
    let r5 = put(&*store, "a", "3").await;
    store.compact(r5).await.unwrap();
    let error = store.range(read(key("a"), r3)).await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
    assert_eq!(list(&*store, prefix(""), r5).await, ["a=3"]);
    assert!(matches!(store.compact(r5).await.unwrap_err(), StoreError::Compacted { .. }));
    assert!(matches!(store.compact(r5 + 9).await.unwrap_err(), StoreError::FutureRevision { .. }));
    let mut old = watch(&*store, key("a"), r1).await;
    let message = next(&mut old).await;
    assert!(
        matches!(message, Some(WatchMessage::Compacted { compact_revision }) if compact_revision == r5),
        "{message:?}"
    );
    let r6 = put(&*store, "a", "4").await;
    let mut new = watch(&*store, key("a"), r6).await;
    assert_eq!(take(&mut new, 1).await, [format!("{r6}+a=4 (was 3)")]);
}

async fn one_transaction_is_one_revision(store: AnyStore) {
    put(&*store, "old/1", "x").await;
    let mut all = watch(&*store, prefix(""), 0).await;
    let answer = write(
        &*store,
        vec![
            put_op("new/1", "1", 0),
            delete_op(prefix("old/")),
            put_op("new/2", "2", 0),
            Op::Range(read(prefix(""), 0)),
        ],
    )
    .await
    .unwrap();
    let OpResponse::Range(seen) = &answer.responses[3] else { panic!("{answer:?}") };
    assert_eq!(pairs(seen), ["new/1=1", "new/2=2"], "a transaction reads its own writes");
    let Some(WatchMessage::Events { revision, events }) = next(&mut all).await else { panic!() };
    assert_eq!(revision, answer.revision);
    let r = answer.revision;
    let told: Vec<String> = events.iter().map(tell).collect();
    assert_eq!(told, [format!("{r}+new/1=1"), format!("{r}-old/1 (was x)"), format!("{r}+new/2=2")]);
}

async fn impossible_requests_leave_nothing(store: AnyStore) {
    let before = put(&*store, "a", "1").await;
    let twice = vec![put_op("b", "1", 0), put_op("b", "2", 0)];
    assert!(write(&*store, twice).await.is_err());
    let put_and_deleted = vec![put_op("b", "1", 0), delete_op(prefix("b"))];
    assert!(write(&*store, put_and_deleted).await.is_err());
    let error = write(&*store, vec![put_op("b", "1", 0), put_op("c", "1", 77)]).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseNotFound(77)), "{error}");
    let huge = "x".repeat(2 << 20);
    assert!(write(&*store, vec![put_op("b", &huge, 0)]).await.is_err());
    assert!(write(&*store, vec![put_op("", "no key", 0)]).await.is_err());
    assert_eq!(list(&*store, prefix(""), 0).await, ["a=1"]);
    assert_eq!(store.status().await.unwrap().revision, before);
}

async fn watch_from_now(store: AnyStore) {
    let before = put(&*store, "a", "1").await;
    let mut live = watch(&*store, prefix(""), 0).await;
    assert_eq!(live.revision, before);
    let r1 = put(&*store, "a", "2").await;
    let r2 = delete(&*store, "a").await;
    assert_eq!(take(&mut live, 2).await, [format!("{r1}+a=2 (was 1)"), format!("{r2}-a (was 2)")]);
    let request = WatchRequest { range: key("a"), start_revision: 0, prev_kv: false };
    let mut without = store.watch(request).await.unwrap();
    let r3 = put(&*store, "a", "3").await;
    put(&*store, "a", "4").await;
    assert_eq!(take(&mut without, 2).await, [format!("{r3}+a=3"), format!("{}+a=4", r3 + 1)]);
}

async fn watch_from_the_past_then_live(store: AnyStore) {
    let first = put(&*store, "k", "0").await;
    for n in 1..50 {
        put(&*store, "k", &n.to_string()).await;
    }
    let mut w = watch(&*store, key("k"), first).await;
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 50..100 {
                put(&*store, "k", &n.to_string()).await;
            }
        })
    };
    let told = take(&mut w, 100).await;
    writer.await.unwrap();
    for (n, line) in (0_i64..).zip(&told) {
        assert!(line.starts_with(&format!("{}+k={n}", first + n)), "{line}");
    }
    // A revision yet to come: nothing before it is told.
    let newest = first + 99;
    let mut future = watch(&*store, key("k"), newest + 2).await;
    put(&*store, "k", "early").await;
    put(&*store, "k", "on time").await;
    assert_eq!(take(&mut future, 1).await, [format!("{}+k=on time (was early)", newest + 2)]);
}

async fn watch_progress(store: AnyStore) {
    let mut quiet = watch(&*store, prefix("quiet/"), 0).await;
    let newest = put(&*store, "loud", "1").await;
    (quiet.progress)();
    let message = next(&mut quiet).await;
    assert!(matches!(message, Some(WatchMessage::Progress { revision }) if revision >= newest), "{message:?}");
}

async fn watch_sees_only_its_range(store: AnyStore) {
    let mut one = watch(&*store, key("p/a"), 0).await;
    let mut under = watch(&*store, prefix("p/"), 0).await;
    let middle = KeyRange { key: Bytes::from_static(b"p/b"), end: Some(Bytes::from_static(b"q/a")) };
    let mut middle = watch(&*store, middle, 0).await;
    for name in ["p", "p/a", "p/b", "p/ab", "q", "q/a", "p/a"] {
        put(&*store, name, "v").await;
    }
    let keys = |told: Vec<String>| -> Vec<String> {
        told.iter().map(|t| t[t.find('+').unwrap() + 1..t.find('=').unwrap()].to_owned()).collect()
    };
    assert_eq!(keys(take(&mut one, 2).await), ["p/a", "p/a"]);
    assert_eq!(keys(take(&mut under, 4).await), ["p/a", "p/b", "p/ab", "p/a"]);
    assert_eq!(keys(take(&mut middle, 2).await), ["p/b", "q"]);
}

async fn leases_end_with_their_keys(store: AnyStore) {
    let lease = store.lease_grant(3600).await.unwrap();
    write(&*store, vec![put_op("l/1", "v", lease), put_op("l/2", "v", lease)]).await.unwrap();
    put(&*store, "l/2", "kept").await; // A write without the lease takes the key from it.
    assert_eq!(store.lease_keep_alive(lease).await.unwrap(), 3600);
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(list(&*store, prefix("l/"), 0).await, ["l/2=kept"]);
    assert!(matches!(store.lease_keep_alive(lease).await.unwrap_err(), StoreError::LeaseNotFound(_)));
    assert!(matches!(store.lease_revoke(lease).await.unwrap_err(), StoreError::LeaseNotFound(_)));

    let short = store.lease_grant(1).await.unwrap();
    let mut w = watch(&*store, key("short"), 0).await;
    let put = write(&*store, vec![put_op("short", "v", short)]).await.unwrap().revision;
    let told = take(&mut w, 2).await;
    assert_eq!(told, [format!("{put}+short=v"), format!("{}-short (was v)", put + 1)]);
}

async fn concurrent_writers_get_revisions_of_their_own(store: AnyStore) {
    let mut all = watch(&*store, prefix("c/"), 0).await;
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                for n in 0..20 {
                    revisions.push(put(&*store, &format!("c/{writer}"), &n.to_string()).await);
                }
                revisions
            })
        })
        .collect();
    let mut revisions = Vec::new();
    for writer in writers {
        revisions.extend(writer.await.unwrap());
    }
    revisions.sort_unstable();
    let first = revisions[0];
    assert_eq!(revisions, (first..first + 320).collect::<Vec<_>>());
    let told = take(&mut all, 320).await;
    for (revision, line) in (first..).zip(&told) {
        assert!(line.starts_with(&format!("{revision}+")), "{line}");
    }
}

/// A watcher that does not read is cut, and the others never notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_watchers_are_cut() {
    let store = Embedded::in_memory_with(Options { watch_queue: 4, ..Options::default() }).unwrap();
    let mut slow = watch(&store, prefix(""), 0).await;
    let mut other = watch(&store, key("rare"), 0).await;
    for n in 0..50 {
        put(&store, "k", &n.to_string()).await;
    }
    put(&store, "rare", "1").await;
    assert_eq!(take(&mut other, 1).await.len(), 1);
    let mut last = None;
    while let Some(message) = next(&mut slow).await {
        last = Some(message);
    }
    assert!(matches!(last, Some(WatchMessage::Lagged)), "{last:?}");
}

/// With hardly any memory for events every watch from the past reads the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_from_the_file_meets_the_live_events() {
    let options = Options { ring_bytes: 600, ..Options::default() };
    let store: AnyStore = Arc::new(Embedded::in_memory_with(options).unwrap());
    watch_from_the_past_then_live(Arc::clone(&store)).await;
    let start = store.status().await.unwrap().revision + 1;
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 0..3000 {
                let name = format!("{}/{}", if n % 3 == 0 { "x" } else { "y" }, n % 7);
                put(&*store, &name, &n.to_string()).await;
            }
        })
    };
    let mut watches = Vec::new();
    for _ in 0..8 {
        watches.push(watch(&*store, prefix("x/"), start).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for w in &mut watches {
        let told = take(w, 1000).await;
        for (n, line) in (0_i64..).zip(&told) {
            assert!(line.starts_with(&format!("{}+x/", start + 3 * n)), "{line}");
        }
    }
    writer.await.unwrap();
}
