//! The Node's status as a pure function of what is known.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus, NodeSwapStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use orlop_api::quantity::{Format, Quantity as Amount};
use orlop_host::machine::MachineIdentity;
use serde_json::{Value, json};

use super::runtime::{ImageReport, RuntimeReport};

/// Names of one image at most; upstream's `MaxNamesPerImageInNodeStatus`.
const MAX_NAMES_PER_IMAGE: usize = 5;

/// Everything that the status is made from.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    pub(super) addresses: &'a [IpAddr],
    pub(super) hostname: &'a str,
    /// Base units, CPU in milli.
    pub(super) capacity: BTreeMap<String, i64>,
    pub(super) allocatable: BTreeMap<String, i64>,
    pub(super) identity: &'a MachineIdentity,
    pub(super) swap_bytes: u64,
    pub(super) kubelet_version: &'a str,
    pub(super) kubelet_port: u16,
    /// None: the runtime is down; the error says how.
    pub(super) runtime: Result<&'a RuntimeReport, &'a str>,
    pub(super) images: &'a [ImageReport],
    pub(super) max_images: usize,
    /// Something of our own that makes the node NotReady.
    pub(super) unhealthy: Option<String>,
    pub(super) now: Timestamp,
}

/// The status; transition times are carried over from `old` where the condition did not change.
pub(super) fn build(facts: &Facts<'_>, old: Option<&NodeStatus>) -> NodeStatus {
    let runtime = facts.runtime.ok();
    let ready = readiness(facts);
    let (ready_status, ready_reason) =
        if ready.is_empty() { ("True", "KubeletReady") } else { ("False", "KubeletNotReady") };
    let ready_message = match ready.as_slice() {
        [] => "kubelet is posting ready status".to_owned(),
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let quiet = [
        ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ];
    let mut conditions: Vec<NodeCondition> =
        quiet.iter().map(|(kind, reason, message)| condition(facts, old, kind, "False", reason, message)).collect();
    conditions.push(condition(facts, old, "Ready", ready_status, ready_reason, &ready_message));
    let swap = i64::try_from(facts.swap_bytes).ok().filter(|bytes| *bytes > 0);
    let identity = facts.identity;
    NodeStatus {
        addresses: Some(addresses(facts)),
        capacity: Some(quantities(&facts.capacity)),
        allocatable: Some(quantities(&facts.allocatable)),
        conditions: Some(conditions),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(facts.kubelet_port) }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: identity.architecture.to_owned(),
            boot_id: identity.boot_id.clone(),
            container_runtime_version: runtime.map_or_else(|| old_runtime_version(old), |r| r.version.clone()),
            kernel_version: identity.kernel_version.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: facts.kubelet_version.to_owned(),
            machine_id: identity.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: identity.os_image.clone(),
            swap: swap.map(|capacity| NodeSwapStatus { capacity: Some(capacity) }),
            system_uuid: identity.system_uuid.clone(),
        }),
        images: Some(images(facts.images, facts.max_images)),
        runtime_handlers: runtime.map(handlers).filter(|h| !h.is_empty()),
        features: runtime.map(|r| NodeFeatures { supplemental_groups_policy: Some(r.supplemental_groups_policy) }),
        ..NodeStatus::default()
    }
}

/// True if the Ready condition is.
pub(super) fn is_ready(status: &NodeStatus) -> bool {
    condition_of(status, "Ready").is_some_and(|c| c.status == "True")
}

pub(super) fn condition_of<'a>(status: &'a NodeStatus, kind: &str) -> Option<&'a NodeCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

/// True if anything but the heartbeat differs.
pub(super) fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    still(a) != still(b)
}

/// The strategic merge patch from `old` to `new`. Conditions merge by type, so those that others set stay; addresses are
/// replaced as a whole, because their merge key does not tell two of a type apart.
pub(super) fn patch(old: &NodeStatus, new: &NodeStatus) -> Value {
    let mut status = serde_json::Map::new();
    let old_json = serde_json::to_value(old).unwrap_or(Value::Null);
    let new_json = serde_json::to_value(new).unwrap_or(Value::Null);
    for (field, value) in new_json.as_object().into_iter().flatten() {
        let before = old_json.get(field);
        if before == Some(value) {
            continue;
        }
        let value = match field.as_str() {
            "addresses" => {
                let mut list = value.as_array().cloned().unwrap_or_default();
                list.push(json!({ "$patch": "replace" }));
                Value::Array(list)
            }
            "capacity" | "allocatable" | "nodeInfo" => with_removals(before, value),
            _ => value.clone(),
        };
        status.insert(field.clone(), value);
    }
    json!({ "status": status })
}

/// A map merges key by key: one that is gone has to be said so.
fn with_removals(before: Option<&Value>, value: &Value) -> Value {
    let mut value = value.clone();
    if let (Some(Value::Object(before)), Value::Object(after)) = (before, &mut value) {
        for key in before.keys() {
            if !after.contains_key(key) {
                after.insert(key.clone(), Value::Null);
            }
        }
    }
    value
}

/// Why the node is not ready; empty if it is.
fn readiness(facts: &Facts<'_>) -> Vec<String> {
    let mut errors = Vec::new();
    match facts.runtime {
        Ok(report) => {
            errors.extend(report.runtime_error.clone());
            errors.extend(report.network_error.clone());
        }
        Err(error) => errors.push(error.to_owned()),
    }
    errors.extend(facts.unhealthy.clone());
    errors
}

fn condition(
    facts: &Facts<'_>,
    old: Option<&NodeStatus>,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
) -> NodeCondition {
    let before = old.and_then(|o| condition_of(o, kind)).filter(|c| c.status == status);
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(time(facts.now)),
        last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(time(facts.now))),
    }
}

/// API times have seconds.
fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn addresses(facts: &Facts<'_>) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let mut list: Vec<_> = facts.addresses.iter().map(|ip| address("InternalIP", ip.to_string())).collect();
    list.push(address("Hostname", facts.hostname.to_owned()));
    list
}

fn quantities(resources: &BTreeMap<String, i64>) -> BTreeMap<String, Quantity> {
    let format = |name: &str, amount: i64| match name {
        "cpu" => Amount::from_milli(amount),
        _ if name == "memory" || name.starts_with("hugepages-") => Amount::from_units(amount, Format::BinarySi),
        _ => Amount::from_units(amount, Format::DecimalSi),
    };
    resources.iter().map(|(name, amount)| (name.clone(), Quantity(format(name, *amount).to_string()))).collect()
}

/// The largest first, as the scheduler's ImageLocality wants them.
fn images(images: &[ImageReport], max: usize) -> Vec<ContainerImage> {
    let mut sorted: Vec<&ImageReport> = images.iter().filter(|image| !image.names.is_empty()).collect();
    sorted.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    sorted
        .into_iter()
        .take(max)
        .map(|image| ContainerImage {
            names: Some(image.names.iter().take(MAX_NAMES_PER_IMAGE).cloned().collect()),
            size_bytes: Some(image.size_bytes),
        })
        .collect()
}

fn handlers(report: &RuntimeReport) -> Vec<NodeRuntimeHandler> {
    report
        .handlers
        .iter()
        .map(|handler| NodeRuntimeHandler {
            name: Some(handler.name.clone()),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(handler.recursive_read_only_mounts),
                user_namespaces: Some(handler.user_namespaces),
            }),
        })
        .collect()
}

fn old_runtime_version(old: Option<&NodeStatus>) -> String {
    old.and_then(|o| o.node_info.as_ref()).map(|info| info.container_runtime_version.clone()).unwrap_or_default()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
