//! Rows of nodes, namespaces, events, storage, networking, policy and access.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::cells::{
    age, array, flag, format_selector, is_set, name, number, quantity, since, text, text_or, time, with_more,
};
use super::workloads::load_balancer;
use super::{condition, human_duration};

pub(super) fn row(group: &str, kind: &str, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let t = |pointer| json!(text(object, pointer));
    let n = |pointer| json!(number(object, pointer));
    let count = |pointer: &str| json!(array(object, pointer).len());
    let a = || age(object, now);
    let name = || name(object);
    Some(match (group, kind) {
        ("", "Node") => node(object, now),
        ("", "Namespace") => vec![name(), t("/status/phase"), a()],
        ("" | "events.k8s.io", "Event") => event(object, now),
        ("", "PersistentVolume") => persistent_volume(object, now),
        ("", "PersistentVolumeClaim") => persistent_volume_claim(object, now),
        ("", "ComponentStatus") => component_status(object),
        ("discovery.k8s.io", "EndpointSlice") => endpoint_slice(object, now),
        ("networking.k8s.io", "Ingress") => ingress(object, now),
        ("networking.k8s.io", "IngressClass") => ingress_class(object, now),
        ("networking.k8s.io", "NetworkPolicy") => {
            vec![name(), json!(format_selector(object, "/spec/podSelector")), a()]
        }
        ("networking.k8s.io", "ServiceCIDR") => {
            let cidrs: Vec<&str> = array(object, "/spec/cidrs").filter_map(Value::as_str).collect();
            vec![name(), json!(cidrs.join(",")), a()]
        }
        ("networking.k8s.io", "IPAddress") => vec![name(), json!(parent_reference(object))],
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => binding(object, now),
        ("certificates.k8s.io", "CertificateSigningRequest") => signing_request(object, now),
        ("coordination.k8s.io", "Lease") => vec![name(), t("/spec/holderIdentity"), a()],
        ("storage.k8s.io", "StorageClass") => storage_class(object, now),
        ("storage.k8s.io", "VolumeAttributesClass") => vec![name(), t("/driverName"), a()],
        ("storage.k8s.io", "CSINode") => vec![name(), count("/spec/drivers"), a()],
        ("storage.k8s.io", "CSIDriver") => csi_driver(object, now),
        ("storage.k8s.io", "CSIStorageCapacity") => {
            let capacity =
                if is_set(object, "/capacity") { quantity(object, "/capacity") } else { "<unset>".to_owned() };
            vec![name(), t("/storageClassName"), json!(capacity)]
        }
        ("storage.k8s.io", "VolumeAttachment") => vec![
            name(),
            t("/spec/attacher"),
            t("/spec/source/persistentVolumeName"),
            t("/spec/nodeName"),
            json!(flag(object, "/status/attached")),
            a(),
        ],
        ("scheduling.k8s.io", "PriorityClass") => {
            vec![name(), n("/value"), json!(flag(object, "/globalDefault")), a(), t("/preemptionPolicy")]
        }
        ("node.k8s.io", "RuntimeClass") => vec![name(), t("/handler"), a()],
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            vec![name(), count("/webhooks"), a()]
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            vec![name(), count("/spec/validations"), json!(param_kind(object)), a()]
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => {
            vec![name(), count("/spec/mutations"), json!(param_kind(object)), a()]
        }
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => vec![
            name(),
            t("/spec/priorityLevelConfiguration/name"),
            n("/spec/matchingPrecedence"),
            json!(text_or(object, "/spec/distinguisherMethod/type", "<none>")),
            a(),
            json!(condition(object, "Dangling").map_or("?", |c| text(c, "/status"))),
        ],
        _ => return None,
    })
}

fn param_kind(object: &Value) -> String {
    if !is_set(object, "/spec/paramKind") {
        return "<unset>".to_owned();
    }
    format!("{}/{}", text(object, "/spec/paramKind/apiVersion"), text(object, "/spec/paramKind/kind"))
}

fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut status = match condition(object, "Ready").map(|c| text(c, "/status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if flag(object, "/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in super::cells::sorted_map(object, "/metadata/labels") {
        match (key.strip_prefix("node-role.kubernetes.io/"), key) {
            (Some(role), _) if !role.is_empty() => roles.push(role),
            (None, "kubernetes.io/role") => roles.extend(value.as_str().filter(|v| !v.is_empty())),
            _ => {}
        }
    }
    roles.sort_unstable();
    roles.dedup();
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
    let address = |type_: &str| {
        let found = array(object, "/status/addresses").find(|a| text(a, "/type") == type_);
        json!(found.map_or("<none>", |a| text(a, "/address")))
    };
    let info = |field: &str| text_or(object, field, "<unknown>");
    let mut kernel = info("/status/nodeInfo/kernelVersion").to_owned();
    let architecture = text(object, "/status/nodeInfo/architecture");
    if !architecture.is_empty() {
        kernel.push_str(&format!(" ({architecture})"));
    }
    vec![
        name(object),
        json!(status),
        json!(roles),
        age(object, now),
        json!(text(object, "/status/nodeInfo/kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        json!(info("/status/nodeInfo/osImage")),
        json!(kernel),
        json!(info("/status/nodeInfo/containerRuntimeVersion")),
    ]
}

/// An Event of either group: `events.k8s.io` renamed most fields of the core kind.
fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let either = |core: &str, new: &str| match text(object, core) {
        "" => text(object, new).to_owned(),
        some => some.to_owned(),
    };
    let when = |core: &str, new: &str| time(object, core).or_else(|| time(object, new));
    let first_time = when("/firstTimestamp", "/deprecatedFirstTimestamp").or_else(|| time(object, "/eventTime"));
    let last_time = when("/lastTimestamp", "/deprecatedLastTimestamp").or(first_time);
    let mut count = number(object, "/count").max(number(object, "/deprecatedCount")).max(1);
    let mut last = since(last_time, now);
    if is_set(object, "/series") {
        last = since(time(object, "/series/lastObservedTime"), now);
        count = number(object, "/series/count");
    }
    let kind = either("/involvedObject/kind", "/regarding/kind").to_lowercase();
    let target = match either("/involvedObject/name", "/regarding/name") {
        none if none.is_empty() => kind,
        name => format!("{kind}/{name}"),
    };
    let component = match either("/source/component", "/deprecatedSource/component") {
        none if none.is_empty() => either("/reportingComponent", "/reportingController"),
        some => some,
    };
    let instance = match either("/source/host", "/deprecatedSource/host") {
        none if none.is_empty() => text(object, "/reportingInstance").to_owned(),
        some => some,
    };
    let source = if instance.is_empty() { component } else { format!("{component}, {instance}") };
    vec![
        json!(last),
        json!(text(object, "/type")),
        json!(text(object, "/reason")),
        json!(target),
        json!(either("/involvedObject/fieldPath", "/regarding/fieldPath")),
        json!(source),
        json!(either("/message", "/note").trim()),
        json!(since(first_time, now)),
        json!(count),
        name(object),
    ]
}

fn access_modes(object: &Value, pointer: &str) -> String {
    let has = |mode: &str| array(object, pointer).any(|m| m == mode);
    [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")]
        .into_iter()
        .filter(|(mode, _)| has(mode))
        .map(|(_, short)| short)
        .collect::<Vec<_>>()
        .join(",")
}

fn volume_phase(object: &Value) -> Value {
    if is_set(object, "/metadata/deletionTimestamp") {
        json!("Terminating")
    } else {
        json!(text(object, "/status/phase"))
    }
}

fn volume_class(object: &Value) -> Value {
    let annotations = object.pointer("/metadata/annotations");
    let old = annotations.and_then(|a| a.get("volume.beta.kubernetes.io/storage-class")).and_then(Value::as_str);
    json!(old.unwrap_or_else(|| text(object, "/spec/storageClassName")))
}

fn or_unset(object: &Value, pointer: &str) -> Value {
    if is_set(object, pointer) { json!(text(object, pointer)) } else { json!("<unset>") }
}

fn persistent_volume(object: &Value, now: Timestamp) -> Vec<Value> {
    let claim = if is_set(object, "/spec/claimRef") {
        format!("{}/{}", text(object, "/spec/claimRef/namespace"), text(object, "/spec/claimRef/name"))
    } else {
        String::new()
    };
    vec![
        name(object),
        json!(quantity(object, "/spec/capacity/storage")),
        json!(access_modes(object, "/spec/accessModes")),
        json!(text(object, "/spec/persistentVolumeReclaimPolicy")),
        volume_phase(object),
        json!(claim),
        volume_class(object),
        or_unset(object, "/spec/volumeAttributesClassName"),
        json!(text(object, "/status/reason")),
        age(object, now),
        or_unset(object, "/spec/volumeMode"),
    ]
}

fn persistent_volume_claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let volume = text(object, "/spec/volumeName");
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (quantity(object, "/status/capacity/storage"), access_modes(object, "/status/accessModes"))
    };
    vec![
        name(object),
        volume_phase(object),
        json!(volume),
        json!(capacity),
        json!(modes),
        volume_class(object),
        or_unset(object, "/spec/volumeAttributesClassName"),
        age(object, now),
        or_unset(object, "/spec/volumeMode"),
    ]
}

fn component_status(object: &Value) -> Vec<Value> {
    let healthy = array(object, "/conditions").find(|c| text(c, "/type") == "Healthy");
    let status = match healthy.map(|c| text(c, "/status")) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    let said = |field| json!(healthy.map_or("", |c| text(c, field)));
    vec![name(object), json!(status), said("/message"), said("/error")]
}

fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = array(object, "/ports")
        .map(|p| match p.get("port").and_then(Value::as_i64) {
            Some(number) => number.to_string(),
            None if is_set(p, "/name") => text(p, "/name").to_owned(),
            None => "*".to_owned(),
        })
        .collect();
    let addresses: Vec<String> = array(object, "/endpoints")
        .flat_map(|e| array(e, "/addresses"))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    vec![
        name(object),
        json!(text(object, "/addressType")),
        json!(with_more(&ports, ports.len(), "<unset>")),
        json!(with_more(&addresses, addresses.len(), "<unset>")),
        age(object, now),
    ]
}

fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let hosts: Vec<String> =
        array(object, "/spec/rules").map(|r| text(r, "/host")).filter(|h| !h.is_empty()).map(str::to_owned).collect();
    let tls = array(object, "/spec/tls").len() > 0;
    let class =
        if is_set(object, "/spec/ingressClassName") { text(object, "/spec/ingressClassName") } else { "<none>" };
    vec![
        name(object),
        json!(class),
        json!(with_more(&hosts, hosts.len(), "*")),
        json!(load_balancer(object)),
        json!(if tls { "80, 443" } else { "80" }),
        age(object, now),
    ]
}

fn default_mark(object: &Value, annotations: &[&str]) -> String {
    let own = text(object, "/metadata/name");
    let found = object.pointer("/metadata/annotations");
    let is_default = annotations.iter().any(|a| found.and_then(|f| f.get(a)).and_then(Value::as_str) == Some("true"));
    if is_default { format!("{own} (default)") } else { own.to_owned() }
}

fn ingress_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = object.pointer("/spec/parameters").filter(|p| !p.is_null()).map_or_else(
        || "<none>".to_owned(),
        |p| {
            let (kind, group) = (text(p, "/kind"), text(p, "/apiGroup"));
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", text(p, "/name"))
        },
    );
    vec![
        json!(default_mark(object, &["ingressclass.kubernetes.io/is-default-class"])),
        json!(text(object, "/spec/controller")),
        json!(parameters),
        age(object, now),
    ]
}

fn parent_reference(object: &Value) -> String {
    let part = |field: &str| text(object, &format!("/spec/parentRef/{field}"));
    let parts = [part("resource"), part("group"), part("namespace"), part("name")];
    let [resource, group, namespace, name] = parts;
    let mut kind = resource.to_owned();
    if !group.is_empty() {
        kind = format!("{resource}.{group}");
    }
    let path: Vec<&str> = [kind.as_str(), namespace, name].into_iter().filter(|p| !p.is_empty()).collect();
    path.join("/")
}

fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let subjects = |kind: &str| {
        let names: Vec<String> = array(object, "/subjects")
            .filter(|s| text(s, "/kind") == kind)
            .map(|s| match (kind, text(s, "/namespace")) {
                ("ServiceAccount", namespace) if !namespace.is_empty() => format!("{namespace}/{}", text(s, "/name")),
                _ => text(s, "/name").to_owned(),
            })
            .collect();
        json!(names.join(", "))
    };
    vec![
        name(object),
        json!(format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"))),
        age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn signing_request(object: &Value, now: Timestamp) -> Vec<Value> {
    let has = |type_| condition(object, type_).is_some();
    let mut status = if has("Denied") {
        "Denied".to_owned()
    } else if has("Approved") {
        "Approved".to_owned()
    } else {
        "Pending".to_owned()
    };
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !text(object, "/status/certificate").is_empty() {
        status.push_str(",Issued");
    }
    let seconds = object.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    let requested = seconds.map_or_else(|| "<none>".to_owned(), |s| human_duration(SignedDuration::from_secs(s)));
    vec![
        name(object),
        age(object, now),
        json!(text_or(object, "/spec/signerName", "<none>")),
        json!(text(object, "/spec/username")),
        json!(requested),
        json!(status),
    ]
}

fn storage_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let marks = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    vec![
        json!(default_mark(object, &marks)),
        json!(text(object, "/provisioner")),
        json!(text_or(object, "/reclaimPolicy", "Delete")),
        json!(text_or(object, "/volumeBindingMode", "Immediate")),
        json!(flag(object, "/allowVolumeExpansion")),
        age(object, now),
    ]
}

fn csi_driver(object: &Value, now: Timestamp) -> Vec<Value> {
    let attach = object.pointer("/spec/attachRequired").and_then(Value::as_bool).unwrap_or(true);
    let joined = |pointer: &str, field: &str| {
        let list: Vec<&str> = array(object, pointer).map(|v| text(v, field)).collect();
        list.join(",")
    };
    let tokens = if is_set(object, "/spec/tokenRequests") {
        joined("/spec/tokenRequests", "/audience")
    } else {
        "<unset>".to_owned()
    };
    let modes = match joined("/spec/volumeLifecycleModes", "") {
        none if none.is_empty() => "<none>".to_owned(),
        some => some,
    };
    vec![
        name(object),
        json!(attach),
        json!(flag(object, "/spec/podInfoOnMount")),
        json!(flag(object, "/spec/storageCapacity")),
        json!(tokens),
        json!(flag(object, "/spec/requiresRepublish")),
        json!(modes),
        age(object, now),
    ]
}
