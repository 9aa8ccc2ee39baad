use super::*;
use crate::cache::tests::pod;
use crate::plugins::{PrioritySort, default_framework};
use serde_json::json;

struct Harness {
    queue: SchedulingQueue,
    framework: Framework,
    now: Instant,
}

impl Harness {
    fn new() -> Self {
        let queue = SchedulingQueue::new(Arc::new(PrioritySort), Duration::from_secs(1), Duration::from_secs(10));
        Self { queue, framework: default_framework(), now: Instant::now() }
    }
    fn set(&mut self, pod: &Arc<PodInfo>) {
        self.queue.set(&self.framework, pod, self.now);
    }
    fn pop(&mut self) -> Option<String> {
        self.queue.pop().map(|q| q.pod.name.clone())
    }
    fn fail_next(&mut self, plugin: &'static str) {
        let queued = self.queue.pop().unwrap();
        self.queue.failed(queued, [plugin].into(), self.now);
    }
    fn event(&mut self, event: ClusterEvent) {
        self.queue.on_event(&self.framework, event, self.now);
    }
    fn advance(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.queue.flush(self.now);
    }
}

#[test]
fn higher_priority_first_then_first_come() {
    let mut h = Harness::new();
    for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
        h.set(&pod(name, json!({ "priority": priority })));
    }
    assert_eq!([h.pop(), h.pop(), h.pop(), h.pop(), h.pop()].map(Option::unwrap_or_default), ["b", "d", "a", "c", ""]);
}

#[test]
fn a_refused_pod_waits_for_an_event_that_may_help() {
    let mut h = Harness::new();
    h.set(&pod("a", json!({})));
    h.fail_next("NodeResourcesFit");
    h.event(ClusterEvent::NodeTaints);
    assert_eq!(h.queue.lens(), (0, 0, 1), "taints do not give room");
    h.event(ClusterEvent::AssignedPodDelete);
    assert_eq!(h.queue.lens(), (0, 1, 0), "still in its backoff");
    h.advance(999);
    assert_eq!(h.queue.lens(), (0, 1, 0));
    h.advance(1);
    assert_eq!(h.pop().as_deref(), Some("a"));
}

#[test]
fn backoff_doubles_up_to_its_limit() {
    let mut h = Harness::new();
    h.set(&pod("a", json!({})));
    for seconds in [1, 2, 4, 8, 10, 10] {
        let queued = h.queue.pop().unwrap();
        h.queue.failed(queued, BTreeSet::new(), h.now);
        assert_eq!(h.queue.next_wake(), Some(h.now + Duration::from_secs(seconds)));
        h.advance(seconds * 1000);
    }
}

#[test]
fn gated_pods_stay_out_until_the_gate_goes() {
    let mut h = Harness::new();
    h.set(&pod("a", json!({"schedulingGates": [{"name": "x"}]})));
    h.event(ClusterEvent::NodeAdd);
    h.advance(10 * 60 * 1000);
    assert_eq!(h.queue.lens(), (0, 0, 1));
    assert_eq!(h.queue.next_wake(), None);
    h.set(&pod("a", json!({})));
    assert_eq!(h.pop().as_deref(), Some("a"));
}

#[test]
fn a_changed_pod_is_tried_again_and_a_status_change_is_not() {
    let mut h = Harness::new();
    h.set(&pod("a", json!({})));
    h.fail_next("NodeAffinity");
    h.advance(5000);
    h.set(&pod("a", json!({})));
    assert_eq!(h.queue.lens(), (0, 0, 1));
    h.set(&pod("a", json!({"nodeSelector": {"a": "b"}})));
    assert_eq!(h.queue.lens(), (1, 0, 0));
}

#[test]
fn nothing_is_left_aside_for_ever() {
    let mut h = Harness::new();
    h.set(&pod("a", json!({})));
    h.fail_next("NodeName");
    h.advance(5 * 60 * 1000);
    assert_eq!(h.queue.lens(), (1, 0, 0));
}

#[test]
fn deleted_pods_leave_every_part() {
    let mut h = Harness::new();
    h.set(&pod("a", json!({})));
    h.queue.delete("uid-a");
    assert_eq!(h.queue.lens(), (0, 0, 0));
    h.set(&pod("a", json!({})));
    h.fail_next("NodeName");
    h.queue.delete("uid-a");
    assert_eq!(h.queue.lens(), (0, 0, 0));
    assert!(h.queue.uids().is_empty());
}
