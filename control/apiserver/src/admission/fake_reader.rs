//! A stateful fake of the caches: objects in memory, revisions that move with every write.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use orlop_api::status::Status;
use serde_json::Value;

use super::fields::{name, namespace, str_at};
use crate::reader::{Object, ObjectReader};

type Key = (String, String, String, String);

#[derive(Default)]
pub(crate) struct FakeReader {
    objects: Mutex<BTreeMap<Key, Object>>,
    revisions: Mutex<BTreeMap<(String, String), u64>>,
    counter: AtomicU64,
    pub(crate) writes: AtomicU64,
}

impl FakeReader {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn put(&self, group: &str, resource: &str, mut object: Value) {
        let key = (group.to_owned(), resource.to_owned(), namespace(&object).to_owned(), name(&object).to_owned());
        let revision = self.counter.fetch_add(1, Ordering::SeqCst) + 1;
        if str_at(&object, "/metadata/uid").is_empty() {
            object["metadata"]["uid"] = format!("uid-{revision}").into();
        }
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        self.objects.lock().unwrap().insert(key, Arc::new(object));
        self.touch(group, resource);
    }

    pub(crate) fn remove(&self, group: &str, resource: &str, ns: &str, object: &str) -> bool {
        let key = (group.to_owned(), resource.to_owned(), ns.to_owned(), object.to_owned());
        let removed = self.objects.lock().unwrap().remove(&key).is_some();
        self.touch(group, resource);
        removed
    }

    fn touch(&self, group: &str, resource: &str) {
        let revision = self.counter.fetch_add(1, Ordering::SeqCst) + 1;
        self.revisions.lock().unwrap().insert((group.to_owned(), resource.to_owned()), revision);
    }
}

#[async_trait::async_trait]
impl ObjectReader for FakeReader {
    fn get(&self, group: &str, resource: &str, ns: Option<&str>, object: &str) -> Option<Object> {
        let key = (group.to_owned(), resource.to_owned(), ns.unwrap_or_default().to_owned(), object.to_owned());
        self.objects.lock().unwrap().get(&key).cloned()
    }

    fn list(&self, group: &str, resource: &str, ns: Option<&str>) -> Vec<Object> {
        let objects = self.objects.lock().unwrap();
        let wanted = |k: &&Key| k.0 == group && k.1 == resource && ns.is_none_or(|n| k.2 == n);
        objects.keys().filter(wanted).map(|k| objects[k].clone()).collect()
    }

    fn revision(&self, group: &str, resource: &str) -> u64 {
        let key = (group.to_owned(), resource.to_owned());
        self.revisions.lock().unwrap().get(&key).copied().unwrap_or_default()
    }

    async fn create(&self, group: &str, resource: &str, object: Value) -> Result<Object, Status> {
        // Others run between the caller's look and its write.
        tokio::task::yield_now().await;
        let ns = namespace(&object).to_owned();
        let object_name = name(&object).to_owned();
        let key = (group.to_owned(), resource.to_owned(), ns.clone(), object_name.clone());
        {
            let mut objects = self.objects.lock().unwrap();
            if objects.contains_key(&key) {
                return Err(Status::already_exists((group, resource), &object_name));
            }
            objects.insert(key, Arc::new(object.clone()));
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.put(group, resource, object);
        Ok(self.get(group, resource, Some(&ns), &object_name).unwrap())
    }

    async fn update(&self, group: &str, resource: &str, object: Value) -> Result<Object, Status> {
        let ns = namespace(&object).to_owned();
        let object_name = name(&object).to_owned();
        let Some(live) = self.get(group, resource, Some(&ns), &object_name) else {
            return Err(Status::not_found((group, resource), &object_name));
        };
        let asked = str_at(&object, "/metadata/resourceVersion");
        if !asked.is_empty() && asked != str_at(&live, "/metadata/resourceVersion") {
            return Err(Status::conflict((group, resource), &object_name));
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.put(group, resource, object);
        Ok(self.get(group, resource, Some(&ns), &object_name).unwrap())
    }

    async fn delete(&self, group: &str, resource: &str, ns: Option<&str>, object: &str) -> Result<(), Status> {
        if self.remove(group, resource, ns.unwrap_or_default(), object) {
            self.writes.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        Err(Status::not_found((group, resource), object))
    }
}
