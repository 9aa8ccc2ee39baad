//! ClusterIPs and NodePorts of Services: never the same one twice.
//!
//! ClusterIPs: an IPAddress object per address is the truth, and its creation is the lock (upstream
//! MultiCIDRServiceAllocator). NodePorts: the Services are the truth; a set of ports in use, made
//! from them at start, is the lock. Whatever a cut request leaves behind, [`ServiceAllocator::run`] finds.

mod addresses;
mod families;
mod ports;
mod prepare;
mod repair;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnetwork::IpNetwork;
use orlop_api::field::FieldError;
use orlop_api::status::Status;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::admission::fields::{list_at, name, namespace, str_at, strings_at};
use crate::reader::ObjectReader;
use ports::{Hold, PortSet};

/// Pause between two searches for leaks; something is a leak when two in a row see it.
const REPAIR_EVERY: Duration = Duration::from_mins(3);

#[derive(Clone, Debug)]
pub struct AllocatorConfig {
    /// `--service-cluster-ip-range`: one, or one of each family; the first is the primary.
    pub service_cidrs: Vec<IpNetwork>,
    /// `--service-node-port-range`, inclusive; 30000-32767.
    pub node_ports: (u16, u16),
}

/// Hands out ClusterIPs and NodePorts.
pub struct ServiceAllocator {
    reader: Arc<dyn ObjectReader>,
    config: AllocatorConfig,
    ports: Mutex<PortSet>,
}

/// What one create or update took. [`Allocation::commit`] once the Service is stored,
/// [`Allocation::rollback`] when it was not (or on a dry run).
#[must_use = "an allocation that is neither committed nor rolled back leaks addresses until the next repair"]
pub struct Allocation {
    allocator: Arc<ServiceAllocator>,
    owner: Owner,
    taken: Hold,
    /// Held by the old version, no longer by the new one.
    given_up: Hold,
}

/// The Service an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Owner {
    fn of(service: &Value) -> Self {
        Self { namespace: namespace(service).to_owned(), name: name(service).to_owned() }
    }
}

impl Allocation {
    /// The Service is stored: gives back what the old version had and the new one no longer has.
    pub async fn commit(self) {
        self.allocator.give_back(&self.owner, &self.given_up).await;
    }

    /// The Service was not stored: gives back what was newly taken.
    pub async fn rollback(self) {
        self.allocator.give_back(&self.owner, &self.taken).await;
    }
}

impl ServiceAllocator {
    #[must_use]
    pub fn new(reader: Arc<dyn ObjectReader>, config: AllocatorConfig) -> Self {
        let ports = Mutex::new(PortSet::new(config.node_ports));
        Self { reader, config, ports }
    }

    /// Fills `spec.clusterIP(s)`, `ipFamilies`, `ipFamilyPolicy`, `ports[].nodePort` and
    /// `healthCheckNodePort` of a defaulted Service about to be stored, or refuses it with 422.
    /// `old` is the stored version for an update. Call after defaulting, before validation.
    /// A dry run takes nothing.
    pub async fn allocate(
        self: &Arc<Self>,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Allocation, Status> {
        prepare::carry_over(service, old);
        let configured = self.families();
        families::init(service, old, &configured)?;
        let mut allocation = Allocation {
            allocator: self.clone(),
            owner: Owner::of(service),
            taken: Hold::default(),
            given_up: Hold::default(),
        };
        let done = self.fill(service, old, dry_run, &mut allocation).await;
        if dry_run {
            allocation.taken = Hold::default();
            allocation.given_up = Hold::default();
        }
        match done {
            Ok(()) => Ok(allocation),
            Err(error) => {
                allocation.rollback().await;
                Err(error)
            }
        }
    }

    async fn fill(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
        allocation: &mut Allocation,
    ) -> Result<(), Status> {
        self.fill_cluster_ips(service, old, dry_run, allocation).await?;
        self.fill_ports(service, old, dry_run, allocation)
    }

    /// The Service is gone from the store.
    pub async fn release(&self, service: &Value) {
        let hold = Hold { ips: held_ips(service), ports: ports::held_ports(service) };
        self.give_back(&Owner::of(service), &hold).await;
    }

    /// Takes what stored Services hold, drops what nobody holds. Call once before serving.
    pub async fn repair(&self) -> Result<(), Status> {
        repair::at_start(self).await
    }

    /// Looks for leaks at intervals until shut down.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        repair::run(&self, REPAIR_EVERY, shutdown).await;
    }

