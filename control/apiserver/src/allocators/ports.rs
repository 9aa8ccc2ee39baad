//! NodePorts and health check ports.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::PoisonError;

use orlop_api::field::FieldError;
use orlop_api::status::Status;
use rand::Rng as _;
use serde_json::{Value, json};

use super::addresses::static_band;
use super::{Allocation, ServiceAllocator, invalid, service_type};
use crate::admission::fields::{list_at, str_at};

/// What a Service holds, or part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) ips: Vec<IpAddr>,
    pub(super) ports: Vec<u16>,
}

/// The ports in use of one range, inclusive.
#[derive(Debug)]
pub(super) struct PortSet {
    first: u16,
    last: u16,
    used: HashSet<u16>,
}

impl PortSet {
    pub(super) fn new((first, last): (u16, u16)) -> Self {
        Self { first, last: last.max(first), used: HashSet::new() }
    }

    fn take(&mut self, port: u16) -> Result<(), String> {
        if !(self.first..=self.last).contains(&port) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.first, self.last
            ));
        }
        if self.used.insert(port) { Ok(()) } else { Err("provided port is already allocated".to_owned()) }
    }

    /// A free port: the dynamic band from a random start, then the static band.
    fn take_any(&mut self) -> Option<u16> {
        let size = u32::from(self.last - self.first) + 1;
        let band = u32::try_from(static_band(size.into(), 16, 32, 128)).unwrap_or_default();
        let dynamic = size - band;
        let start = if dynamic == 0 { 0 } else { rand::rng().random_range(0..dynamic) };
        let offsets = (0..dynamic).map(|i| band + (start + i) % dynamic).chain(0..band);
        let free =
            offsets.filter_map(|o| u16::try_from(u32::from(self.first) + o).ok()).find(|p| !self.used.contains(p))?;
        self.used.insert(free);
        Some(free)
    }

    pub(super) fn release(&mut self, port: u16) {
        self.used.remove(&port);
    }

    /// Takes a port that a stored Service has, wherever it lies.
    pub(super) fn adopt(&mut self, port: u16) {
        self.used.insert(port);
    }

    pub(super) fn used(&self) -> &HashSet<u16> {
        &self.used
    }
}

fn port_number(value: Option<&Value>) -> u16 {
    value.and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok()).unwrap_or_default()
}

pub(super) fn needs_node_ports(service: &Value) -> bool {
    matches!(service_type(service), "NodePort" | "LoadBalancer")
}

pub(super) fn needs_health_check(service: &Value) -> bool {
    service_type(service) == "LoadBalancer" && str_at(service, "/spec/externalTrafficPolicy") == "Local"
}

pub(super) fn node_ports(service: &Value) -> Vec<u16> {
    let mut out: Vec<u16> =
        list_at(service, "/spec/ports").iter().map(|p| port_number(p.get("nodePort"))).filter(|p| *p != 0).collect();
    out.sort_unstable();
    out.dedup();
    out
}

fn health_check_port(service: &Value) -> u16 {
    port_number(service.pointer("/spec/healthCheckNodePort"))
}

/// Ports that a stored Service holds.
pub(super) fn held_ports(service: &Value) -> Vec<u16> {
    let mut out = node_ports(service);
    let check = health_check_port(service);
    if needs_health_check(service) && check != 0 {
        out.push(check);
    }
    out
}

impl ServiceAllocator {
    /// Takes the ports that the new version has over the old one.
    pub(super) fn fill_ports(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
        allocation: &mut Allocation,
    ) -> Result<(), Status> {
        let before: HashSet<u16> = old.map(held_ports).unwrap_or_default().into_iter().collect();
        let mut set = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        let done = fill(&mut set, service, &before, &mut taken);
        if dry_run {
            taken.drain(..).for_each(|p| set.release(p));
        }
        drop(set);
        allocation.taken.ports = taken;
        done?;
        let now = held_ports(service);
        allocation.given_up.ports = before.into_iter().filter(|p| !now.contains(p)).collect();
        Ok(())
    }
}

fn fill(set: &mut PortSet, service: &mut Value, before: &HashSet<u16>, taken: &mut Vec<u16>) -> Result<(), Status> {
    if needs_node_ports(service) {
        fill_node_ports(set, service, before, taken)?;
    }
    if needs_health_check(service) {
        let asked = health_check_port(service);
        if asked == 0 {
            let port = set
                .take_any()
                .ok_or_else(|| Status::internal("failed to allocate a HealthCheck NodePort: range is full"))?;
            taken.push(port);
            service["spec"]["healthCheckNodePort"] = port.into();
        } else if !before.contains(&asked) {
            set.take(asked).map_err(|why| {
                Status::internal(format!("failed to allocate requested HealthCheck NodePort {asked}: {why}"))
            })?;
            taken.push(asked);
        }
    }
    Ok(())
}

fn fill_node_ports(
    set: &mut PortSet,
    service: &mut Value,
    before: &HashSet<u16>,
    taken: &mut Vec<u16>,
) -> Result<(), Status> {
    let allocate = service_type(service) != "LoadBalancer"
        || service.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&json!(false));
    let ports = list_at(service, "/spec/ports").to_vec();
    // Ports that differ in protocol only share a NodePort, asked or not (upstream: DNS on TCP and UDP).
    let mut by_port: HashMap<u64, u16> = HashMap::new();
    for (index, port) in ports.iter().enumerate() {
        let number = port.get("port").and_then(Value::as_u64).unwrap_or_default();
        let asked = port_number(port.get("nodePort"));
        if asked == 0 && !allocate {
            continue;
        }
        let shared = by_port.get(&number).copied();
        let chosen = match (asked, shared) {
            (0, Some(shared)) => shared,
            (0, None) => {
                let twin = ports.iter().filter(|p| p.get("port").and_then(Value::as_u64) == Some(number));
                let wanted = twin.map(|p| port_number(p.get("nodePort"))).find(|n| *n != 0).unwrap_or_default();
                if wanted == 0 {
                    let port = set
                        .take_any()
                        .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?;
                    taken.push(port);
                    port
                } else {
                    take_asked(set, service, index, wanted, before, taken)?
                }
            }
            (asked, _) => take_asked(set, service, index, asked, before, taken)?,
        };
        by_port.entry(number).or_insert(chosen);
        service["spec"]["ports"][index]["nodePort"] = chosen.into();
    }
    Ok(())
}

fn take_asked(
    set: &mut PortSet,
    service: &Value,
    index: usize,
    asked: u16,
    before: &HashSet<u16>,
    taken: &mut Vec<u16>,
) -> Result<u16, Status> {
    if before.contains(&asked) || taken.contains(&asked) {
        return Ok(asked);
    }
    set.take(asked)
        .map_err(|why| invalid(service, FieldError::invalid(format!("spec.ports[{index}].nodePort"), asked, why)))?;
    taken.push(asked);
    Ok(asked)
}
