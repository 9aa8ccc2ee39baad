//! What nobody asked to be there: pods in the runtime, volumes, cgroups and log directories without a
//! pod. Only once every source has spoken: an API server that is away orphans nothing.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pod_workers::{Core, PodWorkers};

const PERIOD: Duration = Duration::from_secs(2);
/// Between looks at directories and cgroups.
const SWEEP: Duration = Duration::from_secs(30);

/// Cleans up, until `shutdown`.
pub(crate) async fn run(
    core: Arc<Core>,
    workers: Arc<PodWorkers>,
    synced: impl Fn() -> bool + Send + 'static,
    shutdown: CancellationToken,
) {
    let killing: Arc<Mutex<HashSet<String>>> = Arc::default();
    let mut swept: Option<Instant> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        if !synced() || !core.runtime.cache.is_synced() {
            continue;
        }
        let live = workers.uids();
        kill_orphans(&core, &live, &killing, &shutdown);
        if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
            swept = Some(Instant::now());
            sweep(&core, &workers).await;
        }
    }
}

fn kill_orphans(
    core: &Arc<Core>,
    live: &BTreeSet<String>,
    killing: &Arc<Mutex<HashSet<String>>>,
    shutdown: &CancellationToken,
) {
    for pod in core.runtime.cache.known() {
        if live.contains(&pod.uid) {
            continue;
        }
        let fresh = killing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(pod.uid.clone());
        if !fresh {
            continue;
        }
        tracing::info!(
            pod = format!("{}/{}", pod.namespace, pod.name),
            uid = pod.uid,
            "killing a pod that no source has"
        );
        let (core, killing, shutdown) = (Arc::clone(core), Arc::clone(killing), shutdown.clone());
        tokio::spawn(async move {
            let work = async {
                let observed = core.runtime.cache.inspect(&pod.uid).await.map_err(|e| vec![e.to_string()])?;
                core.runtime.kill_pod(None, &observed, None).await?;
                let observed = core.runtime.cache.inspect(&pod.uid).await.map_err(|e| vec![e.to_string()])?;
                core.volumes.unmount_pod(&pod.uid).await.map_err(texts)?;
                core.runtime.remove_pod(&observed).await?;
                core.containers.destroy_pod(&pod.uid).await.map_err(texts)?;
                core.records.remove(&pod.uid);
                let _ = core.runtime.cache.inspect(&pod.uid).await;
                Ok::<(), Vec<String>>(())
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                result = work => if let Err(errors) = result {
                    tracing::warn!(uid = pod.uid, errors = errors.join("; "), "cannot kill an orphaned pod yet");
                }
            }
            killing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&pod.uid);
        });
    }
}

fn texts<E: std::error::Error>(errors: Vec<E>) -> Vec<String> {
    errors.into_iter().map(|error| error.to_string()).collect()
}

/// Volumes, cgroups and logs that are left over.
async fn sweep(core: &Core, workers: &PodWorkers) {
    let mut live = workers.uids();
    for pod in core.runtime.cache.known() {
        live.insert(pod.uid.clone());
        core.runtime.cache.forget(&pod.uid);
    }
    if let Err(errors) = core.volumes.cleanup_orphans(&live).await {
        for error in errors {
            tracing::warn!(%error, "cannot clean up after a pod that is gone");
        }
    }
    for uid in core.containers.list_pod_cgroups() {
        if !live.contains(&uid)
            && let Err(errors) = core.containers.destroy_pod(&uid).await
        {
            tracing::debug!(uid, ?errors, "cannot remove the cgroup of a pod that is gone");
        }
    }
    let Ok(mut entries) = tokio::fs::read_dir(&core.runtime.node.pod_logs_dir).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let name = entry.file_name().to_string_lossy().into_owned();
        // NAMESPACE_NAME_UID; anything else is not ours.
        let parts: Vec<&str> = name.split('_').collect();
        if let [_, _, uid] = parts.as_slice()
            && !live.contains(*uid)
        {
            let _ = tokio::fs::remove_dir_all(entry.path()).await;
        }
    }
}
