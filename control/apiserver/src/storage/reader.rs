//! [`ObjectReader`] over the watch caches: what authentication, authorization, admission and
//! bootstrap read and write.

use async_trait::async_trait;
use orlop_api::status::Status;
use serde_json::Value;

use super::{ResourceStorage, Storages, Written, key_prefix, object_key};
use crate::authn::Clock;
use crate::reader::{Object, ObjectReader};
use crate::{errors, meta, scheme, strategy};
use std::sync::Arc;

/// Attempts of an update that names no version.
const TRIES: usize = 10;

pub(crate) struct CacheReader {
    storages: Arc<Storages>,
    clock: Clock,
}

impl CacheReader {
    pub(crate) fn new(storages: Arc<Storages>, clock: Clock) -> Self {
        Self { storages, clock }
    }

    fn writable(&self, group: &str, resource: &str) -> Result<&Arc<ResourceStorage>, Status> {
        self.storages.find(group, resource).ok_or_else(Status::path_not_found)
    }

    fn namespace<'a>(storage: &ResourceStorage, namespace: Option<&'a str>) -> Option<&'a str> {
        if storage.row.namespaced { namespace } else { None }
    }
}

#[async_trait]
impl ObjectReader for CacheReader {
    fn get(&self, group: &str, resource: &str, namespace: Option<&str>, name: &str) -> Option<Object> {
        let storage = self.storages.find(group, resource)?;
        let key = object_key(Self::namespace(storage, namespace), name);
        storage.cache.get(&key).map(|stored| stored.value())
    }

    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Object> {
        let Some(storage) = self.storages.find(group, resource) else { return Vec::new() };
        let prefix = key_prefix(Self::namespace(storage, namespace));
        storage.cache.list(&prefix, "", 0).objects.iter().map(|stored| stored.value()).collect()
    }

    fn revision(&self, group: &str, resource: &str) -> u64 {
        self.storages.find(group, resource).map_or(0, |s| s.cache.changes())
    }

    async fn create(&self, group: &str, resource: &str, mut object: Value) -> Result<Object, Status> {
        let storage = self.writable(group, resource)?;
        fill_kind(storage, &mut object);
        scheme::default(storage.row, &mut object);
        let status = object.get("status").cloned();
        strategy::prepare_create(storage.row, &mut object, (self.clock)());
        // Whoever writes here writes whole objects.
        if let (Some(status), Some(map)) = (status, object.as_object_mut()) {
            map.insert("status".into(), status);
        }
        let key = object_key(Self::namespace(storage, Some(meta::namespace(&object))), meta::name(&object));
        match storage.create(&key, &object, 0).await? {
            Written::Done(stored) => Ok(stored.value()),
            Written::Conflict(_) => Err(Status::already_exists(storage.row, meta::name(&object))),
        }
    }

    async fn update(&self, group: &str, resource: &str, object: Value) -> Result<Object, Status> {
        let storage = self.writable(group, resource)?;
        let name = meta::name(&object).to_owned();
        let key = object_key(Self::namespace(storage, Some(meta::namespace(&object))), &name);
        let wanted = meta::resource_version(&object);
        for _ in 0..TRIES {
            let Some(old) = storage.get(&key).await? else {
                return Err(Status::not_found(storage.row, &name));
            };
            if wanted != 0 && wanted != old.revision {
                return Err(Status::conflict(storage.row, &name));
            }
            let old_value = old.value();
            let mut new = object.clone();
            fill_kind(storage, &mut new);
            scheme::default(storage.row, &mut new);
            for field in ["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
                meta::carry(&mut new, &old_value, field);
            }
            strategy::bump_generation(storage.row, "", &mut new, &old_value);
            if let Written::Done(stored) = storage.update(&old, &new).await? {
                return Ok(stored.value());
            }
            if wanted != 0 {
                break;
            }
        }
        Err(Status::conflict(storage.row, &name))
    }

    async fn delete(&self, group: &str, resource: &str, namespace: Option<&str>, name: &str) -> Result<(), Status> {
        let storage = self.writable(group, resource)?;
        let key = object_key(Self::namespace(storage, namespace), name);
        for _ in 0..TRIES {
            let Some(old) = storage.get(&key).await? else {
                return Err(Status::not_found(storage.row, name));
            };
            if let Written::Done(_) = storage.delete(&old).await? {
                return Ok(());
            }
        }
        Err(errors::contended(storage.row, name))
    }
}

fn fill_kind(storage: &ResourceStorage, object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), storage.row.api_version().into());
        map.insert("kind".into(), storage.row.kind.into());
    }
}
