//! The row of a Pod: the STATUS column sums up phase, conditions and container states.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells::{age, array, flag, is_set, name, number, since, text, text_or, time};
use super::{condition, condition_is_true};

/// Running sums over container statuses.
#[derive(Default)]
struct Tally {
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Tally {
    fn add(&mut self, status: &Value) {
        self.restarts += number(status, "/restartCount");
        self.last_restart = self.last_restart.max(time(status, "/lastState/terminated/finishedAt"));
    }
}

pub(super) fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let restarts = match summary.tally {
        Tally { restarts, last_restart: Some(last) } if restarts != 0 => {
            format!("{restarts} ({} ago)", since(Some(last), now))
        }
        Tally { restarts, .. } => restarts.to_string(),
    };
    vec![
        name(pod),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(restarts),
        age(pod, now),
        json!(text_or(pod, "/status/podIPs/0/ip", "<none>")),
        json!(text_or(pod, "/spec/nodeName", "<none>")),
        json!(text_or(pod, "/status/nominatedNodeName", "<none>")),
        json!(readiness_gates(pod)),
    ]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = array(pod, "/spec/readinessGates");
    let total = gates.len();
    if total == 0 {
        return "<none>".to_owned();
    }
    let met = gates.filter(|g| condition_is_true(pod, text(g, "/conditionType"))).count();
    format!("{met}/{total}")
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    tally: Tally,
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

fn summarize(pod: &Value) -> Summary {
    let phase = text(pod, "/status/phase");
    let mut reason = text_or(pod, "/status/reason", phase).to_owned();
    if condition(pod, "PodScheduled").is_some_and(|c| text(c, "/reason") == "SchedulingGated") {
        "SchedulingGated".clone_into(&mut reason);
    }
    let sidecar = |name: &str| {
        let found = array(pod, "/spec/initContainers").find(|c| text(c, "/name") == name);
        found.is_some_and(is_sidecar)
    };
    let sidecars = array(pod, "/spec/initContainers").filter(|c| is_sidecar(c)).count();
    let total = array(pod, "/spec/containers").len() + sidecars;
    let mut ready = 0;
    let mut tally = Tally::default();
    let mut sidecar_tally = Tally::default();
    let mut initializing = false;
    for (i, status) in array(pod, "/status/initContainerStatuses").enumerate() {
        tally.add(status);
        let is_sidecar = sidecar(text(status, "/name"));
        if is_sidecar {
            sidecar_tally.add(status);
        }
        match init_reason(pod, i, status, is_sidecar) {
            Some(waits_for) => {
                reason = waits_for;
                initializing = true;
                break;
            }
            None if is_sidecar && flag(status, "/started") && flag(status, "/ready") => ready += 1,
            None => {}
        }
    }
    if !initializing || condition_is_true(pod, "Initialized") {
        tally = sidecar_tally;
        ready += app_containers(pod, &mut tally, &mut reason);
    }
    if is_set(pod, "/metadata/deletionTimestamp") {
        if text(pod, "/status/reason") == "NodeLost" {
            "Unknown".clone_into(&mut reason);
        } else if !matches!(phase, "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut reason);
        }
    }
    Summary { ready, total, reason, tally }
}

/// What the Pod waits for in its init container `index`; None when that one is done or, as a
/// sidecar, started.
fn init_reason(pod: &Value, index: usize, status: &Value, sidecar: bool) -> Option<String> {
    let terminated = status.pointer("/state/terminated").filter(|t| !t.is_null());
    let exit_code = terminated.map(|t| number(t, "/exitCode"));
    if exit_code == Some(0) || (sidecar && flag(status, "/started")) {
        return None;
    }
    let waiting = text(status, "/state/waiting/reason");
    Some(if let Some(terminated) = terminated {
        format!("Init:{}", terminated_reason(terminated))
    } else if !waiting.is_empty() && waiting != "PodInitializing" {
        format!("Init:{waiting}")
    } else {
        format!("Init:{index}/{}", array(pod, "/spec/initContainers").len())
    })
}

fn terminated_reason(terminated: &Value) -> String {
    let (reason, signal) = (text(terminated, "/reason"), number(terminated, "/signal"));
    if !reason.is_empty() {
        reason.to_owned()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", number(terminated, "/exitCode"))
    }
}

/// Goes over the application containers from the last to the first; the first one wins the reason.
/// Returns how many are ready.
fn app_containers(pod: &Value, tally: &mut Tally, reason: &mut String) -> usize {
    let mut ready = 0;
    let mut error_reason = None;
    for status in array(pod, "/status/containerStatuses").rev() {
        tally.add(status);
        let waiting = text(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            waiting.clone_into(reason);
        } else if let Some(terminated) = status.pointer("/state/terminated").filter(|t| !t.is_null()) {
            *reason = terminated_reason(terminated);
            if number(terminated, "/exitCode") != 0 {
                error_reason = Some(reason.clone());
            }
        } else if flag(status, "/ready") && is_set(status, "/state/running") {
            ready += 1;
        }
    }
    if *reason == "Completed" {
        if ready > 0 && condition_is_true(pod, "Ready") {
            "Running".clone_into(reason);
        } else if let Some(error) = error_reason {
            *reason = error;
        } else if ready > 0 {
            "NotReady".clone_into(reason);
        }
    }
    ready
}
