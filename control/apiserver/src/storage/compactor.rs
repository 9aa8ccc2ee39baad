//! Forgetting old revisions. The store keeps every one until it is told not to; what lists in pages
//! and watches may go back to is what was written within one interval (upstream `--etcd-compaction-interval`).

use std::sync::Arc;
use std::time::Duration;

use orlop_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(store: Arc<dyn Store>, every: Duration, shutdown: CancellationToken) {
    if every.is_zero() {
        return;
    }
    let mut before = 0;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        match pass(store.as_ref(), before).await {
            Ok(now) => before = now,
            Err(StoreError::Closed) => return,
            Err(error) => tracing::warn!(%error, "cannot compact the store"),
        }
    }
}

/// Drops what was old already an interval ago; returns where the next pass compacts to.
async fn pass(store: &dyn Store, before: i64) -> Result<i64, StoreError> {
    let status = store.status().await?;
    if before > status.compact_revision {
        store.compact(before).await?;
        tracing::debug!(revision = before, "store compacted");
    }
    Ok(status.revision)
}

#[cfg(test)]
mod tests {
    use orlop_store::{Embedded, Op, TxnRequest};

    use super::*;

    #[tokio::test]
    async fn history_of_one_interval_stays() {
        let store = Embedded::in_memory().unwrap();
        let write = || async {
            let put = Op::Put { key: "/registry/a".into(), value: "1".into(), lease: 0 };
            store.txn(TxnRequest { success: vec![put], ..TxnRequest::default() }).await.unwrap().revision
        };
        write().await;
        let first = pass(&store, 0).await.unwrap();
        write().await;
        let second = pass(&store, first).await.unwrap();
        assert_eq!(store.status().await.unwrap().compact_revision, first);
        assert!(second > first);
    }
}
