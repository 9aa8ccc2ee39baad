//! PrioritySort: higher priority first, then who waits longest.

use std::cmp::Ordering;

use crate::framework::{Plugin, QueueSort};
use crate::queue::QueuedPod;

pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }
}

impl QueueSort for PrioritySort {
    fn compare(&self, a: &QueuedPod, b: &QueuedPod) -> Ordering {
        b.pod.priority.cmp(&a.pod.priority).then(a.sequence.cmp(&b.sequence))
    }
}
