//! A bounded cache of single objects with a time to live; concurrent readers of one object share one request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ObjectError;

/// When a slot was last used, and the slot.
type Used<T> = (Instant, Slot<T>);
/// One object, or none yet; readers of it queue here.
type Slot<T> = Arc<tokio::sync::Mutex<Option<(Instant, Arc<T>)>>>;

/// Objects by namespace and name.
pub(super) struct ObjectCache<T> {
    ttl: Duration,
    max: usize,
    slots: Mutex<HashMap<(String, String), Used<T>>>,
}

impl<T> ObjectCache<T> {
    pub(super) fn new(ttl: Duration, max: usize) -> Self {
        Self { ttl, max, slots: Mutex::default() }
    }

    /// The cached object if it is fresh, else what `fetch` brings. Failures are not kept, but an object that was
    /// there once goes on serving when the API server does not answer (never when it says "not found").
    pub(super) async fn get<F>(&self, namespace: &str, name: &str, fetch: F) -> Result<Arc<T>, ObjectError>
    where
        F: AsyncFnOnce() -> Result<T, ObjectError>,
    {
        let slot = self.slot(namespace, name);
        let mut held = slot.lock().await;
        if let Some((at, object)) = held.as_ref()
            && at.elapsed() < self.ttl
        {
            return Ok(Arc::clone(object));
        }
        match fetch().await {
            Ok(object) => {
                let object = Arc::new(object);
                *held = Some((Instant::now(), Arc::clone(&object)));
                Ok(object)
            }
            Err(error) if error.is_not_found() => {
                *held = None;
                Err(error)
            }
            Err(error) => match held.as_ref() {
                Some((_, object)) => {
                    tracing::debug!(%error, "serving the last known object");
                    Ok(Arc::clone(object))
                }
                None => Err(error),
            },
        }
    }

    fn slot(&self, namespace: &str, name: &str) -> Slot<T> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), name.to_owned());
        if slots.len() >= self.max && !slots.contains_key(&key) {
            // The least recently used goes; its readers still hold it.
            if let Some(oldest) = slots.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone()) {
                slots.remove(&oldest);
            }
        }
        let entry = slots.entry(key).or_insert_with(|| (Instant::now(), Slot::default()));
        entry.0 = Instant::now();
        Arc::clone(&entry.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> ObjectError {
        ObjectError::NotFound { kind: "configmap", namespace: "n".into(), name: "a".into() }
    }

    fn down() -> ObjectError {
        ObjectError::Api { kind: "configmap", namespace: "n".into(), name: "a".into(), message: "down".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn objects_are_fresh_and_outlive_a_silent_api_server() {
        let cache: ObjectCache<u32> = ObjectCache::new(Duration::from_secs(10), 8);
        let get = async |answer: Result<u32, ObjectError>| cache.get("n", "a", async || answer).await.map(|v| *v);
        assert_eq!(get(Err(down())).await, Err(down()));
        assert_eq!(get(Ok(1)).await, Ok(1));
        assert_eq!(get(Ok(2)).await, Ok(1), "within the time to live");
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(get(Err(down())).await, Ok(1), "the last known");
        assert_eq!(get(Ok(3)).await, Ok(3));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(get(Err(missing())).await, Err(missing()));
        assert_eq!(get(Err(down())).await, Err(down()), "deleted objects are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_is_bounded() {
        let cache: ObjectCache<u32> = ObjectCache::new(Duration::from_secs(10), 2);
        for name in ["a", "b", "c"] {
            cache.get("n", name, async || Ok(1)).await.unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let slots = cache.slots.lock().unwrap();
        assert_eq!(slots.len(), 2);
        assert!(!slots.contains_key(&("n".to_owned(), "a".to_owned())));
    }
}
