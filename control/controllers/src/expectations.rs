//! Keeps a controller from acting twice on a cache that has not seen its last writes.
//!
//! Upstream counts the creations and deletions it still has to see; here the writes themselves are
//! remembered: the resource version of the last one, and what was deleted. A list that began after
//! the write, or five minutes (upstream's limit), settle them as well.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::error::{ControllerError, Result};
use crate::informer::{Informer, Key, revision_of};

const EXPIRY: Duration = Duration::from_secs(300);
/// How long a worker waits for the cache before it gives the key back.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Pending {
    revision: u64,
    /// Objects and uids that were deleted.
    deleted: Vec<(Key, String)>,
    /// Lists that were begun when the write was made.
    lists: u64,
    expiry: Instant,
}

#[derive(Default)]
pub(crate) struct Expectations {
    pending: Mutex<HashMap<Key, Pending>>,
}

impl Expectations {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update<K>(&self, owner: &Key, informer: &Informer<K>, change: impl FnOnce(&mut Pending))
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Default,
    {
        let mut pending = self.lock();
        let entry = pending.entry(owner.clone()).or_insert_with(|| Pending {
            revision: 0,
            deleted: Vec::new(),
            lists: 0,
            expiry: Instant::now(),
        });
        entry.lists = informer.progress().lists;
        entry.expiry = Instant::now() + EXPIRY;
        change(entry);
    }

    /// `object` was written on behalf of `owner`.
    pub(crate) fn wrote<K>(&self, owner: &Key, informer: &Informer<K>, object: &K)
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Default,
    {
        let revision = revision_of(object);
        self.update(owner, informer, |pending| pending.revision = pending.revision.max(revision));
    }

    /// `object` was deleted (or its deletion began) on behalf of `owner`.
    pub(crate) fn deleted<K>(&self, owner: &Key, informer: &Informer<K>, object: &K)
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Default,
    {
        let gone = (Key::of(object), object.uid().unwrap_or_default());
        self.update(owner, informer, |pending| pending.deleted.push(gone));
    }

    pub(crate) fn forget(&self, owner: &Key) {
        self.lock().remove(owner);
    }

    /// Returns once the cache shows everything written for `owner`.
    pub(crate) async fn settled<K>(&self, owner: &Key, informer: &Informer<K>) -> Result<()>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Default,
    {
        let Some(pending) = self.lock().get(owner).cloned() else {
            return Ok(());
        };
        let seen = |progress: crate::informer::Progress| {
            progress.listed > pending.lists
                || (progress.revision >= pending.revision
                    && pending.deleted.iter().all(|(key, uid)| {
                        informer.get(key).is_none_or(|object| {
                            object.uid().as_ref() != Some(uid) || object.meta().deletion_timestamp.is_some()
                        })
                    }))
        };
        if Instant::now() >= pending.expiry || informer.wait_for(PATIENCE, seen).await {
            self.forget(owner);
            return Ok(());
        }
        Err(ControllerError::Behind)
    }
}
