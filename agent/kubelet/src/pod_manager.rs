//! The pods that this node should run, merged from all sources, and the mirrors of static ones.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::api::core::v1::Pod;

use crate::pod::PodExt;

#[derive(Debug, Default)]
struct Inner {
    /// By UID; mirror pods are not among them.
    pods: BTreeMap<String, Arc<Pod>>,
    /// Mirror pods by `namespace/name`.
    mirrors: HashMap<String, Arc<Pod>>,
}

/// What a new set of pods changes.
#[derive(Debug, Default)]
pub struct Change {
    pub updated: Vec<Arc<Pod>>,
    pub removed: Vec<Arc<Pod>>,
    /// Mirror pods that came, changed or went.
    pub mirrors_changed: bool,
}

/// Desired pods.
#[derive(Debug, Default)]
pub struct PodManager {
    inner: Mutex<Inner>,
}

impl PodManager {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes the complete set of all sources.
    pub fn set(&self, all: Vec<Arc<Pod>>) -> Change {
        let mut change = Change::default();
        let (mut pods, mut mirrors) = (BTreeMap::new(), HashMap::new());
        for pod in all {
            if pod.is_mirror() {
                mirrors.insert(pod.key(), pod);
            } else {
                pods.insert(pod.uid_str().to_owned(), pod);
            }
        }
        let mut inner = self.lock();
        for (uid, pod) in &pods {
            let same = inner.pods.get(uid).is_some_and(|have| Arc::ptr_eq(have, pod) || have == pod);
            if !same {
                change.updated.push(Arc::clone(pod));
            }
        }
        change.removed =
            inner.pods.iter().filter(|(uid, _)| !pods.contains_key(*uid)).map(|(_, p)| Arc::clone(p)).collect();
        change.mirrors_changed = inner.mirrors != mirrors;
        inner.pods = pods;
        inner.mirrors = mirrors;
        change
    }

    /// Pods, mirrors left out.
    #[must_use]
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.lock().pods.values().cloned().collect()
    }

    #[must_use]
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        self.lock().pods.get(uid).cloned()
    }

    #[must_use]
    pub fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.lock().pods.values().find(|p| p.name_str() == name && p.namespace_str() == namespace).cloned()
    }

    /// Mirror pods.
    #[must_use]
    pub fn mirrors(&self) -> Vec<Arc<Pod>> {
        self.lock().mirrors.values().cloned().collect()
    }

    /// The mirror of a static pod.
    #[must_use]
    pub fn mirror_of(&self, pod: &Pod) -> Option<Arc<Pod>> {
        self.lock().mirrors.get(&pod.key()).cloned()
    }

    /// The object that stands for the pod in the API.
    #[must_use]
    pub fn api_object(&self, pod: &Pod) -> Option<Arc<Pod>> {
        if pod.is_static() {
            // An old mirror shows another pod's status.
            return self
                .mirror_of(pod)
                .filter(|mirror| mirror.annotation(crate::pod::CONFIG_MIRROR) == Some(crate::mirror::hash_of(pod)));
        }
        self.by_uid(pod.uid_str())
    }

    /// The answer to a status write: newer than what the watch has brought so far, unless that overtook it.
    pub fn status_written(&self, written: Pod) {
        let version = |pod: &Pod| pod.metadata.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok());
        let mut inner = self.lock();
        let slot = if written.is_mirror() {
            inner.mirrors.get_mut(&written.key())
        } else {
            inner.pods.get_mut(written.uid_str())
        };
        if let Some(slot) = slot
            && slot.metadata.uid == written.metadata.uid
            && version(slot) < version(&written)
        {
            *slot = Arc::new(written);
        }
    }
}
