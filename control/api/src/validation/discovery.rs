//! Endpoints and EndpointSlices.

use std::net::IpAddr;

use serde_json::Value;

use super::read::{Errors, items, one_of, set, text};
use super::{content, push_messages};
use crate::field::{FieldError, Path};

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;
pub(super) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

pub(super) fn endpoint_slice(object: &Value, errs: &mut Errors) {
    one_of(object, "addressType", &["FQDN", "IPv4", "IPv6"], &Path::default(), errs);
    ports(object, errs);
    let endpoints = items(object, "endpoints");
    let path = Path::new("endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        errs.push(FieldError::too_many(&path, endpoints.len(), MAX_ENDPOINTS));
        return;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(i);
        let addresses = items(endpoint, "addresses");
        let at = path.child("addresses");
        if addresses.is_empty() {
            errs.push(FieldError::required(&at, "must contain at least 1 address"));
        } else if addresses.len() > MAX_ADDRESSES {
            errs.push(FieldError::too_many(&at, addresses.len(), MAX_ADDRESSES));
        }
        for (j, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            slice_address(text(object, "addressType"), address, &at, j, errs);
        }
        if let Some(node) = set(endpoint, "nodeName").and_then(Value::as_str) {
            push_messages(errs, &path.child("nodeName"), node, content::dns1123_subdomain(node));
        }
        if let Some(host) = set(endpoint, "hostname").and_then(Value::as_str) {
            push_messages(errs, &path.child("hostname"), host, content::dns1123_label(host));
        }
    }
}

fn slice_address(family: &str, address: &str, path: &Path, index: usize, errs: &mut Errors) {
    let at = path.index(index);
    if family == "FQDN" {
        push_messages(errs, &at, address, content::dns1123_subdomain(address));
        return;
    }
    let messages = content::ip_address(address);
    let Ok(ip) = address.parse::<IpAddr>() else {
        push_messages(errs, &at, address, messages);
        return;
    };
    match family {
        "IPv4" if !ip.is_ipv4() => errs.push(FieldError::invalid(path, address, "must be an IPv4 address")),
        "IPv6" if !ip.is_ipv6() => errs.push(FieldError::invalid(path, address, "must be an IPv6 address")),
        _ => {}
    }
    endpoint_ip(ip, &at, errs);
}

/// `ValidateEndpointIP`: addresses that must not be reached through a Service.
pub(super) fn endpoint_ip(ip: IpAddr, path: &Path, errs: &mut Errors) {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    };
    let link_local_multicast = match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    let mut refuse = |detail: &str| errs.push(FieldError::invalid(path, ip.to_string(), detail));
    if ip.is_unspecified() {
        refuse(&format!("may not be unspecified ({ip})"));
    }
    if ip.is_loopback() {
        refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn ports(object: &Value, errs: &mut Errors) {
    let ports = items(object, "ports");
    let path = Path::new("ports");
    if ports.len() > MAX_PORTS {
        errs.push(FieldError::too_many(&path, ports.len(), MAX_PORTS));
        return;
    }
    let mut names: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            push_messages(errs, &path.child("name"), name, content::dns1123_label(name));
        }
        if names.contains(&name) {
            errs.push(FieldError::duplicate(path.child("name"), name));
        }
        names.push(name);
        one_of(port, "protocol", PROTOCOLS, &path, errs);
        if let Some(app) = set(port, "appProtocol").and_then(Value::as_str) {
            push_messages(errs, &path.child("appProtocol"), app, content::label_key(app));
        }
    }
}

pub(super) fn endpoints(object: &Value, errs: &mut Errors) {
    for (i, subset) in items(object, "subsets").iter().enumerate() {
        let path = Path::new("subsets").index(i);
        let (ready, not_ready) = (items(subset, "addresses"), items(subset, "notReadyAddresses"));
        if ready.is_empty() && not_ready.is_empty() {
            errs.push(FieldError::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (key, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
            for (j, address) in addresses.iter().enumerate() {
                let path = path.child(key).index(j).child("ip");
                let text = text(address, "ip");
                push_messages(errs, &path, text, content::ip_address(text));
                if let Ok(ip) = text.parse() {
                    endpoint_ip(ip, &path, errs);
                }
            }
        }
        let ports = items(subset, "ports");
        for (j, port) in ports.iter().enumerate() {
            let path = path.child("ports").index(j);
            let name = text(port, "name");
            if ports.len() > 1 && name.is_empty() {
                errs.push(FieldError::required(path.child("name"), ""));
            } else if !name.is_empty() {
                push_messages(errs, &path.child("name"), name, content::dns1123_label(name));
            }
            let number = port.get("port").and_then(Value::as_i64).unwrap_or_default();
            for message in content::port_number(number) {
                errs.push(FieldError::invalid(path.child("port"), number, message));
            }
            one_of(port, "protocol", PROTOCOLS, &path, errs);
        }
    }
}
