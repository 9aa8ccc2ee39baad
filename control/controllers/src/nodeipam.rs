//! node-ipam-controller: gives every node a Pod network out of the cluster's.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tracing::info;

use crate::context::{Context, Requeue};
use crate::error::{ControllerError, Result, api, is_not_found};
use crate::events::Recorder;
use crate::expectations::Expectations;
use crate::informer::Key;
use crate::queue::Queue;

struct Controller {
    context: Arc<Context>,
    recorder: Recorder,
    written: Expectations,
}

pub(crate) fn start(context: &Arc<Context>) {
    if context.config.cluster_cidrs.is_empty() {
        return;
    }
    let queue = Arc::new(Queue::new());
    let of_nodes = Arc::clone(&queue);
    context.informers.nodes.on_change(move |change| {
        if let Some(node) = change.new.filter(|n| pod_cidrs(n).is_empty()) {
            of_nodes.add(Key::new("", node.name_any()));
        }
    });
    let controller = Arc::new(Controller {
        context: Arc::clone(context),
        recorder: context.recorders.component("cidrAllocator"),
        written: Expectations::default(),
    });
    let cache = Arc::clone(&context.informers.nodes);
    let ready = async move { cache.synced().await };
    // One worker: two must not find the same network free.
    context.spawn_workers("node-ipam-controller", 1, &queue, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

fn pod_cidrs(node: &Node) -> Vec<IpNetwork> {
    let spec = node.spec.as_ref();
    let many = spec.and_then(|s| s.pod_cidrs.as_deref()).unwrap_or_default();
    let one = spec.and_then(|s| s.pod_cidr.as_ref());
    many.iter().chain(one).filter_map(|cidr| cidr.parse().ok()).collect()
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The first network of `prefix` bits in `cluster` that overlaps none of `used`.
fn first_free(cluster: IpNetwork, prefix: u8, used: &[IpNetwork]) -> Option<IpNetwork> {
    let width: u8 = if cluster.is_ipv4() { 32 } else { 128 };
    if prefix < cluster.prefix() || prefix > width {
        return None;
    }
    let size = 1_u128.checked_shl(u32::from(width - prefix))?;
    let base = bits(cluster.network());
    let shift = u32::from(width - prefix);
    // Which of the cluster's networks are touched by a used one; a larger one touches several.
    let mut taken = HashSet::new();
    let count = 1_u128.checked_shl(u32::from(prefix - cluster.prefix())).unwrap_or(u128::MAX);
    for net in used.iter().filter(|net| net.is_ipv4() == cluster.is_ipv4()) {
        let first = bits(net.network());
        if net.prefix() <= prefix && cluster.contains(net.network()) {
            let covers = 1_u128.checked_shl(u32::from(prefix - net.prefix())).unwrap_or(u128::MAX);
            let start = (first - base) >> shift;
            taken.extend((0..covers.min(count)).map(|n| start + n));
        } else if cluster.contains(net.network()) {
            taken.insert((first - base) >> shift);
        }
    }
    // One more candidate than there are taken ones is enough.
    let tries = count.min(u128::try_from(taken.len()).unwrap_or(u128::MAX).saturating_add(1));
    let index = (0..tries).find(|index| !taken.contains(index))?;
    let address = base.checked_add(index.checked_mul(size)?)?;
    let ip = if cluster.is_ipv4() {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(address).ok()?))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(address))
    };
    IpNetwork::new(ip, prefix).ok()
}

impl Controller {
    async fn sync(&self, key: &Key) -> Result<Requeue> {
        let cache = &self.context.informers.nodes;
        // One memory for all nodes: the next allocation must see the last.
        let ledger = Key::new("", "");
        self.written.settled(&ledger, cache).await?;
        let Some(node) = cache.get(key).filter(|n| pod_cidrs(n).is_empty()) else { return Ok(None) };
        let used: Vec<IpNetwork> = cache.list().iter().flat_map(|n| pod_cidrs(n)).collect();
        let config = &self.context.config;
        let mut given = Vec::new();
        for cluster in &config.cluster_cidrs {
            let prefix = if cluster.is_ipv4() { config.node_cidr_mask_v4 } else { config.node_cidr_mask_v6 };
            let Some(free) = first_free(*cluster, prefix, &used) else {
                let text = format!("Node {key} status is now: CIDRNotAvailable");
                self.recorder.warning(&*node, "CIDRNotAvailable", text);
                return Err(ControllerError::Object {
                    what: format!("node {key}"),
                    detail: format!("no network of /{prefix} is left in {cluster}"),
                });
            };
            given.push(free.to_string());
        }
        let patch = json!({"spec": {"podCIDR": given.first(), "podCIDRs": given}});
        let nodes: Api<Node> = Api::all(self.context.client.clone());
        match nodes.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(changed) => self.written.wrote(&ledger, cache, &changed),
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(error) => return Err(api("giving a pod network to node", key)(error)),
        }
        info!(node = %key, networks = ?given, "pod network given");
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cluster: &str, prefix: u8, used: &[&str], expect: Option<&str>) {
        let used: Vec<IpNetwork> = used.iter().map(|u| u.parse().unwrap()).collect();
        let free = first_free(cluster.parse().unwrap(), prefix, &used).map(|n| n.to_string());
        assert_eq!(free.as_deref(), expect, "{cluster} /{prefix} {used:?}");
    }

    #[test]
    fn networks() {
        check("10.244.0.0/16", 24, &[], Some("10.244.0.0/24"));
        check("10.244.0.0/16", 24, &["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24"));
        check("10.244.0.0/16", 24, &["10.244.0.0/22", "192.168.0.0/24"], Some("10.244.4.0/24"));
        check("10.244.0.0/24", 24, &["10.244.0.0/24"], None);
        check("10.244.0.0/24", 16, &[], None);
        check("10.244.0.0/24", 25, &["10.244.0.128/26"], Some("10.244.0.0/25"));
        check("fd00:10:244::/48", 64, &["fd00:10:244::/64"], Some("fd00:10:244:1::/64"));
        check("fd00::/8", 64, &[], Some("fd00::/64"));
    }
}
