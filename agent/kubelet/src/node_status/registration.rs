//! Making the Node object, or adopting the one that is there.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tracing::{info, warn};

use super::NodeStatusContext;

/// Attach/detach is the controller's work, not the kubelet's.
const CONTROLLER_MANAGED_ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(7);

/// Labels that every node has.
pub fn default_labels(hostname: &str, architecture: &str) -> BTreeMap<String, String> {
    [
        ("beta.kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("kubernetes.io/hostname", hostname),
        ("kubernetes.io/os", "linux"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Registers, trying until it works. What the API server holds then; none where registration is off and there is no node.
pub(super) async fn register(context: &NodeStatusContext, api: &Api<Node>, status: &NodeStatus) -> Option<Node> {
    if !context.register_node {
        return api.get_opt(&context.node_name).await.ok().flatten();
    }
    let node = initial_node(context, status);
    let mut backoff = FIRST_BACKOFF;
    loop {
        match register_once(context, api, &node).await {
            Ok(node) => return Some(node),
            Err(error) => {
                warn!(%error, node = context.node_name, "could not register the node; trying again");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }
}

fn initial_node(context: &NodeStatusContext, status: &NodeStatus) -> Node {
    let mut labels = default_labels(&context.hostname, orlop_host::machine::identity().architecture);
    labels.extend(context.labels.clone());
    Node {
        metadata: ObjectMeta {
            name: Some(context.node_name.clone()),
            labels: Some(labels),
            annotations: Some([(CONTROLLER_MANAGED_ATTACH.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!context.taints.is_empty()).then(|| context.taints.clone()),
            provider_id: context.provider_id.clone(),
            ..NodeSpec::default()
        }),
        status: Some(status.clone()),
    }
}

async fn register_once(context: &NodeStatusContext, api: &Api<Node>, node: &Node) -> Result<Node, kube::Error> {
    match api.create(&PostParams::default(), node).await {
        Ok(created) => {
            info!(node = context.node_name, "node registered");
            Ok(created)
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let existing = api.get(&context.node_name).await?;
            match reconcile(&existing, node) {
                None => Ok(existing),
                Some(patch) => {
                    info!(node = context.node_name, "node was registered before; labels reconciled");
                    let params = PatchParams::default();
                    api.patch(&context.node_name, &params, &Patch::Merge(patch)).await
                }
            }
        }
        Err(error) => Err(error),
    }
}

/// A patch that gives an existing node our labels and annotation; none if it has them. Taints are only for new nodes.
fn reconcile(existing: &Node, wanted: &Node) -> Option<serde_json::Value> {
    let missing = |have: Option<&BTreeMap<String, String>>, want: Option<&BTreeMap<String, String>>| {
        let differs = |(key, value): &(&String, &String)| have.and_then(|h| h.get(*key)) != Some(*value);
        want.into_iter().flatten().filter(differs).map(|(k, v)| (k.clone(), v.clone())).collect::<BTreeMap<_, _>>()
    };
    let labels = missing(existing.metadata.labels.as_ref(), wanted.metadata.labels.as_ref());
    let annotations = missing(existing.metadata.annotations.as_ref(), wanted.metadata.annotations.as_ref());
    if labels.is_empty() && annotations.is_empty() {
        return None;
    }
    Some(json!({ "metadata": { "labels": labels, "annotations": annotations } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_node_gets_what_it_lacks_and_keeps_the_rest() {
        let node = |labels: serde_json::Value| -> Node {
            serde_json::from_value(json!({ "metadata": { "name": "n", "labels": labels } })).unwrap()
        };
        let wanted = node(json!({ "a": "1", "b": "2" }));
        assert_eq!(reconcile(&node(json!({ "a": "1", "b": "2", "theirs": "x" })), &wanted), None);
        let patch = reconcile(&node(json!({ "a": "old", "theirs": "x" })), &wanted).unwrap();
        assert_eq!(patch["metadata"]["labels"], json!({ "a": "1", "b": "2" }));
    }
}
