//! PLEG: what happens to containers and sandboxes outside of our own doing reaches the pod workers.
//!
//! ```text
//! CRI events ──► look at the one pod ─┐
//! relist (audit; each second where    ├─► PodCache ─► the pod's worker, its probes
//! there are no events) ─► what differs┘
//! worker, after its own actions ──────┘
//! ```
//!
//! A look at a pod takes a number before it starts; an older look never overwrites a newer one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use orlop_runtime::{RuntimeClient, RuntimeError, cri};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::kuberuntime::labels;
use crate::kuberuntime::types::{ContainerState, RuntimeContainer, RuntimePod};

/// The node is not ready when no relist succeeded for this long.
const UNHEALTHY_AFTER: Duration = Duration::from_secs(180);
/// The audit where events flow.
const AUDIT_PERIOD: Duration = Duration::from_secs(10);
/// Between attempts to subscribe to events.
const RESUBSCRIBE: Duration = Duration::from_secs(5);

/// The pods of the runtime as last seen.
#[derive(Debug)]
pub struct PodCache {
    runtime: RuntimeClient,
    pods: Mutex<HashMap<String, watch::Sender<Arc<RuntimePod>>>>,
    looks: AtomicU64,
    last_relist: Mutex<Option<Instant>>,
    started: Instant,
    relisted: Notify,
}

/// Ids and states of one pod: what decides whether a closer look is needed.
type Outline = BTreeSet<(String, i32)>;

