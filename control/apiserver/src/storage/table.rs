//! All resources' storage, by group and plural.

use std::collections::HashMap;
use std::sync::Arc;

use orlop_api::registry::{ResourceInfo, storage_version};
use orlop_store::Store;
use tokio_util::sync::CancellationToken;

use super::ResourceStorage;
use crate::config::{Limits, StartError};

/// Resources whose cache is only started when somebody first lists or watches them: they can be
/// many, and nothing inside the server reads them.
const LAZY: &[&str] = &["events"];

pub(crate) struct Storages {
    by_prefix: HashMap<&'static str, Arc<ResourceStorage>>,
    /// (group, plural) to prefix.
    prefixes: HashMap<(&'static str, &'static str), &'static str>,
}

impl Storages {
    pub(crate) fn new(
        rows: impl Iterator<Item = &'static ResourceInfo>,
        store: &Arc<dyn Store>,
        limits: &Limits,
        shutdown: &CancellationToken,
    ) -> Self {
        let mut chosen: HashMap<&'static str, &'static ResourceInfo> = HashMap::new();
        let mut prefixes = HashMap::new();
        for row in rows.filter(|row| row.is_stored()) {
            prefixes.insert((row.group, row.plural), row.storage_prefix);
            chosen.entry(row.storage_prefix).or_insert_with(|| storage_version(row));
        }
        let ring = (limits.watch_ring_events, limits.watch_ring_bytes);
        let by_prefix = chosen
            .into_iter()
            .map(|(prefix, row)| (prefix, Arc::new(ResourceStorage::new(row, store.clone(), ring, shutdown.clone()))))
            .collect();
        Self { by_prefix, prefixes }
    }

    pub(crate) fn of(&self, row: &ResourceInfo) -> Option<&Arc<ResourceStorage>> {
        self.by_prefix.get(row.storage_prefix)
    }

    pub(crate) fn find(&self, group: &str, plural: &str) -> Option<&Arc<ResourceStorage>> {
        let prefix = self.prefixes.get(&(group, plural))?;
        self.by_prefix.get(prefix)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<ResourceStorage>> {
        self.by_prefix.values()
    }

    /// Fills the caches; returns once all that start early are filled.
    pub(crate) async fn start(&self, shutdown: &CancellationToken) -> Result<(), StartError> {
        let eager: Vec<_> = self.iter().filter(|s| !LAZY.contains(&s.row.plural)).collect();
        for storage in &eager {
            storage.start_cache();
        }
        for storage in eager {
            let mut seen = storage.cache.subscribe();
            while *seen.borrow_and_update() == 0 {
                tokio::select! {
                    () = shutdown.cancelled() => return Err(StartError::ShutDown),
                    changed = seen.changed() => if changed.is_err() { return Err(StartError::ShutDown) },
                }
            }
        }
        Ok(())
    }
}
