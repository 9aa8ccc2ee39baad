//! What pods and containers are granted: pure conversions from their specs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use orlop_host::cgroup::Limits;

use super::pod_resources::limit_declared_everywhere;
use super::{
    ContainerManagerConfig, ContainerResources, QosClass, cpu_quota, cpu_shares, milli_value, pod_limits, pod_requests,
    qos_class, value,
};

/// `oom_score_adj` of the sandbox (pause) process.
pub const SANDBOX_OOM_SCORE_ADJ: i64 = -998;
const GUARANTEED_OOM_SCORE_ADJ: i64 = -997;
const BEST_EFFORT_OOM_SCORE_ADJ: i64 = 1000;
/// Pods of this priority and above are critical to the node: `system-node-critical` and beyond.
const NODE_CRITICAL_PRIORITY: i32 = 2_000_001_000;

/// Limits of the pod's own cgroup.
pub(super) fn pod_grant(pod: &Pod, config: &ContainerManagerConfig) -> Limits {
    let requests = pod_requests(pod);
    let limits = pod_limits(pod);
    let get = |list: &BTreeMap<String, i64>, name: &str| list.get(name).copied().unwrap_or(0);
    let period = config.cpu_cfs_quota_period_us;
    let quota = if config.cpu_cfs_quota { cpu_quota(get(&limits, "cpu"), period) } else { -1 };
    let mut grant = Limits {
        cpu_shares: Some(cpu_shares(get(&requests, "cpu"))),
        pids: (config.pod_pids_limit > 0).then_some(config.pod_pids_limit),
        huge_pages: requests
            .iter()
            .filter_map(|(name, amount)| Some((huge_page_size(name)?, u64::try_from(*amount).ok()?)))
            .collect(),
        ..Limits::default()
    };
    match qos_class(pod) {
        QosClass::BestEffort => grant.cpu_shares = Some(cpu_shares(0)),
        class => {
            let whole = class == QosClass::Guaranteed;
            if whole || limit_declared_everywhere(pod, "cpu") {
                grant.cpu_quota_us = Some(quota);
                grant.cpu_period_us = Some(period);
            }
            if whole || limit_declared_everywhere(pod, "memory") {
                grant.memory_bytes = Some(get(&limits, "memory"));
            }
        }
    }
    grant
}

/// What CRI is told for one container.
pub(super) fn container_grant(
    pod: &Pod,
    container: &Container,
    config: &ContainerManagerConfig,
    memory_capacity: i64,
    unified_cgroup: bool,
) -> ContainerResources {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|r| r.requests.as_ref());
    let limits = resources.and_then(|r| r.limits.as_ref());
    let milli = |list: Option<&BTreeMap<String, Quantity>>| list.and_then(|l| l.get("cpu")).map(milli_value);
    let request = match (milli(requests), milli(limits)) {
        // A limit without a request is a request of that size.
        (None, Some(limit)) => limit,
        (request, _) => request.unwrap_or(0),
    };
    let pod_limits = pod.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.limits.as_ref());
    // A container without a limit of its own is bounded by the pod's (KEP-2837).
    let cpu_limit = milli(limits).or_else(|| milli(pod_limits)).unwrap_or(0);
    let memory = |list: Option<&BTreeMap<String, Quantity>>| list.and_then(|l| l.get("memory")).map(value);
    let memory_limit = memory(limits).or_else(|| memory(pod_limits)).unwrap_or(0);
    let period = i64::try_from(config.cpu_cfs_quota_period_us).unwrap_or(100_000);
    let mut grant = ContainerResources {
        cpu_shares: i64::try_from(cpu_shares(request)).unwrap_or(i64::MAX),
        memory_limit_in_bytes: memory_limit,
        oom_score_adj: oom_score_adj(pod, container, memory_capacity),
        hugepage_limits: limits
            .into_iter()
            .flatten()
            .filter_map(|(name, q)| Some((huge_page_size(name)?, u64::try_from(value(q)).ok()?)))
            .map(|(size, bytes)| (huge_page_name(size), bytes))
            .collect(),
        ..ContainerResources::default()
    };
    if config.cpu_cfs_quota {
        grant.cpu_quota = cpu_quota(cpu_limit, config.cpu_cfs_quota_period_us);
        grant.cpu_period = period;
    }
    if unified_cgroup {
        // One process over the limit takes the container down as a whole, as upstream does since 1.28.
        grant.unified.insert("memory.oom.group".to_owned(), "1".to_owned());
        // NoSwap, the default behaviour: the swap ceiling equals the memory ceiling in CRI's terms.
        grant.memory_swap_limit_in_bytes = memory_limit;
    }
    grant
}

/// The kernel kills the highest score first.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    let spec = pod.spec.as_ref();
    if spec.and_then(|s| s.priority).is_some_and(|p| p >= NODE_CRITICAL_PRIORITY) {
        return GUARANTEED_OOM_SCORE_ADJ;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => return GUARANTEED_OOM_SCORE_ADJ,
        QosClass::BestEffort => return BEST_EFFORT_OOM_SCORE_ADJ,
        QosClass::Burstable => {}
    }
    let capacity = i128::from(memory_capacity.max(1));
    let score = |bytes: i64| i64::try_from(1000 - 1000 * i128::from(bytes) / capacity).unwrap_or(0);
    let shared = pod_level_share(pod);
    let mut adjust = score(memory_request(container).saturating_add(shared));
    if is_sidecar(pod, container) {
        let least = spec.and_then(|s| s.containers.iter().map(memory_request).min()).unwrap_or(0);
        adjust = adjust.min(score(least.saturating_add(shared)));
    }
    adjust.clamp(1000 + GUARANTEED_OOM_SCORE_ADJ, BEST_EFFORT_OOM_SCORE_ADJ - 1)
}

/// What the pod asks for beyond its containers, shared out among them (KEP-2837).
fn pod_level_share(pod: &Pod) -> i64 {
    let Some(spec) = &pod.spec else { return 0 };
    let asked = spec.resources.as_ref().and_then(|r| r.requests.as_ref()?.get("memory")).map(value);
    let Some(asked) = asked else { return 0 };
    let containers = || {
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        spec.containers.iter().chain(sidecars)
    };
    let used = containers().map(memory_request).fold(0, i64::saturating_add);
    let count = i64::try_from(containers().count()).unwrap_or(i64::MAX).max(1);
    asked.saturating_sub(used).max(0) / count
}

fn memory_request(container: &Container) -> i64 {
    container.resources.as_ref().and_then(|r| r.requests.as_ref()?.get("memory")).map_or(0, value)
}

fn is_sidecar(pod: &Pod, container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
        && pod.spec.as_ref().is_some_and(|s| s.init_containers.iter().flatten().any(|c| c.name == container.name))
}

/// `hugepages-2Mi` to bytes.
pub(super) fn huge_page_size(resource: &str) -> Option<u64> {
    let size = resource.strip_prefix("hugepages-")?;
    u64::try_from(value(&Quantity(size.to_owned()))).ok().filter(|size| *size > 0)
}

fn huge_page_name(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
