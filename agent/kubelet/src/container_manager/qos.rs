//! A pod's quality of service class: what the kernel may take from it first.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::pod_resources::milli_value;

/// `status.qosClass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    /// The word that the Pod API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

impl std::fmt::Display for QosClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// The class that the status carries, or else the one that the spec works out to; it never changes in a pod's life.
pub fn qos_class(pod: &Pod) -> QosClass {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("Burstable") => QosClass::Burstable,
        Some("BestEffort") => QosClass::BestEffort,
        _ => compute_qos_class(pod),
    }
}

/// The class by the spec alone: Guaranteed only if every container limits CPU and memory and asks for exactly that.
pub fn compute_qos_class(pod: &Pod) -> QosClass {
    let Some(spec) = &pod.spec else { return QosClass::BestEffort };
    let mut requests = BTreeMap::new();
    let mut limits = BTreeMap::new();
    let mut all_limited = true;
    let mut take = |resources: Option<&ResourceRequirements>, limits_required: bool| {
        let none = BTreeMap::new();
        let (req, lim) = match resources {
            Some(r) => (r.requests.as_ref().unwrap_or(&none), r.limits.as_ref().unwrap_or(&none)),
            None => (&none, &none),
        };
        add_compute(&mut requests, req);
        let limited = add_compute(&mut limits, lim);
        if limits_required && limited < COMPUTE.len() {
            all_limited = false;
        }
    };
    // Pod-level resources (KEP-2837) decide alone where they are set.
    if let Some(resources) = &spec.resources {
        let any_limit = resources.limits.as_ref().is_some_and(|l| !l.is_empty());
        take(Some(resources), any_limit);
    } else {
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            take(container.resources.as_ref(), true);
        }
    }
    if requests.is_empty() && limits.is_empty() {
        QosClass::BestEffort
    } else if all_limited && requests == limits {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// Adds the positive compute quantities to `sum`; how many there were.
fn add_compute(sum: &mut BTreeMap<&'static str, i128>, list: &BTreeMap<String, Quantity>) -> usize {
    let mut found = 0;
    for name in COMPUTE {
        if let Some(milli) = list.get(name).map(milli_value).filter(|milli| *milli > 0) {
            *sum.entry(name).or_default() += i128::from(milli);
            found += 1;
        }
    }
    found
}
