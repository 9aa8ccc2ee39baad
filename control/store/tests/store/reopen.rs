//! What a file is after it was closed, and which files are refused.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use orlop_store::{Embedded, Options, Store, StoreError};
use redb::{Database, TableDefinition};

use crate::support::{delete, key, list, next, prefix, put, put_op, read, take, watch, write};

fn open(path: &Path) -> Result<Embedded, StoreError> {
    Embedded::open(path, Options::default())
}

fn refusal(path: &Path) -> StoreError {
    match open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn everything_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = open(&path).unwrap();
    let first = put(&store, "a", "1").await;
    put(&store, "a", "2").await;
    put(&store, "b", "1").await;
    let newest = delete(&store, "b").await;
    let lease = store.lease_grant(600).await.unwrap();
    store.close().await;
    assert!(matches!(store.range(read(key("a"), 0)).await, Err(StoreError::Closed)));
    assert!(matches!(write(&store, vec![put_op("a", "3", 0)]).await, Err(StoreError::Closed)));

    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let store = open(&path).unwrap();
    assert_eq!(store.status().await.unwrap().revision, newest);
    assert_eq!(list(&store, prefix(""), 0).await, ["a=2"]);
    assert_eq!(list(&store, prefix(""), first).await, ["a=1"]);
    assert_eq!(store.lease_keep_alive(lease).await.unwrap(), 600);
    assert_ne!(store.lease_grant(600).await.unwrap(), lease);
    let mut all = watch(&store, prefix(""), first).await;
    assert_eq!(take(&mut all, 4).await.len(), 4);
    store.close().await;
    assert!(next(&mut all).await.is_none(), "closing ends watches");
}

#[tokio::test]
async fn compaction_frees_the_file_and_goes_on_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = open(&path).unwrap();
    let value = "x".repeat(10_000);
    for n in 0..300 {
        put(&store, &format!("k{}", n % 3), &value).await;
        if n % 3 == 0 {
            put(&store, &format!("gone{n}"), "1").await;
            delete(&store, &format!("gone{n}")).await;
        }
    }
    let before = store.status().await.unwrap();
    store.compact(before.revision).await.unwrap();
    store.close().await;
    let store = open(&path).unwrap();
    // The rest of the compaction runs before the next write is answered twice.
    put(&store, "k0", "small").await;
    put(&store, "k0", "small").await;
    let after = store.status().await.unwrap();
    assert_eq!(after.keys, 3);
    assert!(after.size_in_use_bytes < before.size_in_use_bytes / 10, "{before:?} {after:?}");
    store.close().await;
}

#[tokio::test]
async fn a_second_process_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = open(&path).unwrap();
    let error = refusal(&path);
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("store.redb"));
    store.close().await;
    open(&path).unwrap().close().await;
}

#[tokio::test]
async fn a_newer_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    open(&path).unwrap().close().await;
    let database = Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    let header: TableDefinition<'_, &str, i64> = TableDefinition::new("header");
    txn.open_table(header).unwrap().insert("format", 99).unwrap();
    txn.commit().unwrap();
    drop(database);
    let error = refusal(&path);
    assert!(matches!(error, StoreError::NewerFormat { found: 99, supported: 1, .. }), "{error}");
}

#[tokio::test]
async fn damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = open(&path).unwrap();
    for n in 0..200 {
        put(&store, &format!("k{n}"), &"v".repeat(500)).await;
    }
    store.close().await;
    let whole = std::fs::read(&path).unwrap();
    let damaged = dir.path().join("damaged.redb");
    for (what, bytes) in [
        ("no redb file", b"kind: Pod\n".repeat(1000)),
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("only a header", whole[..600].to_vec()),
        ("another database", {
            let mut b = whole.clone();
            b[64..320].fill(0xff);
            b
        }),
    ] {
        std::fs::write(&damaged, bytes).unwrap();
        let error = refusal(&damaged);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("damaged.redb"), "{what}: {error}");
    }
    // Pages changed under a header that fits: an error or an answer, never a panic or a dead writer.
    let mut bytes = whole;
    let middle = bytes.len() / 8;
    bytes[middle..middle * 6].fill(0xa5);
    std::fs::write(&damaged, bytes).unwrap();
    if let Ok(store) = open(&damaged) {
        let _ = store.range(read(prefix(""), 0)).await;
        let _ = write(&store, vec![put_op("k5", "v", 0)]).await;
        store.close().await;
    }
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let error = refusal(Path::new("/nonexistent/store.redb"));
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(error.to_string().contains("/nonexistent/store.redb"), "{error}");
}
