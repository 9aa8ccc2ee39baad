//! The status manager: what pods' statuses are, and the API server's copy of them.
//!
//! ```text
//! worker ─► set(uid, status) ─► dirty set ─► writer ─► PATCH pods/status (strategic, by UID)
//!                                                 └─► DELETE pod, grace 0, when the worker says it is over
//! ```
//!
//! A status is written when it changed, again until it arrives, and again when somebody else
//! overwrote it. A static pod's status goes to its mirror pod.

pub mod compute;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pod::PodExt;
use crate::pod_manager::PodManager;

const RETRY: Duration = Duration::from_secs(2);
/// The audit of all statuses.
const RESYNC: Duration = Duration::from_secs(10);
/// Writes at once.
const PARALLEL: usize = 8;

#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<Pod>,
    status: PodStatus,
    /// The worker is done with a pod that is to be deleted.
    deletable: bool,
}

/// Statuses of all pods.
pub struct StatusManager {
    entries: Mutex<HashMap<String, Entry>>,
    dirty: Mutex<HashSet<String>>,
    wake: Notify,
    pods: Arc<PodManager>,
    client: Option<kube::Client>,
}

impl StatusManager {
    #[must_use]
    pub fn new(pods: Arc<PodManager>, client: Option<kube::Client>) -> Self {
        Self { entries: Mutex::default(), dirty: Mutex::default(), wake: Notify::new(), pods, client }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn mark(&self, uid: &str) {
        self.dirty.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(uid.to_owned());
        self.wake.notify_one();
    }

    /// The last status set.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<PodStatus> {
        self.lock().get(uid).map(|entry| entry.status.clone())
    }

    /// Sets a pod's status; true if it changed.
    pub fn set(&self, pod: &Arc<Pod>, status: PodStatus) -> bool {
        let uid = pod.uid_str();
        let changed = {
            let mut entries = self.lock();
            match entries.get_mut(uid) {
                Some(entry) => {
                    let changed = entry.status != status;
                    entry.status = status;
                    entry.pod = Arc::clone(pod);
                    changed
                }
                None => {
                    entries.insert(uid.to_owned(), Entry { pod: Arc::clone(pod), status, deletable: false });
                    true
                }
            }
        };
        if changed {
            self.mark(uid);
        }
        changed
    }

    /// The pod is over: nothing of it runs, its volumes are gone. Its API object may be deleted.
    pub fn deletable(&self, uid: &str) {
        if let Some(entry) = self.lock().get_mut(uid) {
            entry.deletable = true;
        }
        self.mark(uid);
    }

