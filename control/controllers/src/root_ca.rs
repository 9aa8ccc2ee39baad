//! root-ca-certificate-publisher-controller: the cluster's CA, as ConfigMap `kube-root-ca.crt` in every namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::context::{Context, Requeue};
use crate::error::{Result, api, is_already_exists, is_namespace_terminating, is_not_found};
use crate::informer::Key;
use crate::queue::Queue;

pub(crate) const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

pub(crate) fn start(context: &Arc<Context>) {
    if context.config.root_ca_pem.is_empty() {
        return;
    }
    let queue = Arc::new(Queue::new());
    let informers = &context.informers;
    let namespaces = Arc::clone(&queue);
    informers.namespaces.on_change(move |change| {
        if let Some(namespace) = change.new {
            namespaces.add(Key::new("", namespace.metadata.name.clone().unwrap_or_default()));
        }
    });
    let maps = Arc::clone(&queue);
    informers.root_cas.on_change(move |change| {
        if let Some(map) = change.latest() {
            maps.add(Key::new("", map.metadata.namespace.clone().unwrap_or_default()));
        }
    });
    let (namespaces, maps) = (Arc::clone(&informers.namespaces), Arc::clone(&informers.root_cas));
    let ready = async move {
        namespaces.synced().await;
        maps.synced().await;
    };
    let shared = Arc::clone(context);
    context.spawn_workers("root-ca-cert-publisher", 2, &queue, ready, move |key| {
        let context = Arc::clone(&shared);
        async move { sync(&context, &key).await }
    });
}

async fn sync(context: &Context, key: &Key) -> Result<Requeue> {
    let alive = context.informers.namespaces.get(key);
    if alive.is_none_or(|n| n.metadata.deletion_timestamp.is_some()) {
        return Ok(None);
    }
    let data = BTreeMap::from([("ca.crt".to_owned(), context.config.root_ca_pem.clone())]);
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.name);
    let found = context.informers.root_cas.get(&Key::new(&key.name, NAME));
    let result = match found {
        None => {
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    annotations: Some(BTreeMap::from([(DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned())])),
                    ..ObjectMeta::default()
                },
                data: Some(data),
                ..ConfigMap::default()
            };
            maps.create(&PostParams::default(), &map).await
        }
        Some(map) if map.data.as_ref() == Some(&data) => return Ok(None),
        Some(_) => {
            let patch = json!({"metadata": {"annotations": {DESCRIPTION: DESCRIPTION_TEXT}}, "data": data});
            maps.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await
        }
    };
    match result {
        Ok(_) => Ok(None),
        Err(e) if is_already_exists(&e) || is_not_found(&e) || is_namespace_terminating(&e) => Ok(None),
        Err(error) => Err(api("publishing the root CA in", &key.name)(error)),
    }
}
