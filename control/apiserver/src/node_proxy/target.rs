//! Where a proxied request goes, and which addresses no object may send us to.

use std::net::IpAddr;

use orlop_api::status::Status;
use serde_json::Value;

use crate::app::App;
use crate::call::Call;

/// How the other end is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// TLS with our kubelet client certificate; the other side is verified.
    Kubelet,
    Http,
    /// TLS without verification: pods have no certificate that we could check (as upstream).
    Https,
}

/// Where a proxied request goes.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) path_and_query: String,
}

/// Objects tell addresses, and whoever writes objects must not reach with them what only this host
/// may: its loopback, its link (cloud metadata at 169.254.169.254), nothing, everybody.
/// Loopback is allowed where this server itself is advertised there: a node on the same machine.
pub(super) fn check_address(app: &App, address: IpAddr, node: bool) -> Result<(), Status> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let loopback = address.is_loopback() && !(node && app.config.advertise_address.is_loopback());
    if loopback || link_local || address.is_unspecified() || address.is_multicast() {
        return Err(Status::forbidden("", "", format!("address {address} is not allowed as a proxy target")));
    }
    Ok(())
}

/// `[SCHEME:]NAME[:PORT]`
pub(super) fn split_name(text: &str) -> Result<(Scheme, &str, Option<&str>), Status> {
    let parts: Vec<&str> = text.split(':').collect();
    let scheme = |s: &str| match s {
        "" | "http" => Ok(Scheme::Http),
        "https" => Ok(Scheme::Https),
        _ => Err(Status::bad_request(format!("invalid proxy scheme {s:?}"))),
    };
    match parts.as_slice() {
        [name] => Ok((Scheme::Http, name, None)),
        [name, port] => Ok((Scheme::Http, name, Some(port).filter(|p| !p.is_empty()).copied())),
        [s, name, port] => Ok((scheme(s)?, name, Some(port).filter(|p| !p.is_empty()).copied())),
        _ => Err(Status::bad_request(format!("invalid proxy name {text:?}"))),
    }
}

/// Path behind `proxy/`, with the client's query.
pub(super) fn rest_of(call: &Call) -> String {
    let mut path = format!("/{}", call.info.rest);
    let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(call.query.pairs()).finish();
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query);
    }
    path
}

pub(super) async fn pod(call: &Call) -> Result<Target, Status> {
    let (scheme, name, port) = split_name(&call.info.name)?;
    let key = crate::storage::object_key(call.namespace(), name);
    let pod = call.storage()?.get_cached(&key).await?.ok_or_else(|| Status::not_found(call.row, name))?;
    let pod = pod.value();
    let address = pod
        .pointer("/status/podIP")
        .and_then(Value::as_str)
        .and_then(|ip| ip.parse().ok())
        .ok_or_else(|| Status::bad_request(format!("address not allowed: pod {name} has no IP address yet")))?;
    check_address(&call.app, address, false)?;
    let port = match port {
        Some(port) => port_number(port).or_else(|| container_port(&pod, Some(port))),
        None => container_port(&pod, None).or(Some(80)),
    };
    let port = port.ok_or_else(|| Status::bad_request(format!("pod {name} has no such port")))?;
    Ok(Target { scheme, address, port, path_and_query: rest_of(call) })
}

fn port_number(text: &str) -> Option<u16> {
    text.parse().ok()
}

fn container_port(pod: &Value, name: Option<&str>) -> Option<u16> {
    let containers = pod.pointer("/spec/containers")?.as_array()?;
    containers
        .iter()
        .filter_map(|c| c.get("ports")?.as_array())
        .flatten()
        .find(|p| name.is_none_or(|name| p["name"] == name))
        .and_then(|p| u16::try_from(p["containerPort"].as_i64()?).ok())
}

pub(super) async fn service(call: &Call) -> Result<Target, Status> {
    let (scheme, name, wanted) = split_name(&call.info.name)?;
    let key = crate::storage::object_key(call.namespace(), name);
    let service = call.storage()?.get_cached(&key).await?.ok_or_else(|| Status::not_found(call.row, name))?;
    let service = service.value();
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let port = match wanted {
        Some(wanted) => {
            ports.iter().find(|p| p["name"] == wanted || p["port"].as_i64().is_some_and(|n| n.to_string() == wanted))
        }
        None if ports.len() == 1 => ports.first(),
        None => None,
    };
    let port = port.ok_or_else(|| {
        Status::service_unavailable(format!(
            "no service port {:?} found for service {name:?}",
            wanted.unwrap_or_default()
        ))
    })?;
    let port_name = port["name"].as_str().unwrap_or_default();
    let (address, port) = endpoint(call, name, port_name)
        .ok_or_else(|| Status::service_unavailable(format!("no endpoints available for service {name:?}")))?;
    check_address(&call.app, address, false)?;
    Ok(Target { scheme, address, port, path_and_query: rest_of(call) })
}

/// One of the ready endpoints, at random.
fn endpoint(call: &Call, service: &str, port_name: &str) -> Option<(IpAddr, u16)> {
    let slices = call.app.reader.list("discovery.k8s.io", "endpointslices", call.namespace());
    let mut ready = Vec::new();
    for slice in slices {
        if slice.pointer("/metadata/labels/kubernetes.io~1service-name").and_then(Value::as_str) != Some(service) {
            continue;
        }
        let port = slice["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|p| p["name"].as_str().unwrap_or_default() == port_name)
            .and_then(|p| u16::try_from(p["port"].as_i64()?).ok());
        let Some(port) = port else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint.pointer("/conditions/ready").and_then(Value::as_bool) == Some(false) {
                continue;
            }
            let addresses = endpoint["addresses"].as_array().into_iter().flatten();
            ready.extend(addresses.filter_map(|a| Some((a.as_str()?.parse().ok()?, port))));
        }
    }
    if ready.is_empty() { None } else { Some(ready[usize::from(rand::random::<u16>()) % ready.len()]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(split_name("web").unwrap(), (Scheme::Http, "web", None));
        assert_eq!(split_name("web:80").unwrap(), (Scheme::Http, "web", Some("80")));
        assert_eq!(split_name("https:web:").unwrap(), (Scheme::Https, "web", None));
        assert_eq!(split_name("https:web:tls").unwrap(), (Scheme::Https, "web", Some("tls")));
        assert!(split_name("ftp:web:1").is_err());
        assert!(split_name("a:b:c:d").is_err());
    }
}