    /// Forgets a pod.
    pub fn remove(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// A new version of the pod came from the API server: does it still carry our status?
    pub fn observe(&self, pod: &Pod, uid: &str) {
        let entry = self.lock().get(uid).cloned();
        if let Some(entry) = entry
            && patch_of(&entry.status, pod).is_some()
        {
            self.mark(uid);
        }
    }

    /// Writes statuses, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut audit = tokio::time::interval(RESYNC);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                _ = audit.tick() => {
                    let all: Vec<String> = self.lock().keys().cloned().collect();
                    self.dirty.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(all);
                }
            }
            let uids: Vec<String> =
                self.dirty.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain().collect();
            for chunk in uids.chunks(PARALLEL) {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = join_all(chunk.iter().map(|uid| self.write(uid))) => {}
                }
            }
        }
    }

    async fn write(self: &Arc<Self>, uid: &str) {
        let Some(client) = self.client.clone() else { return };
        let Some(entry) = self.lock().get(uid).cloned() else { return };
        // The newest object that we know of: the pod itself, or the mirror of a static one.
        let Some(object) = self.pods.api_object(&entry.pod) else { return };
        let api: Api<Pod> = Api::namespaced(client, object.namespace_str());
        let result = self.write_object(&api, &entry, &object).await;
        if let Err(error) = result {
            tracing::warn!(pod = entry.pod.format(), %error, "cannot write the pod's status, will try again");
            let (manager, uid) = (Arc::clone(self), uid.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(RETRY).await;
                manager.mark(&uid);
            });
        }
    }

    async fn write_object(&self, api: &Api<Pod>, entry: &Entry, object: &Pod) -> Result<(), kube::Error> {
        if let Some(patch) = patch_of(&entry.status, object) {
            match api.patch_status(object.name_str(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
                Ok(updated) => self.pods.status_written(updated),
                // It is gone, or another one of that name is there by now.
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
                    tracing::debug!(pod = entry.pod.format(), code = status.code, "status refused");
                }
                Err(error) => return Err(error),
            }
        }
        let deleted = object.metadata.deletion_timestamp.is_some();
        if entry.deletable && deleted && !object.is_mirror() {
            let parameters = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions { uid: object.metadata.uid.clone(), resource_version: None }),
                ..Default::default()
            };
            match api.delete(object.name_str(), &parameters).await {
                Ok(_) => tracing::info!(pod = entry.pod.format(), "pod deleted"),
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Top-level fields that the kubelet owns.
const OWNED: [&str; 14] = [
    "phase",
    "reason",
    "message",
    "startTime",
    "qosClass",
    "observedGeneration",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
    "conditions",
];

/// The strategic merge patch that brings the object's status to ours; `None` if it is there.
fn patch_of(status: &PodStatus, object: &Pod) -> Option<Value> {
    let ours = serde_json::to_value(status).ok()?;
    let theirs = object.status.as_ref().and_then(|s| serde_json::to_value(s).ok()).unwrap_or_else(|| json!({}));
    let mirror_generation = object.metadata.generation;
    let mut patch = serde_json::Map::new();
    for field in OWNED {
        let (mut new, old) = (ours.get(field).cloned(), theirs.get(field));
        match field {
            "observedGeneration" if object.is_mirror() => new = mirror_generation.map(Value::from),
            "conditions" => {
                // Merged by type: only ours that differ.
                let differing: Vec<Value> = new
                    .as_ref()
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|condition| differing_condition(condition, old))
                    .collect();
                if !differing.is_empty() {
                    patch.insert(field.to_owned(), Value::Array(differing));
                }
                continue;
            }
            "podIPs" | "hostIPs" => {
                if new.as_ref() != old {
                    // Merged by address: those that are gone have to be deleted by name.
                    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
                    let (mut entries, old) = (list(new.as_ref()), list(old));
                    let gone: Vec<Value> = old
                        .iter()
                        .filter(|ip| !entries.contains(ip))
                        .map(|ip| json!({"$patch": "delete", "ip": ip["ip"]}))
                        .collect();
                    entries.extend(gone);
                    patch.insert(field.to_owned(), Value::Array(entries));
                }
                continue;
            }
            _ => {}
        }
        match (new, old) {
            (Some(new), old) if old != Some(&new) => {
                patch.insert(field.to_owned(), new);
            }
            (None, Some(old)) if !old.is_null() => {
                patch.insert(field.to_owned(), Value::Null);
            }
            _ => {}
        }
    }
    if patch.is_empty() {
        return None;
    }
    Some(json!({ "metadata": { "uid": object.metadata.uid }, "status": patch }))
}

fn differing_condition(ours: &Value, theirs: Option<&Value>) -> Option<Value> {
    let theirs = theirs.and_then(Value::as_array).and_then(|list| list.iter().find(|c| c["type"] == ours["type"]));
    let mut patch = ours.clone();
    let Some(theirs) = theirs else { return Some(patch) };
    let mut same = true;
    for field in ["status", "reason", "message", "observedGeneration"] {
        if theirs.get(field).filter(|v| !v.is_null()) != ours.get(field) {
            // PodScheduled was set by the scheduler: its generation and times are its own.
            if ours["type"] == "PodScheduled" && field != "status" {
                continue;
            }
            same = false;
            if ours.get(field).is_none() {
                patch[field] = Value::Null;
            }
        }
    }
    if same { None } else { Some(patch) }
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
