//! garbage-collector-controller: objects go when their owners are gone.
//!
//! ```text
//! metadata watch of every resource ─► graph ─► work ─► ask the server ─► delete / unlink / orphan / finish
//! ```
//! Only metadata is watched, and of it only what the graph needs is kept. Before anything is deleted
//! the server is asked for the object itself and for owners that the graph does not hold.

mod graph;
mod monitor;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::json;
use tokio::sync::Notify;
use tracing::{debug, info};

use crate::context::{Context, Requeue};
use crate::error::{ControllerError, Result, api, found, is_not_found};
use crate::events::Recorder;
use crate::queue::Queue;
use crate::resources::AnyResource;
use graph::{FOREGROUND, Graph, Identity, Node, ORPHAN, Owner, Verdict, Work, group_of, verdict};

const WORKERS: usize = 20;

pub(super) struct Collector {
    context: Arc<Context>,
    recorder: Recorder,
    queue: Arc<Queue<Work>>,
    graph: Mutex<Graph>,
    /// What can be asked for, by group and kind.
    resources: RwLock<HashMap<(String, String), AnyResource>>,
    /// The set of resources may have changed.
    rediscover: Notify,
}

pub(crate) fn start(context: &Arc<Context>) {
    let queue = Arc::new(Queue::new());
    let collector = Arc::new(Collector {
        context: Arc::clone(context),
        recorder: context.recorders.component("garbage-collector-controller"),
        queue: Arc::clone(&queue),
        graph: Mutex::default(),
        resources: RwLock::default(),
        rediscover: Notify::new(),
    });
    let (listed, ready) = tokio::sync::oneshot::channel();
    context.tasks.spawn(monitor::run(Arc::clone(&collector), listed));
    // An error means that the monitors ended: then the workers end as well.
    let ready = async move { drop(ready.await) };
    context.spawn_workers("garbage-collector-controller", WORKERS, &queue, ready, move |work| {
        let collector = Arc::clone(&collector);
        async move { collector.process(&work).await }
    });
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_all(&self, work: Vec<Work>) {
        for one in work {
            self.queue.add(one);
        }
    }

    fn saw(&self, resource: &AnyResource, meta: &ObjectMeta) {
        let (Some(uid), Some(name)) = (meta.uid.clone(), meta.name.clone()) else { return };
        let identity = Identity {
            group: resource.resource.group.clone(),
            kind: resource.resource.kind.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name,
            uid,
        };
        let work = self.graph().upsert(identity, meta);
        self.add_all(work);
    }

    fn gone(&self, uid: &str) {
        let work = self.graph().gone(uid);
        self.add_all(work);
    }

    fn resource(&self, group: &str, kind: &str) -> Option<AnyResource> {
        let resources = self.resources.read().unwrap_or_else(PoisonError::into_inner);
        resources.get(&(group.to_owned(), kind.to_owned())).cloned()
    }

    async fn process(&self, work: &Work) -> Result<Requeue> {
        match work {
            Work::Delete(uid) => self.attempt_delete(uid).await,
            Work::Orphan(uid) => self.orphan(uid).await,
        }
        .map(|()| None)
    }

    /// The object as the server has it; `None` where it, or one of its name, is gone.
    async fn live(&self, identity: &Identity) -> Result<Option<ObjectMeta>> {
        let Some(resource) = self.resource(&identity.group, &identity.kind) else {
            // Not a kind that this server has (yet): nothing is known, so nothing is done.
            return Err(ControllerError::Object {
                what: format!("{} {}", identity.kind, identity.name),
                detail: "the server has no such kind".to_owned(),
            });
        };
        let objects = resource.api(&self.context.client, &identity.namespace);
        let live = found(objects.get_metadata(&identity.name).await)
            .map_err(api("reading", format!("{} {}", identity.kind, identity.name)))?;
        Ok(live.map(|l| l.metadata).filter(|meta| meta.uid.as_ref() == Some(&identity.uid)))
    }

    async fn attempt_delete(&self, uid: &str) -> Result<()> {
        let Some(node) = self.graph().get(uid).cloned() else { return Ok(()) };
        if node.is_virtual && self.resource(&node.identity.group, &node.identity.kind).is_none() {
            debug!(kind = node.identity.kind, "an owner of a kind that the server does not have");
            return Ok(());
        }
        let Some(live) = self.live(&node.identity).await? else {
            self.gone(uid);
            return Ok(());
        };
        if node.is_virtual {
            // It exists; its watch will tell the rest.
            return Ok(());
        }
        if graph::is_deleting_dependents(&live) {
            return self.finish_foreground(&node, &live).await;
        }
        if live.deletion_timestamp.is_some() {
            return Ok(());
        }
        let mut owners = Vec::new();
        for owner in live.owner_references.iter().flatten() {
            owners.push((owner.uid.clone(), self.owner_state(&node, owner).await?));
        }
        match verdict(&owners, !node.dependents.is_empty()) {
            Verdict::Keep => Ok(()),
            Verdict::Unlink(uids) => self.unlink(&node.identity, &live, &uids).await,
            Verdict::Delete { foreground } => {
                if foreground {
                    self.unblock_circle(&node, &live).await?;
                }
                self.delete(&node, &live, foreground).await
            }
        }
    }

    async fn owner_state(&self, node: &Node, owner: &OwnerReference) -> Result<Owner> {
        let known = self.graph().get(&owner.uid).cloned();
        if let Some(known) = known.filter(|k| !k.is_virtual) {
            let namespace = &known.identity.namespace;
            if namespace.is_empty() || *namespace == node.identity.namespace {
                return Ok(if known.deleting_dependents { Owner::Waiting } else { Owner::Solid });
            }
            let text = format!(
                "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace \"{}\"",
                owner.api_version, owner.kind, node.identity.namespace, owner.name, owner.uid, node.identity.namespace
            );
            self.recorder.record(reference(&node.identity), "Warning", "OwnerRefInvalidNamespace", text);
        }
        let group = group_of(&owner.api_version);
        if self.resource(group, &owner.kind).is_none() {
            // Upstream holds on to what it can't look up.
            self.rediscover.notify_one();
            return Ok(Owner::Solid);
        }
        let identity = Identity {
            group: group.to_owned(),
            kind: owner.kind.clone(),
            namespace: node.identity.namespace.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        };
        Ok(match self.live(&identity).await? {
            None => Owner::Absent,
            Some(meta) if graph::is_deleting_dependents(&meta) => Owner::Waiting,
            Some(_) => Owner::Solid,
        })
    }

    /// Looks at what a foreground deletion waits for; with nothing left it ends.
    async fn finish_foreground(&self, node: &Node, live: &ObjectMeta) -> Result<()> {
        let blockers: Vec<(String, bool)> = {
            let graph = self.graph();
            let blockers = graph.blockers(&node.identity.uid);
            blockers.iter().map(|b| (b.identity.uid.clone(), b.deleting_dependents)).collect()
        };
        if blockers.is_empty() {
            return self.remove_finalizer(&node.identity, live, FOREGROUND).await;
        }
        for (uid, deleting_dependents) in blockers {
            if !deleting_dependents {
                self.queue.add(Work::Delete(uid));
            }
        }
        Ok(())
    }

    /// Objects that own each other would wait for each other for ever.
    async fn unblock_circle(&self, node: &Node, live: &ObjectMeta) -> Result<()> {
        let circular = {
            let graph = self.graph();
            let waits = |uid: &String| graph.get(uid).is_some_and(|d| d.deleting_dependents);
            node.dependents.iter().any(waits)
        };
        if !circular {
            return Ok(());
        }
        let owners: Vec<OwnerReference> = live
            .owner_references
            .iter()
            .flatten()
            .map(|o| OwnerReference { block_owner_deletion: Some(false), ..o.clone() })
            .collect();
        self.patch(&node.identity, json!({"metadata": {"ownerReferences": owners, "uid": live.uid}})).await
    }

    async fn delete(&self, node: &Node, live: &ObjectMeta, foreground: bool) -> Result<()> {
        let identity = &node.identity;
        let Some(resource) = self.resource(&identity.group, &identity.kind) else { return Ok(()) };
        let has = |finalizer: &str| live.finalizers.iter().flatten().any(|f| f == finalizer);
        let policy = if foreground || has(FOREGROUND) {
            PropagationPolicy::Foreground
        } else if has(ORPHAN) {
            PropagationPolicy::Orphan
        } else {
            PropagationPolicy::Background
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: live.uid.clone(),
                resource_version: live.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let objects = resource.api(&self.context.client, &identity.namespace);
        info!(
            kind = identity.kind,
            namespace = identity.namespace,
            name = identity.name,
            "deleting: its owners are gone"
        );
        match objects.delete(&identity.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(api("deleting", format!("{} {}", identity.kind, identity.name))(error)),
        }
    }

    async fn orphan(&self, uid: &str) -> Result<()> {
        let Some(node) = self.graph().get(uid).cloned() else { return Ok(()) };
        let Some(live) = self.live(&node.identity).await? else { return Ok(()) };
        if live.deletion_timestamp.is_none() {
            return Ok(());
        }
        for dependent in &node.dependents {
            let Some(dependent) = self.graph().get(dependent).cloned() else { continue };
            if let Some(meta) = self.live(&dependent.identity).await? {
                self.unlink(&dependent.identity, &meta, &[uid.to_owned()]).await?;
            }
        }
        self.remove_finalizer(&node.identity, &live, ORPHAN).await
    }

    async fn unlink(&self, identity: &Identity, live: &ObjectMeta, uids: &[String]) -> Result<()> {
        let owners: Vec<&OwnerReference> =
            live.owner_references.iter().flatten().filter(|o| !uids.contains(&o.uid)).collect();
        let patch = json!({"metadata": {
            "ownerReferences": owners, "uid": live.uid, "resourceVersion": live.resource_version,
        }});
        self.patch(identity, patch).await
    }

    async fn remove_finalizer(&self, identity: &Identity, live: &ObjectMeta, finalizer: &str) -> Result<()> {
        let left: Vec<&String> = live.finalizers.iter().flatten().filter(|f| *f != finalizer).collect();
        let patch = json!({"metadata": {
            "finalizers": left, "uid": live.uid, "resourceVersion": live.resource_version,
        }});
        self.patch(identity, patch).await
    }

    async fn patch(&self, identity: &Identity, patch: serde_json::Value) -> Result<()> {
        let Some(resource) = self.resource(&identity.group, &identity.kind) else { return Ok(()) };
        let objects = resource.api(&self.context.client, &identity.namespace);
        match objects.patch_metadata(&identity.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(api("changing", format!("{} {}", identity.kind, identity.name))(error)),
        }
    }
}

fn reference(identity: &Identity) -> ObjectReference {
    ObjectReference {
        kind: Some(identity.kind.clone()),
        namespace: Some(identity.namespace.clone()).filter(|n| !n.is_empty()),
        name: Some(identity.name.clone()),
        uid: Some(identity.uid.clone()),
        ..ObjectReference::default()
    }
}
