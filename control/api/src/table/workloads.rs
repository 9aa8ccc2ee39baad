//! Rows of workloads, services and what configures them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells::{
    age, array, containers, flag, format_labels, format_selector, is_set, map_len, name, number, quantity, since,
    sorted_map, text, time, with_more,
};
use super::{condition_is_true, human_duration};
use crate::selector::selector_from_object;

/// Pod template of the workloads.
const TEMPLATE: &str = "/spec/template/spec";

pub(super) fn row(kind: &str, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let n = |pointer| json!(number(object, pointer));
    let mut cells = vec![name(object)];
    let selector = || json!(format_selector(object, "/spec/selector"));
    match kind {
        "PodTemplate" => {
            cells.extend(containers(object, "/template/spec"));
            cells.push(json!(format_labels(object, "/template/metadata/labels")));
        }
        "ReplicationController" | "ReplicaSet" => {
            cells.extend([n("/spec/replicas"), n("/status/replicas"), n("/status/readyReplicas"), age(object, now)]);
            cells.extend(containers(object, TEMPLATE));
            cells.push(if kind == "ReplicaSet" { selector() } else { json!(format_labels(object, "/spec/selector")) });
        }
        "Scale" => cells.extend([n("/spec/replicas"), n("/status/replicas"), age(object, now)]),
        "Deployment" => {
            cells.extend([
                json!(format!("{}/{}", number(object, "/status/readyReplicas"), number(object, "/spec/replicas"))),
                n("/status/updatedReplicas"),
                n("/status/availableReplicas"),
                age(object, now),
            ]);
            cells.extend(containers(object, TEMPLATE));
            let selector = selector_from_object(object.pointer("/spec/selector"));
            cells.push(json!(selector.map_or_else(|_| "<invalid>".to_owned(), |s| s.to_string())));
        }
        "StatefulSet" => {
            let ready = number(object, "/status/readyReplicas");
            cells.extend([json!(format!("{ready}/{}", number(object, "/spec/replicas"))), age(object, now)]);
            cells.extend(containers(object, TEMPLATE));
        }
        "DaemonSet" => {
            cells.extend(
                [
                    "/status/desiredNumberScheduled",
                    "/status/currentNumberScheduled",
                    "/status/numberReady",
                    "/status/updatedNumberScheduled",
                    "/status/numberAvailable",
                ]
                .map(n),
            );
            cells.push(json!(format_labels(object, "/spec/template/spec/nodeSelector")));
            cells.push(age(object, now));
            cells.extend(containers(object, TEMPLATE));
            cells.push(selector());
        }
        "ControllerRevision" => {
            cells.extend([json!(controller_name(object)), n("/revision"), age(object, now)]);
        }
        "Job" => {
            cells.extend([job_status(object), job_completions(object), job_duration(object, now)].map(Value::from));
            cells.push(age(object, now));
            cells.extend(containers(object, TEMPLATE));
            cells.push(selector());
        }
        "CronJob" => cron_job(object, now, &mut cells),
        "PodDisruptionBudget" => {
            cells.extend([int_or_string(object, "/spec/minAvailable"), int_or_string(object, "/spec/maxUnavailable")]);
            cells.extend([n("/status/disruptionsAllowed"), age(object, now)]);
        }
        "HorizontalPodAutoscaler" => autoscaler(object, now, &mut cells),
        "Service" => service(object, now, &mut cells),
        "Endpoints" => cells.extend([json!(endpoints(object)), age(object, now)]),
        "Secret" => cells.extend([json!(text(object, "/type")), json!(map_len(object, "/data")), age(object, now)]),
        "ConfigMap" => {
            let entries = map_len(object, "/data") + map_len(object, "/binaryData");
            cells.extend([json!(entries), age(object, now)]);
        }
        "ServiceAccount" => cells.push(age(object, now)),
        "ResourceQuota" => {
            let [requests, limits] = quota(object);
            cells.extend([json!(requests), json!(limits), age(object, now)]);
        }
        _ => return None,
    }
    Some(cells)
}

