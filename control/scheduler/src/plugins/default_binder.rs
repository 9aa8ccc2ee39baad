//! DefaultBinder: `POST pods/binding`.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cache::PodInfo;
use crate::framework::{Bind, Plugin};

pub struct DefaultBinder {
    client: Client,
}

impl DefaultBinder {
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }
}

#[async_trait]
impl Bind for DefaultBinder {
    async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        // The UID keeps a Pod that was re-created under the same name from being bound.
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "namespace": pod.namespace, "name": pod.name, "uid": pod.uid },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let _: Value = pods.create_subresource("binding", &pod.name, &PostParams::default(), &binding).await?;
        Ok(())
    }
}
