//! When leases end. The table of leases is in the file; their deadlines are here.
//!
//! A restart gives every lease its whole time again, as etcd's does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::StoreError;

/// How soon an expired lease is tried again that could not be revoked (full disk).
const RETRY: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
struct Lease {
    ttl_s: i64,
    deadline: Instant,
}

#[derive(Default)]
pub(super) struct Leases {
    leases: Mutex<HashMap<i64, Lease>>,
    changed: Notify,
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, id: i64, ttl_s: i64) {
        self.lock().insert(id, Lease { ttl_s, deadline: Instant::now() + seconds(ttl_s) });
        self.changed.notify_one();
    }

    pub(super) fn remove(&self, id: i64) {
        self.lock().remove(&id);
    }

    /// The lease's whole time in seconds, from now.
    pub(super) fn keep_alive(&self, id: i64) -> Result<i64, StoreError> {
        let now = Instant::now();
        let mut leases = self.lock();
        let lease = leases.get_mut(&id).filter(|lease| lease.deadline > now);
        let lease = lease.ok_or(StoreError::LeaseNotFound(id))?;
        lease.deadline = now + seconds(lease.ttl_s);
        Ok(lease.ttl_s)
    }

    /// Waits until a lease ends; it will not be given again before a while.
    pub(super) async fn expired(&self) -> i64 {
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut leases = self.lock();
                let next = leases.iter_mut().min_by_key(|(_, lease)| lease.deadline);
                match next {
                    Some((id, lease)) if lease.deadline <= Instant::now() => {
                        lease.deadline = Instant::now() + RETRY;
                        return *id;
                    }
                    Some((_, lease)) => Some(lease.deadline),
                    None => None,
                }
            };
            match next {
                Some(deadline) => tokio::select! {
                    () = tokio::time::sleep_until(deadline) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }
}

fn seconds(ttl_s: i64) -> Duration {
    // A century is for ever; Instant would overflow far beyond.
    Duration::from_secs(u64::try_from(ttl_s).unwrap_or(0).min(100 * 365 * 86_400))
}
