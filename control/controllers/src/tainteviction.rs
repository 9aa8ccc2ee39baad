//! taint-eviction-controller: Pods leave nodes with NoExecute taints that they don't tolerate, or
//! once they have tolerated them long enough.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kube::ResourceExt;

use crate::context::{Context, Requeue};
use crate::error::Result;
use crate::events::Recorder;
use crate::informer::Key;
use crate::pods;
use crate::queue::Queue;

struct Controller {
    context: Arc<Context>,
    recorder: Recorder,
    /// Pods that were found to have to go later; for telling when they no longer have to.
    waiting: Mutex<HashSet<Key>>,
}

/// When a Pod has to go.
#[derive(Debug, PartialEq)]
enum Decision {
    Stay,
    GoAt(Timestamp),
}

fn no_execute(node: &Node) -> Vec<&Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|t| t.effect == "NoExecute").collect()
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty_or = |field: &Option<String>, value: &str| field.as_deref().is_none_or(|f| f.is_empty() || f == value);
    if !empty_or(&toleration.effect, &taint.effect) || !empty_or(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    }
}

/// Each taint gives a time; the first of them counts. `now` stands for taints without a time.
fn decide(taints: &[&Taint], tolerations: &[Toleration], now: Timestamp) -> Decision {
    let mut earliest: Option<Timestamp> = None;
    for taint in taints {
        let since = taint.time_added.as_ref().map_or(now, |t| t.0);
        let matching: Vec<_> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        let at = if matching.is_empty() {
            now
        } else {
            match matching.iter().filter_map(|t| t.toleration_seconds).min() {
                None => continue,
                Some(seconds) => since.checked_add(SignedDuration::from_secs(seconds.max(0))).unwrap_or(Timestamp::MAX),
            }
        };
        earliest = Some(earliest.map_or(at, |e| e.min(at)));
    }
    earliest.map_or(Decision::Stay, Decision::GoAt)
}

pub(crate) fn start(context: &Arc<Context>) {
    let queue = Arc::new(Queue::new());
    let informers = &context.informers;
    let of_pods = Arc::clone(&queue);
    informers.pods.on_change(move |change| {
        let place = |pod: &Pod| {
            let spec = pod.spec.as_ref();
            (pods::node_name(pod).to_owned(), spec.and_then(|s| s.tolerations.clone()))
        };
        let Some(new) = change.new else { return };
        if !pods::node_name(new).is_empty() && change.old.is_none_or(|old| place(old) != place(new)) {
            of_pods.add(Key::of(&**new));
        }
    });
    let (of_nodes, cache) = (Arc::clone(&queue), Arc::clone(&informers.pods));
    informers.nodes.on_change(move |change| {
        let taints = |node: Option<&Arc<Node>>| -> Vec<Taint> {
            node.map(|n| no_execute(n).into_iter().cloned().collect()).unwrap_or_default()
        };
        let Some(node) = change.new.filter(|_| taints(change.old) != taints(change.new)) else { return };
        let name = node.name_any();
        for pod in cache.list().iter().filter(|pod| pods::node_name(pod) == name) {
            of_nodes.add(Key::of(&**pod));
        }
    });
    let controller = Arc::new(Controller {
        context: Arc::clone(context),
        recorder: context.recorders.component("taint-eviction-controller"),
        waiting: Mutex::default(),
    });
    let synced = Arc::clone(context);
    let ready = async move {
        synced.informers.nodes.synced().await;
        synced.informers.pods.synced().await;
    };
    context.spawn_workers("taint-eviction-controller", 8, &queue, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

impl Controller {
    async fn sync(&self, key: &Key) -> Result<Requeue> {
        let informers = &self.context.informers;
        let pod = informers.pods.get(key).filter(|p| p.metadata.deletion_timestamp.is_none());
        let Some(pod) = pod else {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Ok(None);
        };
        let node = informers.nodes.get(&Key::new("", pods::node_name(&pod)));
        let taints = node.as_deref().map(no_execute).unwrap_or_default();
        let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
        let now = self.context.now();
        let at = match decide(&taints, tolerations, now) {
            Decision::Stay => {
                if self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(key) {
                    let text = format!("Cancelling deletion of Pod {key}");
                    self.recorder.normal(&*pod, "TaintManagerEviction", text);
                }
                return Ok(None);
            }
            Decision::GoAt(at) => at,
        };
        if at > now {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
            let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            return Ok(Some(left + Duration::from_millis(10)));
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let text = format!("Marking for deletion Pod {key}");
        self.recorder.normal(&*pod, "TaintManagerEviction", text);
        let message = "Taint manager: deleting due to NoExecute taint";
        pods::disrupt(&self.context.client, &pod, "DeletionByTaintManager", message, now).await?;
        pods::remove(&self.context.client, &pod, None).await?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn when_pods_go() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let taint = |key: &str| json!({"key": key, "effect": "NoExecute", "timeAdded": "2026-01-01T11:58:00Z"});
        let at = |text: &str| Decision::GoAt(format!("2026-01-01T{text}Z").parse().unwrap());
        for (what, taints, tolerations, expect) in [
            ("no taint", json!([]), json!([]), Decision::Stay),
            ("not tolerated", json!([taint("a")]), json!([]), at("12:00:00")),
            ("for ever", json!([taint("a")]), json!([{"operator": "Exists"}]), Decision::Stay),
            (
                "for a time",
                json!([taint("a")]),
                json!([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]),
                at("12:03:00"),
            ),
            (
                "the shortest",
                json!([taint("a")]),
                json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300}, {"operator": "Exists", "tolerationSeconds": 60}]),
                at("11:59:00"),
            ),
            ("another key", json!([taint("a")]), json!([{"key": "b", "operator": "Exists"}]), at("12:00:00")),
            ("another value", json!([taint("a")]), json!([{"key": "a", "value": "x"}]), at("12:00:00")),
            ("another effect", json!([taint("a")]), json!([{"key": "a", "effect": "NoSchedule"}]), at("12:00:00")),
            ("one of two", json!([taint("a"), taint("b")]), json!([{"key": "a"}]), at("12:00:00")),
            (
                "two times",
                json!([taint("a"), taint("b")]),
                json!([{"key": "a", "tolerationSeconds": 600}, {"key": "b", "tolerationSeconds": 300}]),
                at("12:03:00"),
            ),
        ] {
            let taints: Vec<Taint> = serde_json::from_value(taints).unwrap();
            let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
            let taints: Vec<&Taint> = taints.iter().collect();
            assert_eq!(decide(&taints, &tolerations, now), expect, "{what}");
        }
    }
}
