//! What a pod asks for and is limited to as a whole: containers, sidecars, init containers, overhead.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A list of resources in base units; CPU in milli-CPU.
pub type PodResources = BTreeMap<String, i64>;

/// Thousandths of the unit, rounded up; an unreadable quantity counts as nothing (the API server admits none).
pub fn milli_value(quantity: &Quantity) -> i64 {
    quantity.0.parse::<orlop_api::quantity::Quantity>().map_or(0, |q| q.milli_value())
}

/// Whole units, rounded up; an unreadable quantity counts as nothing.
pub fn value(quantity: &Quantity) -> i64 {
    quantity.0.parse::<orlop_api::quantity::Quantity>().map_or(0, |q| q.value())
}

fn in_base_unit(name: &str, quantity: &Quantity) -> i64 {
    if name == "cpu" { milli_value(quantity) } else { value(quantity) }
}

/// The quantity lists of one side (requests or limits) of one container.
fn side(resources: Option<&ResourceRequirements>, limits: bool) -> PodResources {
    let list = resources.and_then(|r| if limits { r.limits.as_ref() } else { r.requests.as_ref() });
    list.into_iter().flatten().map(|(name, q)| (name.clone(), in_base_unit(name, q))).collect()
}

fn add(sum: &mut PodResources, other: &PodResources) {
    for (name, amount) in other {
        let slot = sum.entry(name.clone()).or_default();
        *slot = slot.saturating_add(*amount);
    }
}

fn raise(sum: &mut PodResources, other: &PodResources) {
    for (name, amount) in other {
        let slot = sum.entry(name.clone()).or_default();
        *slot = (*slot).max(*amount);
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Sum over app containers and sidecars, or the largest init step if that is more; then pod-level and overhead.
fn aggregate(pod: &Pod, limits: bool) -> PodResources {
    let Some(spec) = &pod.spec else { return PodResources::new() };
    let mut total = PodResources::new();
    for container in &spec.containers {
        add(&mut total, &side(container.resources.as_ref(), limits));
    }
    let mut sidecars = PodResources::new();
    let mut init_peak = PodResources::new();
    for container in spec.init_containers.iter().flatten() {
        let own = side(container.resources.as_ref(), limits);
        if is_sidecar(container) {
            // KEP-753: a sidecar counts beside the app containers and beside every later init container.
            add(&mut total, &own);
            add(&mut sidecars, &own);
            raise(&mut init_peak, &sidecars);
        } else {
            let mut step = own;
            add(&mut step, &sidecars);
            raise(&mut init_peak, &step);
        }
    }
    raise(&mut total, &init_peak);
    if let Some(resources) = &spec.resources {
        for name in ["cpu", "memory"] {
            let pod_level = side(
                Some(&ResourceRequirements {
                    limits: resources.limits.clone(),
                    requests: resources.requests.clone(),
                    ..Default::default()
                }),
                limits,
            );
            if let Some(amount) = pod_level.get(name) {
                total.insert(name.to_owned(), *amount);
            }
        }
    }
    for (name, quantity) in spec.overhead.iter().flatten() {
        // Overhead adds to requests always, to limits only where there is one.
        if !limits || total.get(name).is_some_and(|amount| *amount > 0) {
            let slot = total.entry(name.clone()).or_default();
            *slot = slot.saturating_add(in_base_unit(name, quantity));
        }
    }
    total
}

/// What the pod asks for.
pub fn pod_requests(pod: &Pod) -> PodResources {
    aggregate(pod, false)
}

/// What the pod is limited to; a resource that one container leaves open is still summed over the others.
pub fn pod_limits(pod: &Pod) -> PodResources {
    aggregate(pod, true)
}

/// True when every container (or the pod itself) limits `resource`.
pub(super) fn limit_declared_everywhere(pod: &Pod, resource: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let limited = |r: Option<&ResourceRequirements>| side(r, true).get(resource).is_some_and(|amount| *amount > 0);
    if limited(spec.resources.as_ref()) {
        return true;
    }
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).all(|c| limited(c.resources.as_ref()))
}
