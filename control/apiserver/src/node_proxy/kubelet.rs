//! Requests that a kubelet answers: which node, which of its paths.

use std::net::IpAddr;
use std::sync::Arc;

use orlop_api::status::Status;
use serde_json::Value;

use super::target::{Scheme, Target, check_address, rest_of};
use crate::call::Call;
use crate::meta;

const DEFAULT_KUBELET_PORT: u16 = 10250;
/// kubeadm's `--kubelet-preferred-address-types`; names are left out, a static binary resolves none.
const ADDRESS_TYPES: &[&str] = &["InternalIP", "ExternalIP", "Hostname"];
const LOG_OPTIONS: &[&str] =
    &["follow", "limitBytes", "previous", "sinceSeconds", "sinceTime", "stream", "tailLines", "timestamps"];

pub(super) async fn log(call: &Call) -> Result<Target, Status> {
    let (pod, container) = pod_and_container(call).await?;
    let node = assigned_node(&pod)?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for option in LOG_OPTIONS {
        if let Some(value) = call.query.text(option) {
            query.append_pair(option, value);
        }
    }
    let path = format!("/containerLogs/{}/{}/{container}?{}", meta::namespace(&pod), meta::name(&pod), query.finish());
    to_kubelet(call, node, path)
}

/// The kubelet's names of the streams differ from the API's.
const STREAMS: &[(&str, &str)] = &[("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];

pub(super) async fn exec_or_attach(call: &Call) -> Result<Target, Status> {
    let (pod, container) = pod_and_container(call).await?;
    let node = assigned_node(&pod)?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (api, kubelet) in STREAMS {
        if call.query.flag(api).unwrap_or(false) {
            query.append_pair(kubelet, "1");
        }
    }
    for command in call.query.all("command") {
        query.append_pair("command", command);
    }
    let path = format!(
        "/{}/{}/{}/{container}?{}",
        call.info.subresource,
        meta::namespace(&pod),
        meta::name(&pod),
        query.finish()
    );
    to_kubelet(call, node, path)
}

pub(super) async fn port_forward(call: &Call) -> Result<Target, Status> {
    let pod = pod(call).await?;
    let node = assigned_node(&pod)?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    // The WebSocket of old names its ports in the query; several may be joined by commas.
    for ports in call.query.all("ports") {
        for port in ports.split(',') {
            query.append_pair("port", port);
        }
    }
    let path = format!("/portForward/{}/{}?{}", meta::namespace(&pod), meta::name(&pod), query.finish());
    to_kubelet(call, node, path)
}

pub(super) async fn node(call: &Call) -> Result<Target, Status> {
    let (name, port) = match call.info.name.split_once(':') {
        Some((name, port)) => (name, port.parse::<u16>().ok()),
        None => (call.info.name.as_str(), None),
    };
    let mut target = to_kubelet(call, name, rest_of(call))?;
    if let Some(port) = port.filter(|p| *p != target.port) {
        // Another port of the node is no kubelet: it gets no certificate of ours.
        target.port = port;
        target.scheme = Scheme::Http;
    }
    Ok(target)
}

async fn pod(call: &Call) -> Result<Arc<Value>, Status> {
    let storage = call.storage()?;
    let found = storage.get(&call.key()).await?;
    Ok(found.ok_or_else(|| Status::not_found(call.row, &call.info.name))?.value())
}

fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    pod.pointer(&format!("/spec/{list}"))
        .and_then(Value::as_array)
        .map(|containers| containers.iter().filter_map(|c| c["name"].as_str()).collect())
        .unwrap_or_default()
}

async fn pod_and_container(call: &Call) -> Result<(Arc<Value>, String), Status> {
    let pod = pod(call).await?;
    let name = meta::name(&pod);
    let (containers, init, ephemeral) =
        (names(&pod, "containers"), names(&pod, "initContainers"), names(&pod, "ephemeralContainers"));
    let container = match call.query.text("container") {
        Some(wanted) => {
            if ![&containers, &init, &ephemeral].iter().any(|list| list.contains(&wanted)) {
                return Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")));
            }
            wanted.to_owned()
        }
        None => match (containers.as_slice(), init.is_empty()) {
            ([], _) => return Err(Status::bad_request(format!("pod {name} has no containers"))),
            ([only], true) => (*only).to_owned(),
            _ => {
                let mut choice = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    containers.join(" ")
                );
                if !init.is_empty() {
                    choice.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                return Err(Status::bad_request(choice));
            }
        },
    };
    if call.info.subresource != "log" {
        let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            return Err(Status::bad_request(format!(
                "cannot exec into a container in a completed pod; current phase is {phase}"
            )));
        }
    }
    Ok((pod, container))
}

fn assigned_node(pod: &Value) -> Result<&str, Status> {
    pod.pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .filter(|n| !n.is_empty())
        .ok_or_else(|| Status::bad_request(format!("pod {} does not have a host assigned", meta::name(pod))))
}

fn to_kubelet(call: &Call, node: &str, path_and_query: String) -> Result<Target, Status> {
    let nodes = orlop_api::registry::find("", "v1", "nodes").ok_or_else(Status::path_not_found)?;
    let found = call.app.reader.get("", "nodes", None, node).ok_or_else(|| Status::not_found(nodes, node))?;
    let address = node_address(&found)
        .ok_or_else(|| Status::service_unavailable(format!("node {node} has no IP address yet")))?;
    check_address(&call.app, address, true)?;
    let port = found
        .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
        .and_then(Value::as_i64)
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p != 0)
        .unwrap_or(DEFAULT_KUBELET_PORT);
    Ok(Target { scheme: Scheme::Kubelet, address, port, path_and_query })
}

fn node_address(node: &Value) -> Option<IpAddr> {
    let addresses = node.pointer("/status/addresses")?.as_array()?;
    ADDRESS_TYPES.iter().find_map(|wanted| {
        addresses.iter().filter(|a| a["type"] == *wanted).find_map(|a| a["address"].as_str()?.parse().ok())
    })
}
