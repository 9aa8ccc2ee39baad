//! Which EndpointSlices a Service needs, and which of the existing ones to change. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::ownership::controller_reference;
use crate::pods;

pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Endpoints per slice (upstream's `--max-endpoints-per-slice`).
pub(super) const MAX_ENDPOINTS: usize = 100;

/// The changes that bring the slices of one Service about.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<String>,
}

/// A Service with all that is known for it.
pub(super) struct Observed<'a> {
    pub(super) service: &'a Service,
    pub(super) pods: Vec<&'a Pod>,
    pub(super) node: &'a dyn Fn(&str) -> Option<std::sync::Arc<Node>>,
    pub(super) slices: Vec<&'a EndpointSlice>,
}

type Ports = Vec<EndpointPort>;

/// Address families of the Service; before it has any, those that its Pods have.
fn address_types(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let families = spec.and_then(|s| s.ip_families.clone()).unwrap_or_default();
    let known = |family: &String| match family.as_str() {
        "IPv4" => Some("IPv4"),
        "IPv6" => Some("IPv6"),
        _ => None,
    };
    let types: Vec<_> = families.iter().filter_map(known).collect();
    if types.is_empty() { vec!["IPv4", "IPv6"] } else { types }
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

pub(super) fn plan(observed: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    let types = address_types(observed.service);
    for slice in &observed.slices {
        if !types.contains(&slice.address_type.as_str()) {
            plan.delete.push(slice.name_any());
        }
    }
    for address_type in types {
        plan_type(observed, address_type, &mut plan);
    }
    plan
}

fn plan_type(observed: &Observed<'_>, address_type: &'static str, plan: &mut Plan) {
    let mut wanted: Vec<(Ports, Vec<Endpoint>)> = Vec::new();
    for pod in &observed.pods {
        let Some((ports, endpoint)) = endpoint(observed, pod, address_type) else { continue };
        match wanted.iter_mut().find(|(known, _)| *known == ports) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => wanted.push((ports, vec![endpoint])),
        }
    }
    let mut existing: Vec<&EndpointSlice> =
        observed.slices.iter().copied().filter(|s| s.address_type == address_type).collect();
    existing.sort_by_key(|slice| slice.name_any());
    if wanted.is_empty() {
        // One empty slice says "no endpoints" to consumers that wait for slices to appear.
        wanted.push((existing.first().map(|s| s.ports.clone().unwrap_or_default()).unwrap_or_default(), vec![]));
    }
    let mut left: Vec<&EndpointSlice> = existing;
    for (ports, endpoints) in wanted {
        let (mine, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|s| s.ports.clone().unwrap_or_default() == ports);
        left = others;
        plan_ports(observed, address_type, &ports, endpoints, &mine, plan);
    }
    plan.delete.extend(left.iter().map(|slice| slice.name_any()));
}

/// Endpoints stay in the slice where they are; new ones fill up slices that change anyway, then
/// the fullest that takes them all, then new slices: as few writes as can be.
fn plan_ports(
    observed: &Observed<'_>,
    address_type: &'static str,
    ports: &Ports,
    endpoints: Vec<Endpoint>,
    existing: &[&EndpointSlice],
    plan: &mut Plan,
) {
    let id = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|t| t.uid.clone()).unwrap_or_default();
    let mut wanted: BTreeMap<String, Endpoint> =
        endpoints.into_iter().map(|endpoint| (id(&endpoint), endpoint)).collect();
    let mut kept: Vec<(&EndpointSlice, Vec<Endpoint>, bool)> = Vec::new();
    for slice in existing {
        let old = slice.endpoints.as_deref().unwrap_or_default();
        let new: Vec<Endpoint> = old.iter().filter_map(|e| wanted.remove(&id(e))).collect();
        let changed = new != old || !labels_match(slice, &labels(observed.service, slice.metadata.labels.as_ref()));
        kept.push((slice, new, changed));
    }
    let mut new: Vec<Endpoint> = wanted.into_values().collect();
    for (_, endpoints, changed) in &mut kept {
        if *changed {
            let room = MAX_ENDPOINTS.saturating_sub(endpoints.len()).min(new.len());
            endpoints.extend(new.drain(..room));
        }
    }
    if !new.is_empty() && new.len() < MAX_ENDPOINTS {
        let fits = kept
            .iter_mut()
            .filter(|(_, endpoints, _)| endpoints.len() + new.len() <= MAX_ENDPOINTS)
            .max_by_key(|(_, endpoints, _)| endpoints.len());
        if let Some((_, endpoints, changed)) = fits {
            endpoints.append(&mut new);
            *changed = true;
        }
    }
    while !new.is_empty() {
        let rest = new.split_off(new.len().min(MAX_ENDPOINTS));
        plan.create.push(new_slice(observed, address_type, ports, new));
        new = rest;
    }
    let mut filled = kept.iter().any(|(_, endpoints, _)| !endpoints.is_empty()) || !plan.create.is_empty();
    for (slice, endpoints, changed) in kept {
        if endpoints.is_empty() && filled {
            plan.delete.push(slice.name_any());
            continue;
        }
        filled = true;
        if changed {
            plan.update.push(changed_slice(observed, slice, endpoints));
        }
    }
    if !filled {
        plan.create.push(new_slice(observed, address_type, ports, Vec::new()));
    }
}