    async fn give_back(&self, owner: &Owner, hold: &Hold) {
        for ip in &hold.ips {
            self.release_ip(*ip, owner).await;
        }
        let mut ports = self.ports.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for port in &hold.ports {
            ports.release(*port);
        }
    }

    /// Takes the ClusterIPs that the new version has over the old one.
    async fn fill_cluster_ips(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
        allocation: &mut Allocation,
    ) -> Result<(), Status> {
        let before = old.map(held_ips).unwrap_or_default();
        if !wants_cluster_ip(service) {
            allocation.given_up.ips = before;
            return Ok(());
        }
        let families = strings_at(service, "/spec/ipFamilies");
        let mut ips = strings_at(service, "/spec/clusterIPs");
        for (index, family) in families.iter().enumerate() {
            let asked = ips.get(index).cloned().unwrap_or_default();
            if asked.parse::<IpAddr>().is_ok_and(|ip| before.contains(&ip)) {
                continue;
            }
            let owner = allocation.owner.clone();
            let ip = if asked.is_empty() {
                self.take_any_ip(family, &owner, dry_run).await.map_err(|why| no_free_ip(service, &why))?
            } else {
                self.take_ip(&asked, &owner, dry_run).await.map_err(|why| {
                    let detail = format!("failed to allocate IP {asked}: {why}");
                    invalid(service, FieldError::invalid("spec.clusterIPs", json!(ips), detail))
                })?
            };
            allocation.taken.ips.push(ip);
            if index < ips.len() {
                ips[index] = ip.to_string();
            } else {
                ips.push(ip.to_string());
            }
        }
        if let Some(first) = ips.first() {
            service["spec"]["clusterIP"] = first.clone().into();
        }
        service["spec"]["clusterIPs"] = json!(ips);
        let now = held_ips(service);
        allocation.given_up.ips = before.into_iter().filter(|ip| !now.contains(ip)).collect();
        Ok(())
    }
}

fn no_free_ip(service: &Value, why: &str) -> Status {
    Status::internal(format!("failed to allocate a serviceIP for Service {:?}: {why}", name(service)))
}

/// 422 for a Service.
fn invalid(service: &Value, error: FieldError) -> Status {
    Status::invalid("Service", "", name(service), &[error])
}

fn service_type(service: &Value) -> &str {
    let kind = str_at(service, "/spec/type");
    if kind.is_empty() { "ClusterIP" } else { kind }
}

fn is_headless(service: &Value) -> bool {
    str_at(service, "/spec/clusterIP") == "None" || list_at(service, "/spec/clusterIPs").first() == Some(&json!("None"))
}

fn wants_cluster_ip(service: &Value) -> bool {
    service_type(service) != "ExternalName" && !is_headless(service)
}

/// ClusterIPs that a stored Service holds.
fn held_ips(service: &Value) -> Vec<IpAddr> {
    if !wants_cluster_ip(service) {
        return Vec::new();
    }
    let mut ips = strings_at(service, "/spec/clusterIPs");
    if ips.is_empty() {
        ips.push(str_at(service, "/spec/clusterIP").to_owned());
    }
    ips.iter().filter_map(|ip| ip.parse().ok()).collect()
}

/// The `networking.k8s.io/v1` IPAddress that holds `ip` for a Service.
pub(crate) fn ip_address_object(ip: IpAddr, namespace: &str, service: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": ip.to_string(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": addresses::family_of(ip),
                "ipaddress.kubernetes.io/managed-by": addresses::MANAGED_BY,
            },
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": service}},
    })
}

#[cfg(test)]
mod tests;