impl PodCache {
    #[must_use]
    pub fn new(runtime: RuntimeClient) -> Self {
        Self {
            runtime,
            pods: Mutex::default(),
            looks: AtomicU64::new(1),
            last_relist: Mutex::default(),
            started: Instant::now(),
            relisted: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Arc<RuntimePod>>>> {
        self.pods.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The pod as last seen.
    #[must_use]
    pub fn get(&self, uid: &str) -> Arc<RuntimePod> {
        self.lock().get(uid).map(|sender| Arc::clone(&sender.borrow())).unwrap_or_default()
    }

    /// Follows a pod, known to the runtime or not yet.
    #[must_use]
    pub fn subscribe(&self, uid: &str) -> watch::Receiver<Arc<RuntimePod>> {
        self.lock().entry(uid.to_owned()).or_insert_with(|| watch::Sender::new(Arc::default())).subscribe()
    }

    /// UIDs of which the runtime still has something.
    #[must_use]
    pub fn known(&self) -> Vec<Arc<RuntimePod>> {
        self.lock()
            .values()
            .map(|sender| Arc::clone(&sender.borrow()))
            .filter(|pod| !pod.sandboxes.is_empty() || !pod.containers.is_empty())
            .collect()
    }

    /// Drops what nobody follows and the runtime no longer has.
    pub fn forget(&self, uid: &str) {
        let mut pods = self.lock();
        if pods.get(uid).is_some_and(|sender| sender.receiver_count() == 0 && is_empty(&sender.borrow())) {
            pods.remove(uid);
        }
    }

    fn store(&self, pod: RuntimePod) -> Arc<RuntimePod> {
        let mut pods = self.lock();
        let sender = pods.entry(pod.uid.clone()).or_insert_with(|| watch::Sender::new(Arc::default()));
        let pod = Arc::new(pod);
        sender.send_if_modified(|current| {
            if pod.observed < current.observed {
                return false;
            }
            let changed = current.sandboxes != pod.sandboxes || current.containers != pod.containers;
            *current = Arc::clone(&pod);
            changed
        });
        Arc::clone(&sender.borrow())
    }

    /// Looks at one pod now. The answer is never older than the call.
    pub async fn inspect(&self, uid: &str) -> Result<Arc<RuntimePod>, RuntimeError> {
        let observed = self.looks.fetch_add(1, Ordering::Relaxed);
        let by_uid: HashMap<String, String> = HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
        let sandbox_filter = cri::PodSandboxFilter { label_selector: by_uid.clone(), ..Default::default() };
        let container_filter = cri::ContainerFilter { label_selector: by_uid, ..Default::default() };
        let (sandboxes, containers) = tokio::try_join!(
            self.runtime.list_pod_sandbox(Some(sandbox_filter)),
            self.runtime.list_containers(Some(container_filter)),
        )?;
        self.look_closer(uid, observed, &sandboxes, &containers).await
    }

    async fn look_closer(
        &self,
        uid: &str,
        observed: u64,
        sandboxes: &[cri::PodSandbox],
        containers: &[cri::Container],
    ) -> Result<Arc<RuntimePod>, RuntimeError> {
        let known = self.get(uid);
        let mut pod = RuntimePod { uid: uid.to_owned(), observed, ..Default::default() };
        for sandbox in sandboxes {
            match self.runtime.pod_sandbox_status(&sandbox.id, false).await {
                Ok(answer) => pod.sandboxes.extend(answer.status),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
            if let Some(metadata) = &sandbox.metadata {
                pod.name.clone_from(&metadata.name);
                pod.namespace.clone_from(&metadata.namespace);
            }
        }
        for container in containers {
            // What has ended does not change any more.
            let ended = known.containers.iter().find(|c| c.id == container.id && c.state == ContainerState::Exited);
            if let Some(ended) = ended {
                pod.containers.push(ended.clone());
                continue;
            }
            match self.runtime.container_status(&container.id).await {
                Ok(status) => pod.containers.push(RuntimeContainer::from_cri(&container.pod_sandbox_id, &status)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        if pod.name.is_empty()
            && let Some(container) = pod.containers.first()
        {
            pod.name = container.pod_name.clone();
            pod.namespace = container.pod_namespace.clone();
        }
        pod.sandboxes.sort_by_key(|s| std::cmp::Reverse(s.created_at));
        pod.containers.sort_by_key(|c| std::cmp::Reverse(c.created_at_ns));
        Ok(self.store(pod))
    }

    /// Looks at everything; returns the pods that changed.
    pub async fn relist(&self) -> Result<usize, RuntimeError> {
        let observed = self.looks.fetch_add(1, Ordering::Relaxed);
        let (sandboxes, containers) =
            tokio::try_join!(self.runtime.list_pod_sandbox(None), self.runtime.list_containers(None))?;
        let mut seen: BTreeMap<String, (Vec<cri::PodSandbox>, Vec<cri::Container>)> = BTreeMap::new();
        for sandbox in sandboxes {
            if let Some(uid) = sandbox.labels.get(labels::POD_UID).filter(|uid| !uid.is_empty()) {
                seen.entry(uid.clone()).or_default().0.push(sandbox);
            }
        }
        for container in containers {
            if let Some(uid) = container.labels.get(labels::POD_UID).filter(|uid| !uid.is_empty()) {
                seen.entry(uid.clone()).or_default().1.push(container);
            }
        }
        for pod in self.known() {
            seen.entry(pod.uid.clone()).or_default();
        }
        let mut changed = 0;
        let mut failed = None;
        for (uid, (sandboxes, containers)) in seen {
            let now: Outline = sandboxes
                .iter()
                .map(|s| (s.id.clone(), s.state))
                .chain(containers.iter().map(|c| (c.id.clone(), outline_state(c.state().into()))))
                .collect();
            if now == outline(&self.get(&uid)) {
                continue;
            }
            changed += 1;
            if let Err(error) = self.look_closer(&uid, observed, &sandboxes, &containers).await {
                failed = Some(error);
            }
        }
        *self.last_relist.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
        self.relisted.notify_waiters();
        failed.map_or(Ok(changed), Err)
    }

    /// True after the first complete relist.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.last_relist.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some()
    }

    /// Why the node should be NotReady, if it should.
    #[must_use]
    pub fn unhealthy(&self) -> Option<String> {
        let last = *self.last_relist.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let elapsed = last.unwrap_or(self.started).elapsed();
        if elapsed < UNHEALTHY_AFTER {
            return None;
        }
        Some(match last {
            None => "PLEG is not healthy: pleg has yet to be successful".to_owned(),
            Some(_) => format!(
                "PLEG is not healthy: pleg was last seen active {} ago; threshold is {}",
                crate::backoff::go_duration(elapsed),
                crate::backoff::go_duration(UNHEALTHY_AFTER)
            ),
        })
    }
}

fn is_empty(pod: &RuntimePod) -> bool {
    pod.sandboxes.is_empty() && pod.containers.is_empty()
}

fn outline_state(state: ContainerState) -> i32 {
    match state {
        ContainerState::Created => 0,
        ContainerState::Running => 1,
        ContainerState::Exited => 2,
        ContainerState::Unknown => 3,
    }
}

fn outline(pod: &RuntimePod) -> Outline {
    pod.sandboxes
        .iter()
        .map(|s| (s.id.clone(), s.state))
        .chain(pod.containers.iter().map(|c| (c.id.clone(), outline_state(c.state))))
        .collect()
}

/// Keeps the cache true, until `shutdown`.
pub async fn run(cache: Arc<PodCache>, relist_period: Duration, shutdown: CancellationToken) {
    let events_flow = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let listener = listen(Arc::clone(&cache), Arc::clone(&events_flow));
    let audit = async {
        loop {
            if let Err(error) = cache.relist().await {
                tracing::warn!(%error, "relist of the container runtime failed");
            }
            let period = if events_flow.load(Ordering::Relaxed) { AUDIT_PERIOD } else { relist_period };
            tokio::time::sleep(period).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = listener => {}
        () = audit => {}
    }
}

/// Follows the runtime's events; never ends. A runtime without events is asked no more.
async fn listen(cache: Arc<PodCache>, flow: Arc<std::sync::atomic::AtomicBool>) {
    loop {
        match cache.runtime.container_events().await {
            Ok(mut events) => loop {
                match events.next().await {
                    Ok(Some(event)) => {
                        flow.store(true, Ordering::Relaxed);
                        on_event(&cache, &event).await;
                    }
                    Ok(None) => break,
                    Err(error) if error.is_unimplemented() => return std::future::pending().await,
                    Err(error) => {
                        tracing::debug!(%error, "stream of container events broke");
                        break;
                    }
                }
            },
            Err(error) if error.is_unimplemented() => {
                tracing::info!("the container runtime has no container events: relisting instead");
                return std::future::pending().await;
            }
            Err(error) => tracing::debug!(%error, "cannot subscribe to container events"),
        }
        flow.store(false, Ordering::Relaxed);
        tokio::time::sleep(RESUBSCRIBE).await;
    }
}

async fn on_event(cache: &PodCache, event: &cri::ContainerEventResponse) {
    let from_event = event.pod_sandbox_status.as_ref().and_then(|s| s.metadata.as_ref()).map(|m| m.uid.clone());
    let uid = from_event.or_else(|| {
        cache
            .known()
            .iter()
            .find(|pod| {
                pod.containers.iter().any(|c| c.id == event.container_id)
                    || pod.sandboxes.iter().any(|s| s.id == event.container_id)
            })
            .map(|pod| pod.uid.clone())
    });
    let Some(uid) = uid.filter(|uid| !uid.is_empty()) else { return };
    if let Err(error) = cache.inspect(&uid).await {
        tracing::debug!(%error, uid, "cannot look at the pod of an event");
    }
}
