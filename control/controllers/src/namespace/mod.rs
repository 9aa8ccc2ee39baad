//! namespace-controller: empties a namespace that is being deleted, then lets it go.
//!
//! ```text
//! Active ─ DELETE ─► Terminating ─► delete Pods ─► delete the rest ─► anything left? ─ yes ─► conditions, again
//!                                                                        └ no ─► finalizer `kubernetes` off
//! ```
//! Pods go first, so that nothing a Pod is guarded by (network policies, quotas) is gone before it.

mod conditions;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use tracing::info;

use crate::context::{Context, Requeue};
use crate::error::{ControllerError, Result, api, is_conflict, is_not_found, message};
use crate::informer::Key;
use crate::queue::Queue;
use crate::resources::{AnyResource, discover};
use conditions::Findings;

const WORKERS: usize = 10;
const FINALIZER: &str = "kubernetes";

/// Events are written while the namespace is emptied; they go last and hold nothing up.
const LAST: &str = "events";

pub(crate) fn start(context: &Arc<Context>) {
    let queue = Arc::new(Queue::new());
    let namespaces = Arc::clone(&queue);
    context.informers.namespaces.on_change(move |change| {
        if let Some(namespace) = change.new
            && namespace.metadata.deletion_timestamp.is_some()
        {
            namespaces.add(Key::new("", namespace.name_any()));
        }
    });
    let cache = Arc::clone(&context.informers.namespaces);
    let ready = async move { cache.synced().await };
    let shared = Arc::clone(context);
    context.spawn_workers("namespace-controller", WORKERS, &queue, ready, move |key| {
        let context = Arc::clone(&shared);
        async move { sync(&context, &key).await }
    });
}

async fn sync(context: &Context, key: &Key) -> Result<Requeue> {
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    let namespace = match namespaces.get(&key.name).await {
        Ok(namespace) => namespace,
        Err(error) if is_not_found(&error) => return Ok(None),
        Err(error) => return Err(api("reading namespace", &key.name)(error)),
    };
    if namespace.metadata.deletion_timestamp.is_none() {
        return Ok(None);
    }
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.as_deref()).unwrap_or_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        return Ok(None);
    }
    let mut findings = Findings::default();
    match discover(&context.client).await {
        Ok(resources) => empty(context, &key.name, resources, &mut findings).await,
        Err(error) => findings.discovery_failed = Some(crate::error::chain(&error)),
    }
    let namespace = write_status(context, &namespaces, namespace, &findings).await?;
    if findings.is_empty() {
        finalize(&namespaces, namespace).await?;
        info!(namespace = key.name, "namespace emptied");
        return Ok(None);
    }
    if let Some(grace_s) = findings.grace_s {
        // Pods were given this long; upstream looks again half-way.
        return Ok(Some(Duration::from_millis(250) + Duration::from_secs(grace_s.min(30)) / 8));
    }
    Err(ControllerError::ContentRemains { namespace: key.name.clone(), remaining: findings.remaining_objects() })
}

async fn empty(context: &Context, name: &str, resources: Vec<AnyResource>, findings: &mut Findings) {
    let is_pods = |r: &AnyResource| r.resource.plural == "pods" && r.resource.group.is_empty();
    let (pods, mut others): (Vec<_>, Vec<_>) = resources.into_iter().filter(|r| r.namespaced).partition(is_pods);
    others.sort_by_key(|r| r.resource.plural == LAST);
    for resource in &pods {
        delete_all(context, name, resource, findings).await;
    }
    if findings.is_empty() {
        for resource in &others {
            delete_all(context, name, resource, findings).await;
        }
    }
}

/// Deletes a resource's objects in the namespace, and counts what has not gone at once.
async fn delete_all(context: &Context, namespace: &str, resource: &AnyResource, findings: &mut Findings) {
    let objects = resource.api(&context.client, namespace);
    let metadata: Api<kube::core::PartialObjectMeta<kube::core::DynamicObject>> =
        Api::namespaced_with(context.client.clone(), namespace, &resource.resource);
    let mut unsupported = !resource.deletecollection;
    if !unsupported {
        match objects.delete_collection(&DeleteParams::background(), &ListParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => unsupported = true,
            Err(error) => findings.failed(resource, &message(&error)),
        }
    }
    let left = match metadata.list_metadata(&ListParams::default()).await {
        Ok(left) => left.items,
        Err(error) if is_not_found(&error) => return,
        Err(error) => return findings.failed(resource, &message(&error)),
    };
    let mut remaining = Vec::new();
    for object in left {
        let object_name = object.name_any();
        if unsupported && object.metadata.deletion_timestamp.is_none() {
            match objects.delete(&object_name, &DeleteParams::background()).await {
                // Right: it is gone, not only marked.
                Ok(answer) if answer.is_right() => continue,
                Ok(_) => {}
                Err(error) if is_not_found(&error) => continue,
                Err(error) => findings.failed(resource, &message(&error)),
            }
        }
        remaining.push(object.metadata);
    }
    findings.remain(resource, &remaining);
}

async fn write_status(
    context: &Context,
    namespaces: &Api<Namespace>,
    namespace: Namespace,
    findings: &Findings,
) -> Result<Namespace> {
    let old = namespace.status.clone().unwrap_or_default();
    let status = NamespaceStatus {
        phase: Some("Terminating".to_owned()),
        conditions: Some(conditions::conditions(
            old.conditions.as_deref().unwrap_or_default(),
            findings,
            context.now(),
        )),
    };
    if old == status {
        return Ok(namespace);
    }
    let name = namespace.name_any();
    let changed = Namespace { status: Some(status), ..namespace.clone() };
    match namespaces.replace_status(&name, &PostParams::default(), &changed).await {
        Ok(written) => Ok(written),
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(namespace),
        Err(error) => Err(api("writing the status of namespace", name)(error)),
    }
}

/// Takes the finalizer off through the subresource that alone may.
async fn finalize(namespaces: &Api<Namespace>, namespace: Namespace) -> Result<()> {
    let name = namespace.name_any();
    let mut changed = namespace;
    if let Some(finalizers) = changed.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != FINALIZER);
    }
    let written = namespaces.replace_subresource("finalize", &name, &PostParams::default(), &changed).await;
    match written {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(api("finalizing namespace", name)(error)),
    }
}