fn controller_name(object: &Value) -> String {
    let owner = array(object, "/metadata/ownerReferences").find(|o| flag(o, "/controller"));
    owner.map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let kind = text(owner, "/kind").to_lowercase();
            let group = text(owner, "/apiVersion").split_once('/').map_or("", |(g, _)| g);
            let name = text(owner, "/name");
            if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
        },
    )
}

fn job_status(job: &Value) -> String {
    for (condition, status) in [("Complete", "Complete"), ("Failed", "Failed")] {
        if condition_is_true(job, condition) {
            return status.to_owned();
        }
    }
    if is_set(job, "/metadata/deletionTimestamp") {
        return "Terminating".to_owned();
    }
    ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
        .into_iter()
        .find(|c| condition_is_true(job, c))
        .unwrap_or("Running")
        .to_owned()
}

fn job_completions(job: &Value) -> String {
    let succeeded = number(job, "/status/succeeded");
    if is_set(job, "/spec/completions") {
        return format!("{succeeded}/{}", number(job, "/spec/completions"));
    }
    match number(job, "/spec/parallelism") {
        many @ 2.. => format!("{succeeded}/1 of {many}"),
        _ => format!("{succeeded}/1"),
    }
}

fn job_duration(job: &Value, now: Timestamp) -> String {
    let end = time(job, "/status/completionTime").unwrap_or(now);
    time(job, "/status/startTime").map_or_else(String::new, |start| human_duration(end.duration_since(start)))
}

fn cron_job(object: &Value, now: Timestamp, cells: &mut Vec<Value>) {
    let or_none = |pointer| if is_set(object, pointer) { text(object, pointer) } else { "<none>" };
    let suspend = match object.pointer("/spec/suspend").and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = match time(object, "/status/lastScheduleTime") {
        None => "<none>".to_owned(),
        some => since(some, now),
    };
    cells.extend([
        json!(text(object, "/spec/schedule")),
        json!(or_none("/spec/timeZone")),
        json!(suspend),
        json!(array(object, "/status/active").len()),
        json!(last),
        age(object, now),
    ]);
    cells.extend(containers(object, "/spec/jobTemplate/spec/template/spec"));
    cells.push(json!(format_selector(object, "/spec/jobTemplate/spec/selector")));
}

fn int_or_string(object: &Value, pointer: &str) -> Value {
    match object.pointer(pointer) {
        Some(Value::String(s)) => json!(s),
        Some(Value::Number(n)) => json!(n.to_string()),
        _ => json!("N/A"),
    }
}

fn service(object: &Value, now: Timestamp, cells: &mut Vec<Value>) {
    let cluster_ip = match text(object, "/spec/clusterIPs/0") {
        "" => "<none>",
        ip => ip,
    };
    let ports: Vec<String> = array(object, "/spec/ports")
        .map(|port| {
            let (number_, protocol) = (number(port, "/port"), text(port, "/protocol"));
            match number(port, "/nodePort") {
                node_port @ 1.. => format!("{number_}:{node_port}/{protocol}"),
                _ => format!("{number_}/{protocol}"),
            }
        })
        .collect();
    let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
    cells.extend([
        json!(text(object, "/spec/type")),
        json!(cluster_ip),
        json!(external_ip(object)),
        json!(ports),
        age(object, now),
        json!(format_labels(object, "/spec/selector")),
    ]);
}

/// Addresses of a load balancer, each once, in order.
pub(super) fn load_balancer(object: &Value) -> String {
    let mut addresses: Vec<&str> = array(object, "/status/loadBalancer/ingress")
        .map(|i| match text(i, "/ip") {
            "" => text(i, "/hostname"),
            ip => ip,
        })
        .filter(|a| !a.is_empty())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.join(",")
}

