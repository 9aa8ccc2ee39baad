//! Which resources the server has, asked of its discovery, and plain metadata calls on any of them.

use kube::Client;
use kube::discovery::{ApiResource, Discovery, Scope};
use kube::{Api, core::DynamicObject};

use crate::error::{Result, api};

/// A listable resource of the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AnyResource {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    pub(crate) deletecollection: bool,
    pub(crate) watchable: bool,
}

impl AnyResource {
    /// The resource's objects, as dynamic objects; `namespace` is left aside for cluster resources.
    pub(crate) fn api(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced && !namespace.is_empty() {
            Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }

    /// `resource.group`, as messages name it.
    pub(crate) fn qualified(&self) -> String {
        if self.resource.group.is_empty() {
            self.resource.plural.clone()
        } else {
            format!("{}.{}", self.resource.plural, self.resource.group)
        }
    }
}

/// Every resource that can be listed and deleted, in the version that the server prefers.
pub(crate) async fn discover(client: &Client) -> Result<Vec<AnyResource>> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await.map_err(api("discovering", "resources"));
    let discovery = match discovery {
        Ok(discovery) => discovery,
        Err(_) => Discovery::new(client.clone()).run().await.map_err(api("discovering", "resources"))?,
    };
    let mut found = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let can = |verb: &str| capabilities.operations.iter().any(|v| v == verb);
            if can("list") && can("delete") {
                found.push(AnyResource {
                    resource,
                    namespaced: capabilities.scope == Scope::Namespaced,
                    deletecollection: can("deletecollection"),
                    watchable: can("watch"),
                });
            }
        }
    }
    Ok(found)
}
