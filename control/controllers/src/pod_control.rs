//! Makes and deletes Pods for a controller, with upstream's events.

use std::future::Future;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};

use crate::error::{ControllerError, Result, api, is_namespace_terminating, is_not_found, message};
use crate::events::Recorder;

/// Pods that one sync makes or deletes at most.
pub(crate) const BURST: usize = 500;

/// A Pod of `template`, owned by `owner`; the server completes its name.
pub(crate) fn from_template(
    template: &PodTemplateSpec,
    owner_name: &str,
    namespace: &str,
    owner: OwnerReference,
) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{owner_name}-")),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Creates `pod` and says so on `owner`. `None`: the namespace goes away, there is nothing to do.
pub(crate) async fn create<O>(client: &Client, recorder: &Recorder, owner: &O, pod: &Pod) -> Result<Option<Pod>>
where
    O: Resource,
    O::DynamicType: Default,
{
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    match pods.create(&PostParams::default(), pod).await {
        Ok(made) => {
            recorder.normal(owner, "SuccessfulCreate", format!("Created pod: {}", made.name_any()));
            Ok(Some(made))
        }
        Err(error) if is_namespace_terminating(&error) => Ok(None),
        Err(error) => {
            recorder.warning(owner, "FailedCreate", format!("Error creating: {}", message(&error)));
            Err(api("creating a pod for", owner.name_any())(error))
        }
    }
}

/// Deletes exactly this Pod. `false`: it was gone already.
pub(crate) async fn delete<O>(client: &Client, recorder: &Recorder, owner: &O, pod: &Pod) -> Result<bool>
where
    O: Resource,
    O::DynamicType: Default,
{
    let name = pod.name_any();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    match pods.delete(&name, &params).await {
        Ok(_) => {
            recorder.normal(owner, "SuccessfulDelete", format!("Deleted pod: {name}"));
            Ok(true)
        }
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => {
            recorder.warning(owner, "FailedDelete", format!("Error deleting: {}", message(&error)));
            Err(api("deleting pod", name)(error))
        }
    }
}

/// Runs `count` calls in batches of 1, 2, 4 …; the first failure ends it, so that what can't work
/// (a quota, an admission) is asked for once and not `count` times. Returns what succeeded.
pub(crate) async fn slow_start<T, F, Fut>(count: usize, mut call: F) -> (Vec<T>, Option<ControllerError>)
where
    F: FnMut(usize) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let mut made = Vec::with_capacity(count);
    let mut failure = None;
    let (mut next, mut batch) = (0, 1);
    while next < count && failure.is_none() {
        let end = (next + batch).min(count);
        for result in join_all((next..end).map(&mut call)).await {
            match result {
                Ok(one) => made.push(one),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        next = end;
        batch *= 2;
    }
    (made, failure)
}
