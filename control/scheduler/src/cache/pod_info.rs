//! A Pod with everything that plugins ask for worked out once.

use k8s_openapi::api::core::v1::{Affinity, Pod, PodAffinityTerm, PodSpec, Toleration};
use orlop_api::resources::{self, ResourceList};
use orlop_api::selector::{LabelSelector, selector_from_object};
use serde_json::{Value, json};

use super::{HostPort, Resource, Snapshot};

/// What upstream counts for a container that asks for no CPU or memory, when it scores.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// One term of inter-pod affinity.
#[derive(Clone, Debug)]
pub struct AffinityTerm {
    /// Namespaces by name; those that `namespace_selector` means come on top.
    pub namespaces: Vec<String>,
    pub namespace_selector: LabelSelector,
    pub selector: LabelSelector,
    pub topology_key: String,
}

impl AffinityTerm {
    fn new(term: &PodAffinityTerm, pod_namespace: &str) -> Self {
        let parse =
            |selector: Value| selector_from_object(Some(&selector)).unwrap_or_else(|_| LabelSelector::nothing());
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(pod_namespace.to_owned());
        }
        Self {
            namespaces,
            namespace_selector: parse(json!(term.namespace_selector)),
            selector: parse(json!(term.label_selector)),
            topology_key: term.topology_key.clone(),
        }
    }

    /// Whether the term means this Pod.
    #[must_use]
    pub fn matches(&self, pod: &PodInfo, snapshot: &Snapshot) -> bool {
        let in_namespace = self.namespaces.contains(&pod.namespace)
            || snapshot
                .namespace_labels(&pod.namespace)
                .is_some_and(|labels| self.namespace_selector.matches_with(|key| labels.get(key).map(String::as_str)));
        in_namespace && self.selector.matches_with(|key| pod.label(key))
    }
}

/// A preferred term and what it weighs.
#[derive(Clone, Debug)]
pub struct WeightedTerm {
    pub weight: i64,
    pub term: AffinityTerm,
}

/// A Pod as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub uid: String,
    pub name: String,
    pub namespace: String,
    pub pod: Pod,
    pub priority: i32,
    pub requests: Resource,
    pub non_zero_milli_cpu: i64,
    pub non_zero_memory: i64,
    pub host_ports: Vec<HostPort>,
    pub required_affinity: Vec<AffinityTerm>,
    pub required_anti_affinity: Vec<AffinityTerm>,
    pub preferred_affinity: Vec<WeightedTerm>,
    pub preferred_anti_affinity: Vec<WeightedTerm>,
    /// UID of the controller that made it.
    pub controller: Option<String>,
}

impl PartialEq for PodInfo {
    fn eq(&self, other: &Self) -> bool {
        self.uid == other.uid && self.pod == other.pod
    }
}
impl Eq for PodInfo {}

impl PodInfo {
    #[must_use]
    pub fn new(pod: Pod) -> Self {
        let meta = &pod.metadata;
        let namespace = meta.namespace.clone().unwrap_or_default();
        let spec = pod.spec.clone().unwrap_or_default();
        let spec_value = json!(spec);
        let non_zero = resources::pod_requests(&with_least_requests(&spec_value));
        let affinity = spec.affinity.clone().unwrap_or_default();
        let owners = meta.owner_references.iter().flatten();
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or_default(),
            requests: Resource::from_list(&resources::pod_requests(&spec_value)),
            non_zero_milli_cpu: amount(&non_zero, "cpu"),
            non_zero_memory: amount(&non_zero, "memory"),
            host_ports: host_ports(&spec),
            required_affinity: required(&affinity, &namespace, false),
            required_anti_affinity: required(&affinity, &namespace, true),
            preferred_affinity: preferred(&affinity, &namespace, false),
            preferred_anti_affinity: preferred(&affinity, &namespace, true),
            controller: owners.filter(|o| o.controller == Some(true)).map(|o| o.uid.clone()).next(),
            namespace,
            pod,
        }
    }

    /// The spec, when there is one.
    #[must_use]
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// `spec.nodeName`, or empty.
    #[must_use]
    pub fn node_name(&self) -> &str {
        self.spec().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
    }

    #[must_use]
    pub fn scheduler_name(&self) -> &str {
        self.spec().and_then(|s| s.scheduler_name.as_deref()).unwrap_or_default()
    }

    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    #[must_use]
    pub fn tolerations(&self) -> &[Toleration] {
        self.spec().and_then(|s| s.tolerations.as_deref()).unwrap_or_default()
    }

    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// `Succeeded` or `Failed`: it holds nothing of its node any more.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// `namespace/name`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether the two differ in something that a decision looks at.
    #[must_use]
    pub fn same_demands(&self, other: &Self) -> bool {
        self.pod.spec == other.pod.spec && self.pod.metadata.labels == other.pod.metadata.labels
    }
}

fn amount(list: &ResourceList, name: &str) -> i64 {
    list.get(name).map_or(0, |q| if name == "cpu" { q.milli_value() } else { q.value() })
}

/// The spec with the least requests put into containers that have none.
fn with_least_requests(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let least = [("cpu", format!("{DEFAULT_MILLI_CPU}m")), ("memory", DEFAULT_MEMORY.to_string())];
            for (name, amount) in least {
                if container.pointer(&format!("/resources/requests/{name}")).is_none() {
                    container["resources"]["requests"][name] = json!(amount);
                }
            }
        }
    }
    spec
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let non_empty = |text: &Option<String>, default: &str| match text.as_deref() {
        None | Some("") => default.to_owned(),
        Some(text) => text.to_owned(),
    };
    containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            Some(HostPort {
                port: p.host_port.filter(|port| *port > 0)?,
                ip: non_empty(&p.host_ip, "0.0.0.0"),
                protocol: non_empty(&p.protocol, "TCP"),
            })
        })
        .collect()
}

fn required(affinity: &Affinity, namespace: &str, anti: bool) -> Vec<AffinityTerm> {
    let terms = if anti {
        affinity.pod_anti_affinity.as_ref().map(|a| &a.required_during_scheduling_ignored_during_execution)
    } else {
        affinity.pod_affinity.as_ref().map(|a| &a.required_during_scheduling_ignored_during_execution)
    };
    terms.into_iter().flatten().flatten().map(|t| AffinityTerm::new(t, namespace)).collect()
}

fn preferred(affinity: &Affinity, namespace: &str, anti: bool) -> Vec<WeightedTerm> {
    let terms = if anti {
        affinity.pod_anti_affinity.as_ref().map(|a| &a.preferred_during_scheduling_ignored_during_execution)
    } else {
        affinity.pod_affinity.as_ref().map(|a| &a.preferred_during_scheduling_ignored_during_execution)
    };
    terms
        .into_iter()
        .flatten()
        .flatten()
        .map(|t| WeightedTerm { weight: t.weight.into(), term: AffinityTerm::new(&t.pod_affinity_term, namespace) })
        .collect()
}
