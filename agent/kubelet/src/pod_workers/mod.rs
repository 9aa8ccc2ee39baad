//! One task per pod UID owns everything that is done to that pod; the latest update wins.
//!
//! ```text
//! sync loop ─► PodWorkers::update / remove ─► watch<Desired> ─► worker.rs (states: state.rs)
//! PLEG, probes ───────────────────────────► wake ───────────┘
//! ```
//!
//! A static pod that is replaced by one of the same name waits until its predecessor is finished; so
//! does a pod that comes back with the same UID.

pub mod state;
mod update;
mod worker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::NodeCapacity;
use crate::container_manager::ContainerManager;
use crate::events::Recorder;
use crate::kuberuntime::RuntimeManager;
use crate::node_conditions::RuntimeState;
use crate::pod::PodExt;
use crate::prober::ProbeManager;
use crate::records::Records;
use crate::status::StatusManager;
use crate::volumes::VolumeManager;

/// What every worker works with.
pub struct Core {
    pub runtime: Arc<RuntimeManager>,
    pub runtime_state: Arc<RuntimeState>,
    pub volumes: Arc<VolumeManager>,
    pub containers: Arc<ContainerManager>,
    pub status: Arc<StatusManager>,
    pub probes: Arc<ProbeManager>,
    pub records: Arc<Records>,
    pub events: Recorder,
    pub capacity: NodeCapacity,
    /// Pods that were let in, by UID.
    pub admitted: Mutex<HashMap<String, Arc<Pod>>>,
    pub sync_frequency: std::time::Duration,
}

impl Core {
    pub(crate) fn admitted(&self) -> MutexGuard<'_, HashMap<String, Arc<Pod>>> {
        self.admitted.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What a worker is told.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    pub(crate) pod: Arc<Pod>,
    pub(crate) removed: bool,
}

struct Handle {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    workers: HashMap<String, Handle>,
    /// Pods that wait for one of the same name, by `namespace/name`.
    waiting: HashMap<String, Arc<Pod>>,
}

/// All workers.
pub struct PodWorkers {
    core: Arc<Core>,
    inner: Mutex<Inner>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl PodWorkers {
    #[must_use]
    pub fn new(core: Arc<Core>, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { core, inner: Mutex::default(), tasks: TaskTracker::new(), shutdown })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A source has a new version of the pod.
    pub fn update(self: &Arc<Self>, pod: &Arc<Pod>) {
        let mut inner = self.lock();
        let uid = pod.uid_str();
        if let Some(handle) = inner.workers.get(uid) {
            if handle.desired.borrow().removed {
                // It is on its way out: the new one starts afterwards.
                inner.waiting.insert(pod.key(), Arc::clone(pod));
                return;
            }
            handle.desired.send_if_modified(|desired| {
                let wakes = update::wakes(&desired.pod, pod);
                desired.pod = Arc::clone(pod);
                wakes
            });
            return;
        }
        let taken = inner.workers.values().any(|handle| {
            let other = handle.desired.borrow();
            other.pod.is_static() && other.pod.key() == pod.key()
        });
        if taken {
            inner.waiting.insert(pod.key(), Arc::clone(pod));
            return;
        }
        self.spawn(&mut inner, pod);
    }

    fn spawn(self: &Arc<Self>, inner: &mut Inner, pod: &Arc<Pod>) {
        let uid = pod.uid_str().to_owned();
        let (sender, receiver) = watch::channel(Desired { pod: Arc::clone(pod), removed: false });
        let wake = Arc::new(Notify::new());
        inner.workers.insert(uid.clone(), Handle { desired: sender, wake: Arc::clone(&wake) });
        let worker = worker::Worker::new(Arc::clone(&self.core), &uid, receiver, wake);
        let (workers, shutdown) = (Arc::clone(self), self.shutdown.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                // SIGTERM of the agent leaves pods as they are.
                () = shutdown.cancelled() => {}
                () = worker.run() => workers.finished(&uid),
            }
        });
    }

    fn finished(self: &Arc<Self>, uid: &str) {
        let mut inner = self.lock();
        let Some(handle) = inner.workers.remove(uid) else { return };
        let key = handle.desired.borrow().pod.key();
        drop(handle);
        if let Some(next) = inner.waiting.remove(&key) {
            self.spawn(&mut inner, &next);
        }
    }

    /// No source has the pod any more.
    pub fn remove(&self, pod: &Pod) {
        let mut inner = self.lock();
        if inner.waiting.get(&pod.key()).is_some_and(|waiting| waiting.metadata.uid == pod.metadata.uid) {
            inner.waiting.remove(&pod.key());
        }
        if let Some(handle) = inner.workers.get(pod.uid_str()) {
            handle.desired.send_modify(|desired| desired.removed = true);
        }
    }

    /// Something about the pod may have changed.
    pub fn wake(&self, uid: &str) {
        if let Some(handle) = self.lock().workers.get(uid) {
            handle.wake.notify_one();
        }
    }

    /// UIDs with a worker, and those that wait for one.
    #[must_use]
    pub fn uids(&self) -> std::collections::BTreeSet<String> {
        let inner = self.lock();
        inner.workers.keys().cloned().chain(inner.waiting.values().map(|p| p.uid_str().to_owned())).collect()
    }

    /// Waits until all tasks ended, after `shutdown`.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