/// The Service's labels, and those that say whose the slice is.
fn labels(service: &Service, known: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    for reserved in [HEADLESS, SERVICE_NAME, MANAGED_BY] {
        labels.remove(reserved);
    }
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    // The hash of endpoints that others add is theirs.
    if let Some(value) = known.and_then(|k| k.get("endpointslice.kubernetes.io/hash")) {
        labels.insert("endpointslice.kubernetes.io/hash".to_owned(), value.clone());
    }
    labels
}

fn labels_match(slice: &EndpointSlice, wanted: &BTreeMap<String, String>) -> bool {
    slice.labels() == wanted
}

fn last_change(observed: &Observed<'_>) -> Option<String> {
    let created = observed.service.creation_timestamp().map(|t| t.0);
    let of_pod = |pod: &&Pod| {
        let ready = pods::condition(pod, "Ready")?;
        ready.last_transition_time.as_ref().map(|t| t.0)
    };
    let newest = observed.pods.iter().filter_map(of_pod).chain(created).max()?;
    Some(newest.to_string())
}

fn new_slice(
    observed: &Observed<'_>,
    address_type: &'static str,
    ports: &Ports,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let service = observed.service;
    let trigger = last_change(observed).map(|at| BTreeMap::from([(LAST_CHANGE.to_owned(), at)]));
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.namespace(),
            labels: Some(labels(service, None)),
            annotations: trigger,
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: address_type.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.clone()),
    }
}

fn changed_slice(observed: &Observed<'_>, slice: &EndpointSlice, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut changed = slice.clone();
    changed.endpoints = Some(endpoints);
    changed.metadata.labels = Some(labels(observed.service, slice.metadata.labels.as_ref()));
    match last_change(observed) {
        Some(at) => {
            changed.metadata.annotations.get_or_insert_default().insert(LAST_CHANGE.to_owned(), at);
        }
        None => {
            changed.metadata.annotations.get_or_insert_default().remove(LAST_CHANGE);
        }
    }
    changed
}

/// The Pod's endpoint and the ports it answers; `None` where it can't take part.
fn endpoint(observed: &Observed<'_>, pod: &Pod, address_type: &str) -> Option<(Ports, Endpoint)> {
    if pods::is_terminated(pod) {
        return None;
    }
    let status = pod.status.as_ref()?;
    let ips = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let is_v6 = address_type == "IPv6";
    let address = ips.chain(status.pod_ip.as_deref()).find(|ip| !ip.is_empty() && ip.contains(':') == is_v6)?;
    let service = observed.service;
    let publish = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true);
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let node = pods::node_name(pod);
    let zone = (observed.node)(node).and_then(|node| node.labels().get(ZONE).cloned());
    let spec = pod.spec.as_ref();
    let hostname = spec
        .filter(|s| s.subdomain.as_deref() == service.metadata.name.as_deref())
        .and_then(|s| s.hostname.clone())
        .filter(|h| !h.is_empty());
    let endpoint = Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname,
        node_name: (!node.is_empty()).then(|| node.to_owned()),
        zone,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    };
    Some((ports(service, pod), endpoint))
}

fn ports(service: &Service, pod: &Pod) -> Ports {
    let wanted = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let resolve = |port: &ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target_port(port, pod)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    wanted.iter().filter_map(resolve).collect()
}

/// The number behind a Service port, by the Pod's container ports where it is a name.
pub(crate) fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c: &&Container| c.restart_policy.as_deref() == Some("Always"));
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|p| p.container_port)
}
