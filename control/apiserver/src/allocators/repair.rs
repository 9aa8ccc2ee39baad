//! Brings addresses and ports back in line with the stored Services, at start and now and then.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Duration;

use orlop_api::status::Status;
use tokio_util::sync::CancellationToken;

use super::addresses::{GROUP, MANAGED_BY, RESOURCE, parent};
use super::ports::held_ports;
use super::{Owner, ServiceAllocator, held_ips, ip_address_object};
use crate::admission::fields::{label, name};

/// What stored Services hold.
struct Held {
    ips: HashMap<IpAddr, Owner>,
    ports: HashSet<u16>,
}

fn held(allocator: &ServiceAllocator) -> Held {
    let mut held = Held { ips: HashMap::new(), ports: HashSet::new() };
    for service in allocator.reader.list("", "services", None) {
        for ip in held_ips(&service) {
            if let Some(other) = held.ips.insert(ip, Owner::of(&service)) {
                tracing::error!(%ip, one = ?other, another = ?Owner::of(&service), "two Services hold one ClusterIP");
            }
        }
        held.ports.extend(held_ports(&service));
    }
    held
}

/// Nobody writes yet: what no Service holds is free.
pub(super) async fn at_start(allocator: &ServiceAllocator) -> Result<(), Status> {
    let held = held(allocator);
    {
        let mut ports = allocator.ports.lock().unwrap_or_else(PoisonError::into_inner);
        held.ports.iter().for_each(|p| ports.adopt(*p));
    }
    create_missing(allocator, &held).await?;
    for ip in orphans(allocator, &held) {
        delete(allocator, ip).await?;
    }
    Ok(())
}

/// Every Service's address has its IPAddress object, with the right parent.
async fn create_missing(allocator: &ServiceAllocator, held: &Held) -> Result<(), Status> {
    for (ip, owner) in &held.ips {
        let wanted = ip_address_object(*ip, &owner.namespace, &owner.name);
        match allocator.reader.get(GROUP, RESOURCE, None, &ip.to_string()) {
            Some(object) if parent(&object) == *owner => continue,
            Some(_) => delete(allocator, *ip).await?,
            None => {}
        }
        match allocator.reader.create(GROUP, RESOURCE, wanted).await {
            Err(e) if !e.is_already_exists() => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

async fn delete(allocator: &ServiceAllocator, ip: IpAddr) -> Result<(), Status> {
    match allocator.reader.delete(GROUP, RESOURCE, None, &ip.to_string()).await {
        Err(e) if !e.is_not_found() => Err(e),
        _ => Ok(()),
    }
}

/// IPAddress objects of ours whose Service is gone or has another address.
fn orphans(allocator: &ServiceAllocator, held: &Held) -> HashSet<IpAddr> {
    allocator
        .reader
        .list(GROUP, RESOURCE, None)
        .iter()
        .filter(|o| label(o, "ipaddress.kubernetes.io/managed-by") == Some(MANAGED_BY))
        .filter_map(|o| Some((name(o).parse::<IpAddr>().ok()?, parent(o))))
        .filter(|(ip, owner)| held.ips.get(ip) != Some(owner))
        .map(|(ip, _)| ip)
        .collect()
}

/// A request in flight holds what no stored Service shows yet: only what two rounds see is a leak.
pub(super) async fn run(allocator: &ServiceAllocator, every: Duration, shutdown: CancellationToken) {
    let mut suspect_ips: HashSet<IpAddr> = HashSet::new();
    let mut suspect_ports: HashSet<u16> = HashSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let held = held(allocator);
        let ips = orphans(allocator, &held);
        for ip in ips.intersection(&suspect_ips) {
            tracing::info!(%ip, "releasing a ClusterIP that no Service holds");
            if let Err(error) = delete(allocator, *ip).await {
                tracing::warn!(%ip, %error, "ClusterIP could not be released");
            }
        }
        if let Err(error) = create_missing(allocator, &held).await {
            tracing::warn!(%error, "IPAddress objects could not be repaired");
        }
        let mut set = allocator.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let unheld: HashSet<u16> = set.used().difference(&held.ports).copied().collect();
        for port in unheld.intersection(&suspect_ports) {
            tracing::info!(port, "releasing a NodePort that no Service holds");
            set.release(*port);
        }
        held.ports.iter().for_each(|p| set.adopt(*p));
        drop(set);
        suspect_ips = ips;
        suspect_ports = unheld;
    }
}
