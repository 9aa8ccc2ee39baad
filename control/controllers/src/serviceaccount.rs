//! serviceaccount-controller: every active namespace has its `default` ServiceAccount.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;

use crate::context::{Context, Requeue};
use crate::error::{Result, api, is_already_exists, is_namespace_terminating, is_not_found};
use crate::informer::Key;
use crate::queue::Queue;

const NAME: &str = "default";

pub(crate) fn start(context: &Arc<Context>) {
    let queue = Arc::new(Queue::new());
    let informers = &context.informers;
    let namespaces = Arc::clone(&queue);
    informers.namespaces.on_change(move |change| {
        if let Some(namespace) = change.new {
            namespaces.add(Key::new("", namespace.metadata.name.clone().unwrap_or_default()));
        }
    });
    let accounts = Arc::clone(&queue);
    informers.service_accounts.on_change(move |change| {
        if let (Some(account), None) = (change.old, change.new) {
            accounts.add(Key::new("", account.metadata.namespace.clone().unwrap_or_default()));
        }
    });
    let (namespaces, accounts) = (Arc::clone(&informers.namespaces), Arc::clone(&informers.service_accounts));
    let ready = async move {
        namespaces.synced().await;
        accounts.synced().await;
    };
    let shared = Arc::clone(context);
    context.spawn_workers("serviceaccount-controller", 2, &queue, ready, move |key| {
        let context = Arc::clone(&shared);
        async move { sync(&context, &key).await }
    });
}

async fn sync(context: &Context, key: &Key) -> Result<Requeue> {
    let namespace = context.informers.namespaces.get(key);
    if namespace.is_none_or(|n| n.metadata.deletion_timestamp.is_some())
        || context.informers.service_accounts.get(&Key::new(&key.name, NAME)).is_some()
    {
        return Ok(None);
    }
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &key.name);
    match accounts.create(&PostParams::default(), &account).await {
        Ok(_) => Ok(None),
        Err(e) if is_already_exists(&e) || is_not_found(&e) || is_namespace_terminating(&e) => Ok(None),
        Err(error) => Err(api("creating the default service account of", &key.name)(error)),
    }
}
