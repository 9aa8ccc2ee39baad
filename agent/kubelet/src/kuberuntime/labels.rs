//! Labels and annotations of sandboxes and containers, and the container hash: upstream's, so that
//! pods are taken over from an upstream kubelet and by one.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pod::PodExt;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const PRE_STOP_HANDLER: &str = "io.kubernetes.container.preStopHandler";
pub const PORTS: &str = "io.kubernetes.container.ports";
pub const POD_DELETION_GRACE_PERIOD: &str = "io.kubernetes.pod.deletionGracePeriod";
pub const POD_TERMINATION_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Labels of a sandbox: the pod's own, and the three that identify it.
#[must_use]
pub fn sandbox_labels(pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(identity(pod));
    labels
}

/// Labels of a container.
#[must_use]
pub fn container_labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = identity(pod).collect();
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    labels
}

fn identity(pod: &Pod) -> impl Iterator<Item = (String, String)> {
    [(POD_NAME, pod.name_str()), (POD_NAMESPACE, pod.namespace_str()), (POD_UID, pod.uid_str())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into_iter()
}

/// Annotations of a container: what the kubelet must know of it after a restart.
#[must_use]
pub fn container_annotations(pod: &Pod, container: &Container, restart_count: i32) -> HashMap<String, String> {
    let mut annotations = HashMap::from([
        (HASH.to_owned(), format!("{:x}", container_hash(container))),
        (RESTART_COUNT.to_owned(), restart_count.to_string()),
        (TERMINATION_MESSAGE_PATH.to_owned(), container.termination_message_path.clone().unwrap_or_default()),
        (TERMINATION_MESSAGE_POLICY.to_owned(), container.termination_message_policy.clone().unwrap_or_default()),
    ]);
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        annotations.insert(POD_DELETION_GRACE_PERIOD.to_owned(), grace.to_string());
    }
    if let Some(grace) = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds) {
        annotations.insert(POD_TERMINATION_GRACE_PERIOD.to_owned(), grace.to_string());
    }
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref())
        && let Ok(json) = serde_json::to_string(hook)
    {
        annotations.insert(PRE_STOP_HANDLER.to_owned(), json);
    }
    if let Some(ports) = container.ports.as_ref().filter(|ports| !ports.is_empty())
        && let Ok(json) = serde_json::to_string(ports)
    {
        annotations.insert(PORTS.to_owned(), json);
    }
    annotations
}

/// Upstream's container hash: FNV-1a (32 bits) over Go's dump of the JSON of name and image.
#[must_use]
pub fn container_hash(container: &Container) -> u32 {
    let fields =
        BTreeMap::from([("image", container.image.as_deref().unwrap_or_default()), ("name", container.name.as_str())]);
    let json = go_json(&fields);
    let bytes: Vec<String> = json.bytes().map(|byte| byte.to_string()).collect();
    let dump = format!("([]uint8)[{}]", bytes.join(" "));
    dump.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// JSON as Go's encoder writes it: `<`, `>` and `&` are escaped.
fn go_json(fields: &BTreeMap<&str, &str>) -> String {
    let json = serde_json::to_string(fields).unwrap_or_default();
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_upstreams() {
        let container = Container {
            name: "test_container".into(),
            image: Some("foo/image:v1".into()),
            args: Some(vec!["ignored".into()]),
            ..Default::default()
        };
        // The value that upstream's own test pins.
        assert_eq!(container_hash(&container), 0x8e45_cbd0);
    }
}