fn external_ip(service: &Value) -> String {
    let external: Vec<&str> = array(service, "/spec/externalIPs").filter_map(Value::as_str).collect();
    let external = external.join(",");
    let or = |empty: &str| if external.is_empty() { empty.to_owned() } else { external.clone() };
    match text(service, "/spec/type") {
        "ClusterIP" | "NodePort" => or("<none>"),
        "LoadBalancer" => match load_balancer(service) {
            none if none.is_empty() => or("<pending>"),
            balancer if external.is_empty() => balancer,
            balancer => format!("{balancer},{external}"),
        },
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn endpoints(object: &Value) -> String {
    let mut list = Vec::new();
    for subset in array(object, "/subsets") {
        let ips = || array(subset, "/addresses").map(|a| text(a, "/ip"));
        if array(subset, "/ports").len() == 0 {
            list.extend(ips().map(str::to_owned));
        }
        for port in array(subset, "/ports") {
            let port = number(port, "/port");
            list.extend(
                ips().map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
            );
        }
    }
    if array(object, "/subsets").len() == 0 {
        return "<none>".to_owned();
    }
    with_more(&list, list.len(), "")
}

fn quota(object: &Value) -> [String; 2] {
    let mut columns = [Vec::new(), Vec::new()];
    for (resource, hard) in sorted_map(object, "/status/hard") {
        let used = object.pointer("/status/used").and_then(|u| u.get(resource)).unwrap_or(&Value::Null);
        let entry = format!("{resource}: {}/{}", quantity(used, ""), quantity(hard, ""));
        columns[usize::from(resource.starts_with("limits."))].push(entry);
    }
    columns.map(|c| c.join(", "))
}

fn autoscaler(object: &Value, now: Timestamp, cells: &mut Vec<Value>) {
    let target = "/spec/scaleTargetRef";
    let reference = format!("{}/{}", text(object, &format!("{target}/kind")), text(object, &format!("{target}/name")));
    let min = object.pointer("/spec/minReplicas").and_then(Value::as_i64);
    cells.extend([
        json!(reference),
        json!(metrics(object)),
        json!(min.map_or_else(|| "<unset>".to_owned(), |m| m.to_string())),
        json!(number(object, "/spec/maxReplicas")),
        json!(number(object, "/status/currentReplicas")),
        age(object, now),
    ]);
}

/// The TARGETS column: `cpu: 12%/80%`.
fn metrics(object: &Value) -> String {
    const SHOWN: usize = 2;
    let specs = array(object, "/spec/metrics");
    let count = specs.len();
    if count == 0 {
        return "<none>".to_owned();
    }
    let statuses: Vec<&Value> = array(object, "/status/currentMetrics").collect();
    let list: Vec<String> =
        specs.enumerate().take(SHOWN).map(|(i, spec)| metric(spec, statuses.get(i).copied())).collect();
    let shown = list.join(", ");
    if count > SHOWN { format!("{shown} + {} more...", count - SHOWN) } else { shown }
}

fn metric(spec: &Value, status: Option<&Value>) -> String {
    let source = match text(spec, "/type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (format!("/{source}/target"), format!("/{source}/current"));
    let now = |field: &str| {
        let found = status.and_then(|s| s.pointer(&format!("{current}/{field}"))).filter(|v| !v.is_null());
        found.map_or_else(|| "<unknown>".to_owned(), |v| quantity(v, ""))
    };
    let want = |field: &str| quantity(spec, &format!("{target}/{field}"));
    let average = is_set(spec, &format!("{target}/averageValue"));
    match source {
        "resource" | "containerResource" => {
            let name = text(spec, &format!("/{source}/name"));
            if average {
                return format!("{name}: {}/{}", now("averageValue"), want("averageValue"));
            }
            let percent = |v: Option<&Value>, none: &str| {
                v.and_then(Value::as_i64).map_or_else(|| none.to_owned(), |p| format!("{p}%"))
            };
            let current = status.and_then(|s| s.pointer(&format!("{current}/averageUtilization")));
            let target = spec.pointer(&format!("{target}/averageUtilization"));
            format!("{name}: {}/{}", percent(current, "<unknown>"), percent(target, "<auto>"))
        }
        "pods" => format!("{}/{}", now("averageValue"), want("averageValue")),
        _ if average => format!("{}/{} (avg)", now("averageValue"), want("averageValue")),
        _ => format!("{}/{}", now("value"), want("value")),
    }
}
