//! node-lifecycle-controller: notices silent nodes, and says by taints what is wrong with a node.
//!
//! ```text
//! Lease or Ready condition renewed ─► heard(node) = now
//! Node change, or heard + grace over ─► queue ─► silent? conditions Unknown, Pods not ready
//!                                                 └► taints: NoSchedule by condition; NoExecute, slowly
//! ```
//! The local clock decides: a node is judged by when its sign of life arrived, not by its own clock.

mod decide;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::context::{Context, Requeue};
use crate::error::{Result, api, is_conflict, is_not_found};
use crate::events::Recorder;
use crate::informer::Key;
use crate::pods;
use crate::queue::Queue;
use decide::{Disruption, Eviction, ReadyState};

pub(crate) const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Nodes per second that are given up (upstream's `--node-eviction-rate`), as the time between two.
const EVICTION_PAUSE: Duration = Duration::from_secs(10);
/// The same in a large zone of which most nodes are lost.
const SLOW_EVICTION_PAUSE: Duration = Duration::from_secs(100);

struct Controller {
    context: Arc<Context>,
    recorder: Recorder,
    queue: Arc<Queue<Key>>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// When a node's last sign of life arrived.
    heard: HashMap<String, Instant>,
    /// When the next node of a zone may be given up.
    next_eviction: HashMap<String, Instant>,
    all_lost: bool,
}

pub(crate) fn start(context: &Arc<Context>) {
    let queue = Arc::new(Queue::new());
    let controller = Arc::new(Controller {
        context: Arc::clone(context),
        recorder: context.recorders.component("node-controller"),
        queue: Arc::clone(&queue),
        memory: Mutex::default(),
    });
    let informers = &context.informers;
    let of_nodes = Arc::clone(&controller);
    informers.nodes.on_change(move |change| {
        let Some(node) = change.latest() else { return };
        let name = node.name_any();
        match (change.old, change.new) {
            (None, Some(new)) => {
                of_nodes.lock().heard.insert(name.clone(), Instant::now());
                let text = format!("Node {name} event: Registered Node {name} in Controller");
                of_nodes.recorder.normal(&**new, "RegisteredNode", text);
            }
            (Some(old), None) => {
                of_nodes.lock().heard.remove(&name);
                let text = format!("Node {name} event: Removing Node {name} from Controller");
                of_nodes.recorder.normal(&**old, "RemovingNode", text);
            }
            (Some(old), Some(new)) => {
                if decide::heartbeat(old) != decide::heartbeat(new) {
                    of_nodes.lock().heard.insert(name.clone(), Instant::now());
                }
            }
            (None, None) => {}
        }
        of_nodes.queue.add(Key::new("", name));
    });
    let of_leases = Arc::clone(&controller);
    informers.node_leases.on_change(move |change| {
        let Some(lease) = change.new else { return };
        let renewed =
            |l: &k8s_openapi::api::coordination::v1::Lease| l.spec.as_ref().and_then(|s| s.renew_time.clone());
        if change.old.is_none_or(|old| renewed(old) != renewed(lease)) {
            // The node's timer reads this when it fires; nothing else is to be done.
            of_leases.lock().heard.insert(lease.name_any(), Instant::now());
        }
    });
    let synced = Arc::clone(context);
    let ready = async move {
        synced.informers.nodes.synced().await;
        synced.informers.node_leases.synced().await;
        synced.informers.pods.synced().await;
    };
    context.spawn_workers("node-lifecycle-controller", 4, &queue, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

impl Controller {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sync(&self, key: &Key) -> Result<Requeue> {
        let Some(node) = self.context.informers.nodes.get(key) else { return Ok(None) };
        let config = &self.context.config;
        let grace = match decide::ready_state(&node) {
            ReadyState::NeverReported => config.node_startup_grace_period,
            _ => config.node_monitor_grace_period,
        };
        let heard = *self.lock().heard.entry(key.name.clone()).or_insert_with(Instant::now);
        let silent = heard.elapsed() >= grace;
        if silent && self.mark_silent(&node).await? {
            // The change comes back with the next event.
            return Ok(None);
        }
        if decide::ready_state(&node) != ReadyState::Ready {
            self.mark_pods(&node).await?;
        }
        let wait = self.taint(&node).await?;
        // A ready node is looked at when its grace would be over; a lost one by its next event.
        let judge = (!silent).then(|| (heard + grace).saturating_duration_since(Instant::now()));
        let judge = judge.map(|left| left + Duration::from_millis(10));
        Ok(match (judge, wait) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        })
    }

    /// Sets the conditions that only the kubelet could know to Unknown. `true`: something was written.
    async fn mark_silent(&self, node: &Node) -> Result<bool> {
        let Some(conditions) = decide::silent_conditions(node, self.context.now()) else {
            return Ok(false);
        };
        let name = node.name_any();
        let mut changed = node.clone();
        changed.status.get_or_insert_default().conditions = Some(conditions);
        let nodes: Api<Node> = Api::all(self.context.client.clone());
        match nodes.replace_status(&name, &PostParams::default(), &changed).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => return Ok(true),
            Err(error) => return Err(api("writing the status of node", name)(error)),
        }
        warn!(node = name, "no sign of life; its conditions are unknown now");
        if decide::ready_state(node) == ReadyState::Ready {
            let text = format!("Node {name} status is now: NodeNotReady");
            self.recorder.normal(node, "NodeNotReady", text);
        }
        Ok(true)
    }

    /// Pods of a node that is not ready serve nobody; their endpoints must know.
    async fn mark_pods(&self, node: &Node) -> Result<()> {
        let name = node.name_any();
        let unknown = decide::ready_state(node) == ReadyState::Unknown;
        for pod in self.context.informers.pods.list() {
            if !unknown || pods::node_name(&pod) != name || !pods::is_ready(&pod) {
                continue;
            }
            let mut changed = (*pod).clone();
            for condition in changed.status.iter_mut().filter_map(|s| s.conditions.as_mut()).flatten() {
                if condition.type_ == "Ready" {
                    condition.status = "False".to_owned();
                    condition.last_transition_time = Some(self.context.now().into());
                }
            }
            let api_pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &pod.namespace().unwrap_or_default());
            match api_pods.replace_status(&pod.name_any(), &PostParams::default(), &changed).await {
                Ok(_) => self.recorder.warning(&*pod, "NodeNotReady", "Node is not ready"),
                Err(error) if is_not_found(&error) || is_conflict(&error) => {}
                Err(error) => return Err(api("marking not ready pod", pod.name_any())(error)),
            }
        }
        Ok(())
    }

    async fn taint(&self, node: &Node) -> Result<Option<Duration>> {
        let all = self.context.informers.nodes.list();
        let disruption = decide::disruption(&all);
        self.note_disruption(&disruption, &all);
        let zone = decide::zone_of(node);
        let (eviction, wait) = self.may_evict(node, &zone, &disruption);
        let Some(taints) = decide::taints(node, eviction, self.context.now()) else {
            return Ok(wait);
        };
        let name = node.name_any();
        info!(node = name, taints = ?taints.iter().map(|t| format!("{}:{}", t.key, t.effect)).collect::<Vec<_>>(), "taints change");
        let patch = json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "spec": {"taints": taints},
        });
        let nodes: Api<Node> = Api::all(self.context.client.clone());
        match nodes.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(wait),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(api("tainting node", name)(error)),
        }
    }

    /// Where every node is lost it is rather this side that is cut off: nobody is given up, and all
    /// get a new grace when the first comes back.
    fn note_disruption(&self, disruption: &Disruption, all: &[Arc<Node>]) {
        let mut memory = self.lock();
        if memory.all_lost == disruption.all_lost {
            return;
        }
        memory.all_lost = disruption.all_lost;
        if !disruption.all_lost {
            let now = Instant::now();
            memory.heard.values_mut().for_each(|heard| *heard = now);
        }
        drop(memory);
        for node in all {
            self.queue.add(Key::new("", node.name_any()));
        }
    }

    fn may_evict(&self, node: &Node, zone: &str, disruption: &Disruption) -> (Eviction, Option<Duration>) {
        if disruption.all_lost {
            return (Eviction::Withdraw, None);
        }
        if decide::ready_state(node) == ReadyState::Ready || decide::is_given_up(node) {
            return (Eviction::Allowed, None);
        }
        let pause = match disruption.zone(zone) {
            decide::ZoneState::Normal | decide::ZoneState::Full => EVICTION_PAUSE,
            decide::ZoneState::PartialLarge => SLOW_EVICTION_PAUSE,
            decide::ZoneState::PartialSmall => return (Eviction::Hold, None),
        };
        let now = Instant::now();
        let mut memory = self.lock();
        let next = memory.next_eviction.entry(zone.to_owned()).or_insert(now);
        if *next > now {
            return (Eviction::Hold, Some(*next - now));
        }
        *next = now + pause;
        (Eviction::Allowed, None)
    }
}
