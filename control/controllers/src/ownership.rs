//! Who controls an object, and taking over or giving up objects by label selector (upstream's
//! controller ref manager).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as ApiSelector, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use orlop_api::selector::{LabelSelector, selector_from_object};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::debug;

use crate::error::{ControllerError, Result, api, chain, is_not_found};

/// The reference that says who controls `object`.
pub(crate) fn controller_of(object: &impl Resource) -> Option<&OwnerReference> {
    object.meta().owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

pub(crate) fn is_controlled_by(object: &impl Resource, uid: &str) -> bool {
    controller_of(object).is_some_and(|owner| owner.uid == uid)
}

/// What a controller writes into the objects it makes.
pub(crate) fn controller_reference<K>(owner: &K) -> OwnerReference
where
    K: Resource,
    K::DynamicType: Default,
{
    let facts = K::DynamicType::default();
    OwnerReference {
        api_version: K::api_version(&facts).into_owned(),
        kind: K::kind(&facts).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A selector ready for matching.
pub(crate) fn selector(what: &impl std::fmt::Display, selector: &ApiSelector) -> Result<LabelSelector> {
    let invalid = || ControllerError::Selector { what: what.to_string() };
    let value = serde_json::to_value(selector).map_err(|_| invalid())?;
    selector_from_object(Some(&value)).map_err(|_| invalid())
}

pub(crate) fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    selector.matches_with(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
}

/// What to do with one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Keep,
    Adopt,
    Release,
    Ignore,
}

/// Upstream's rules; `owner_deleting`: the controller's own object goes away.
pub(crate) fn claim(object: &impl Resource, owner_uid: &str, owner_deleting: bool, selector: &LabelSelector) -> Claim {
    let fits = matches(selector, object.meta().labels.as_ref());
    match controller_of(object) {
        Some(owner) if owner.uid != owner_uid => Claim::Ignore,
        Some(_) if fits => Claim::Keep,
        Some(_) if owner_deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_deleting || !fits || object.meta().deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The objects among `candidates` that `owner` controls, after adopting and releasing. `still_there`
/// asks the server whether the owner still is the one that the cache shows.
pub(crate) async fn claim_all<O, K>(
    client: &Client,
    owner: &O,
    selector: &LabelSelector,
    candidates: Vec<Arc<K>>,
    still_there: impl Future<Output = Result<bool>>,
) -> Result<Vec<Arc<K>>>
where
    O: Resource,
    O::DynamicType: Default,
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let reference = controller_reference(owner);
    let deleting = owner.meta().deletion_timestamp.is_some();
    let (mut mine, mut orphans) = (Vec::new(), Vec::new());
    for object in candidates {
        match claim(&*object, &reference.uid, deleting, selector) {
            Claim::Keep => mine.push(object),
            Claim::Adopt => orphans.push(object),
            Claim::Release => patch_owners(client, &*object, &reference.uid, None).await?,
            Claim::Ignore => {}
        }
    }
    if !orphans.is_empty() && still_there.await? {
        for object in orphans {
            debug!(kind = %K::kind(&K::DynamicType::default()), name = object.name_any(), "adopting");
            match patch_owners(client, &*object, &reference.uid, Some(&reference)).await {
                Ok(()) => mine.push(object),
                Err(error) => debug!(error = chain(&error), "not adopted"),
            }
        }
    }
    Ok(mine)
}

/// Replaces the reference to `uid` by `reference` (or by nothing).
async fn patch_owners<K>(client: &Client, object: &K, uid: &str, reference: Option<&OwnerReference>) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let others = object.owner_references().iter().filter(|owner| owner.uid != uid);
    let owners: Vec<&OwnerReference> = others.chain(reference).collect();
    let patch = json!({"metadata": {
        "ownerReferences": owners,
        "uid": object.uid(),
        "resourceVersion": object.resource_version(),
    }});
    let namespace = object.namespace().unwrap_or_default();
    let objects: Api<K> = Api::namespaced(client.clone(), &namespace);
    let result = objects.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
    match result {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) && reference.is_none() => Ok(()),
        Err(error) => Err(api("changing owners of", object.name_any())(error)),
    }
}
