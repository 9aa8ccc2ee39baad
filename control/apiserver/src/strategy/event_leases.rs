//! Events live for an hour. Events of one minute share a lease, so that leases stay few.

use std::sync::Arc;
use std::time::Duration;

use orlop_api::registry::ResourceInfo;
use orlop_api::status::Status;
use orlop_store::Store;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::errors;

/// Upstream's `lease_manager.go`.
const REUSE_FOR: Duration = Duration::from_mins(1);
const MAX_OBJECTS: u32 = 1000;

struct Current {
    lease: i64,
    granted: Instant,
    objects: u32,
}

pub(crate) struct EventLeases {
    ttl: Duration,
    current: Mutex<Option<Current>>,
}

impl EventLeases {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, current: Mutex::new(None) }
    }

    /// The lease for a new object, 0 for all but events.
    pub(crate) async fn for_new(&self, row: &ResourceInfo, store: &Arc<dyn Store>) -> Result<i64, Status> {
        if row.plural != "events" || self.ttl.is_zero() {
            return Ok(0);
        }
        let mut current = self.current.lock().await;
        if let Some(known) = current.as_mut()
            && known.objects < MAX_OBJECTS
            && known.granted.elapsed() < REUSE_FOR
        {
            known.objects += 1;
            return Ok(known.lease);
        }
        // The last object to join lives its whole hour too.
        let ttl_s = i64::try_from((self.ttl + REUSE_FOR).as_secs()).unwrap_or(i64::MAX);
        let lease = store.lease_grant(ttl_s).await.map_err(|e| errors::from_store(&e))?;
        *current = Some(Current { lease, granted: Instant::now(), objects: 1 });
        Ok(lease)
    }
}
