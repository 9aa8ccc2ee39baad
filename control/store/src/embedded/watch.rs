//! Starts watches: from now on and from recent revisions by the hub alone, from older ones by
//! reading the log in parts until the ring of the hub holds the rest.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::warn;

use super::Shared;
use super::format::LOG;
use super::hub::{Join, Watcher};
use super::read::{self, Replay};
use crate::{StoreError, Watch, WatchMessage, WatchRequest};

/// Log rows and bytes of events read per part.
const PART: (usize, usize) = (2000, 1 << 20);

/// Must run in a tokio runtime: an old start revision makes a task.
pub(super) fn start(shared: &Arc<Shared>, request: WatchRequest) -> Watch {
    // One place beyond the queue for `Lagged`, one for a first message such as `Compacted`.
    let (sender, events) = mpsc::channel(shared.options.watch_queue + 2);
    let id = shared.next_watch.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let (revision, compact_revision) = shared.hub.revisions();
    let progress = {
        let hub = Arc::downgrade(&shared.hub);
        Arc::new(move || {
            if let Some(hub) = hub.upgrade() {
                hub.request_progress(id);
            }
        })
    };
    let watch = Watch { revision, events, progress };
    if request.start_revision > 0 && request.start_revision < compact_revision {
        // The queue is new: there is room.
        let _ = sender.try_send(WatchMessage::Compacted { compact_revision });
        return watch;
    }
    let watcher = Watcher {
        range: request.range,
        prev_kv: request.prev_kv,
        next: if request.start_revision > 0 { request.start_revision } else { revision + 1 },
        sender,
    };
    if let Join::Behind(watcher) = shared.hub.join(id, watcher) {
        tokio::spawn(catch_up(Arc::clone(shared), id, watcher));
    }
    watch
}

async fn catch_up(shared: Arc<Shared>, id: u64, mut watcher: Watcher) {
    loop {
        let part = {
            let shared = Arc::clone(&shared);
            let (range, prev_kv, from) = (watcher.range.clone(), watcher.prev_kv, watcher.next);
            tokio::task::spawn_blocking(move || read_part(&shared, &range, prev_kv, from)).await
        };
        let message = match part {
            Ok(Ok(part)) => {
                watcher.next = part.next;
                let message = WatchMessage::Events { revision: part.revision, events: part.events };
                Some(message).filter(|_| part.revision > 0)
            }
            Ok(Err(StoreError::Compacted { compact_revision, .. })) => {
                let message = WatchMessage::Compacted { compact_revision };
                // Where the watcher went away there is nobody to tell.
                let _ = watcher.sender.send(message).await;
                break;
            }
            Ok(Err(error)) => {
                warn!(%error, "a watch ended: its history could not be read");
                break;
            }
            Err(_) => break,
        };
        // Its own queue only: a slow watcher keeps nobody else waiting here.
        let delivered = async {
            if let Some(message) = message {
                watcher.sender.send(message).await.ok()?;
            }
            // Room for what the ring still holds, and for `Lagged`.
            watcher.sender.reserve_many(2).await.ok().map(drop)
        };
        let delivered = tokio::select! {
            done = delivered => done.is_some(),
            () = shared.closed.cancelled() => false,
        };
        if !delivered {
            break;
        }
        match shared.hub.join(id, watcher) {
            Join::Done => return,
            Join::Behind(back) => watcher = back,
        }
    }
    shared.hub.forget(id);
}

fn read_part(shared: &Shared, range: &crate::KeyRange, prev_kv: bool, from: i64) -> Result<Replay, StoreError> {
    shared.handle.read(|txn, state| {
        if from < state.compact_revision {
            return Ok(Err(StoreError::Compacted { revision: from, compact_revision: state.compact_revision }));
        }
        let log = txn.open_table(LOG)?;
        read::replay(&log, range, prev_kv, from, state.revision, PART).map(Ok)
    })
}
