//! SchedulingGates: a Pod waits outside the queue while it has gates.

use crate::cache::PodInfo;
use crate::framework::{Plugin, PreEnqueue, Rejection};

pub(super) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }
}

impl PreEnqueue for SchedulingGates {
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection> {
        let gates: Vec<&str> =
            pod.spec().into_iter().flat_map(|s| s.scheduling_gates.iter().flatten()).map(|g| g.name.as_str()).collect();
        if gates.is_empty() {
            return Ok(());
        }
        let reason = format!("waiting for scheduling gates: [{}]", gates.join(" "));
        Err(Rejection::unresolvable(self.name(), reason))
    }
}
