//! LimitRanger: default requests and limits of a namespace, and its bounds.

use std::sync::Arc;

use orlop_api::quantity::Quantity;
use orlop_api::status::Status;
use serde_json::{Map, Value};

use super::fields::{list_at, object_mut, str_at};
use super::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::reader::{Object, ObjectReader};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(super) struct LimitRanger {
    reader: Arc<dyn ObjectReader>,
}

impl LimitRanger {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }

    fn ranges(&self, request: &AdmissionRequest<'_>) -> Vec<Object> {
        self.reader.list("", "limitranges", request.namespace)
    }
}

#[async_trait::async_trait]
impl AdmissionPlugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !request.creates("", "pods") {
            return Ok(());
        }
        let ranges = self.ranges(request);
        let Some(pod) = request.object.as_deref_mut() else { return Ok(()) };
        let mut notes = Vec::new();
        for range in &ranges {
            for item in list_at(range, "/spec/limits").iter().filter(|i| str_at(i, "/type") == "Container") {
                default_containers(pod, item, &mut notes);
            }
        }
        if !notes.is_empty()
            && let Some(metadata) = object_mut(pod, "metadata")
            && let Some(annotations) = object_mut(metadata, "annotations")
        {
            annotations[ANNOTATION] = format!("LimitRanger plugin set: {}", notes.join("; ")).into();
        }
        Ok(())
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let claims = request.is("", "persistentvolumeclaims")
            && matches!(request.operation, Operation::Create | Operation::Update)
            && request.subresource.is_empty();
        if !claims && !request.creates("", "pods") {
            return Ok(());
        }
        let Some(object) = request.new_object() else { return Ok(()) };
        let mut errors = Vec::new();
        for range in self.ranges(request) {
            for item in list_at(&range, "/spec/limits") {
                match (str_at(item, "/type"), claims) {
                    ("Container", false) => containers(object).for_each(|c| check_container(item, c, &mut errors)),
                    ("Pod", false) => check_pod(item, object, &mut errors),
                    ("PersistentVolumeClaim", true) => check_claim(item, object, &mut errors),
                    _ => {}
                }
            }
        }
        match errors.as_slice() {
            [] => Ok(()),
            [one] => Err(request.forbid(one)),
            many => Err(request.forbid(format!("[{}]", many.join(", ")))),
        }
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/spec/initContainers", "/spec/containers"].into_iter().flat_map(|p| list_at(pod, p))
}

fn default_containers(pod: &mut Value, item: &Value, notes: &mut Vec<String>) {
    for (pointer, what) in [("/spec/initContainers", "init container"), ("/spec/containers", "container")] {
        for container in pod.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten() {
            for (from, to, word) in [("default", "limits", "limit"), ("defaultRequest", "requests", "request")] {
                let empty = Map::new();
                let defaults = item.get(from).and_then(Value::as_object).unwrap_or(&empty);
                let set = fill(container, to, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {word} for {what} {}", set.join(", "), name_of(container)));
                }
            }
        }
    }
}

fn name_of(container: &Value) -> &str {
    str_at(container, "/name")
}

fn fill(container: &mut Value, key: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut set = Vec::new();
    if defaults.is_empty() {
        return set;
    }
    let Some(list) = object_mut(container, "resources").and_then(|r| object_mut(r, key)) else { return set };
    for (resource, value) in defaults {
        if list.get(resource).is_none() {
            list[resource] = value.clone();
            set.push(resource.clone());
        }
    }
    set.sort();
    set
}

fn quantity(parent: &Value, key: &str, resource: &str) -> Option<Quantity> {
    parent.get(key)?.get(resource).and_then(|v| Quantity::from_value(v).ok())
}

fn bounds<'a>(item: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, Quantity)> {
    let map = item.get(key).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(k, v)| Some((k, Quantity::from_value(v).ok()?)))
}

/// Upstream's `minConstraint`, `maxConstraint` and `limitRequestRatioConstraint`.
fn check(
    item: &Value,
    kind: &str,
    request_of: impl Fn(&str) -> Option<Quantity>,
    limit_of: impl Fn(&str) -> Option<Quantity>,
    errors: &mut Vec<String>,
) {
    for (resource, min) in bounds(item, "min") {
        match (request_of(resource), limit_of(resource)) {
            (None, _) => errors.push(format!("minimum {resource} usage per {kind} is {min}.  No request is specified")),
            (Some(r), _) if r < min => {
                errors.push(format!("minimum {resource} usage per {kind} is {min}, but request is {r}"));
            }
            (_, Some(l)) if l < min => {
                errors.push(format!("minimum {resource} usage per {kind} is {min}, but limit is {l}"));
            }
            _ => {}
        }
    }
    for (resource, max) in bounds(item, "max") {
        match (request_of(resource), limit_of(resource)) {
            (_, None) => errors.push(format!("maximum {resource} usage per {kind} is {max}.  No limit is specified")),
            (_, Some(l)) if l > max => {
                errors.push(format!("maximum {resource} usage per {kind} is {max}, but limit is {l}"));
            }
            (Some(r), _) if r > max => {
                errors.push(format!("maximum {resource} usage per {kind} is {max}, but request is {r}"));
            }
            _ => {}
        }
    }
    for (resource, ratio) in bounds(item, "maxLimitRequestRatio") {
        let head = format!("{resource} max limit to request ratio per {kind} is {ratio}");
        match (request_of(resource), limit_of(resource)) {
            (Some(r), Some(l)) if !r.is_zero() && !l.is_zero() => {
                let observed = l.as_f64() / r.as_f64();
                if observed > ratio.as_f64() {
                    errors.push(format!("{head}, but provided ratio is {observed:.6}"));
                }
            }
            _ => errors.push(format!("{head}, but no request is specified or request is 0")),
        }
    }
}

fn check_container(item: &Value, container: &Value, errors: &mut Vec<String>) {
    let resources = container.get("resources").unwrap_or(&Value::Null);
    let of = |key: &'static str| move |r: &str| quantity(resources, key, r);
    check(item, "Container", of("requests"), of("limits"), errors);
}

fn check_pod(item: &Value, pod: &Value, errors: &mut Vec<String>) {
    let total = |key: &'static str| {
        move |resource: &str| {
            let of = |c: &Value| c.get("resources").and_then(|r| quantity(r, key, resource));
            let mut sum: Option<Quantity> = None;
            for found in list_at(pod, "/spec/containers").iter().filter_map(of) {
                sum = Some(sum.map_or(found, |s| s + found));
            }
            // Init containers run one after the other: the largest counts.
            list_at(pod, "/spec/initContainers").iter().filter_map(of).fold(sum, |s, q| Some(s.map_or(q, |s| s.max(q))))
        }
    };
    check(item, "Pod", total("requests"), total("limits"), errors);
}

fn check_claim(item: &Value, claim: &Value, errors: &mut Vec<String>) {
    let resources = claim.pointer("/spec/resources").unwrap_or(&Value::Null);
    let request = |r: &str| quantity(resources, "requests", r);
    // A claim has no limit: its request is both.
    check(item, "PersistentVolumeClaim", request, request, errors);
}
