//! One ClusterIP out of the service ranges.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use rand::Rng as _;
use serde_json::Value;

use super::{Owner, ServiceAllocator, ip_address_object};
use crate::admission::fields::{list_at, str_at};

pub(super) const GROUP: &str = "networking.k8s.io";
pub(super) const RESOURCE: &str = "ipaddresses";
/// Label value of IPAddress objects that this allocator made.
pub(super) const MANAGED_BY: &str = "ipallocator.k8s.io";

const FULL: &str = "range is full";
const ALLOCATED: &str = "provided IP is already allocated";
/// Addresses tried before a range counts as full; larger ranges are searched from a random start.
const MAX_TRIES: u128 = 1 << 16;

pub(super) fn family_of(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The usable addresses of one range, split into the static band (given out on demand, and last)
/// and the dynamic one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    first: u128,
    last: u128,
    /// Addresses of the static band, from `first`.
    band: u128,
    v4: bool,
}

impl Range {
    /// `None` for a range without a usable address.
    pub(super) fn new(cidr: &IpNetwork) -> Option<Self> {
        let (network, bits, v4) = match cidr {
            IpNetwork::V4(n) => (u128::from(u32::from(n.network())), 32 - u32::from(n.prefix()), true),
            IpNetwork::V6(n) => (u128::from(n.network()), 128 - u32::from(n.prefix()), false),
        };
        let size = 1_u128.checked_shl(bits).unwrap_or(u128::MAX);
        // Neither the network's address nor, for IPv4, its broadcast address.
        let first = network.checked_add(1)?;
        let last = network.checked_add(size - 1)?.checked_sub(u128::from(v4))?;
        (first <= last).then(|| Self { first, last, band: static_band(size, 16, 16, 256).min(last - first + 1), v4 })
    }

    fn address(&self, n: u128) -> Option<IpAddr> {
        if self.v4 { u32::try_from(n).ok().map(|n| IpAddr::V4(n.into())) } else { Some(IpAddr::V6(n.into())) }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let (n, v4) = match ip {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), true),
            IpAddr::V6(v6) => (u128::from(v6), false),
        };
        v4 == self.v4 && (self.first..=self.last).contains(&n)
    }

    /// The dynamic band from a random start, then the static band from a random start.
    pub(super) fn candidates(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let range = *self;
        let circle = |low: u128, count: u128| {
            let start = if count == 0 { 0 } else { rand::rng().random_range(0..count) };
            (0..count.min(MAX_TRIES)).map(move |i| low + (start + i) % count)
        };
        let total = self.last - self.first + 1;
        let dynamic = circle(self.first + self.band, total - self.band);
        dynamic.chain(circle(self.first, self.band)).filter_map(move |n| range.address(n))
    }
}

/// KEP-3070: `min(max(least, size/step), most)`, nothing of a range too small to be split.
pub(super) fn static_band(size: u128, least: u128, step: u128, most: u128) -> u128 {
    if size <= least { 0 } else { (size / step).clamp(least, most) }
}

impl ServiceAllocator {
    /// Ranges in force: those of ServiceCIDR objects that are not being deleted, or the configured ones.
    fn cidrs(&self) -> Vec<IpNetwork> {
        let objects = self.reader.list(GROUP, "servicecidrs", None);
        let live = objects.iter().filter(|o| str_at(o, "/metadata/deletionTimestamp").is_empty());
        let mut found: Vec<IpNetwork> = live
            .flat_map(|o| {
                list_at(o, "/spec/cidrs")
                    .iter()
                    .filter_map(Value::as_str)
                    .filter_map(|c| c.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect();
        // The configured ranges come first: they are what most Services are in.
        found.retain(|c| !self.config.service_cidrs.contains(c));
        self.config.service_cidrs.iter().copied().chain(found).collect()
    }

    /// Configured IP families, the primary one first.
    pub(super) fn families(&self) -> Vec<&'static str> {
        let mut out = Vec::new();
        for cidr in &self.config.service_cidrs {
            let family = family_of(cidr.network());
            if !out.contains(&family) {
                out.push(family);
            }
        }
        out
    }

    /// Takes a certain address, or says why not.
    pub(super) async fn take_ip(&self, asked: &str, owner: &Owner, dry_run: bool) -> Result<IpAddr, String> {
        let ip: IpAddr = asked.parse().map_err(|_| format!("failed to parse service IP {asked:?}"))?;
        let cidrs = self.cidrs();
        let Some(cidr) = cidrs.iter().find(|c| c.contains(ip)) else {
            return Err("the provided network does not match the current range".to_owned());
        };
        if !Range::new(cidr).is_some_and(|r| r.contains(ip)) {
            return Err(format!("the provided IP ({ip}) is not in the valid range. The range of valid IPs is {cidr}"));
        }
        if self.claim(ip, owner, dry_run).await? { Ok(ip) } else { Err(ALLOCATED.to_owned()) }
    }

    /// Takes any free address of a family.
    pub(super) async fn take_any_ip(&self, family: &str, owner: &Owner, dry_run: bool) -> Result<IpAddr, String> {
        for cidr in self.cidrs().iter().filter(|c| family_of(c.network()) == family) {
            let Some(range) = Range::new(cidr) else { continue };
            for ip in range.candidates() {
                if self.claim(ip, owner, dry_run).await? {
                    return Ok(ip);
                }
            }
        }
        Err(FULL.to_owned())
    }

    /// `Ok(false)`: somebody has it.
    async fn claim(&self, ip: IpAddr, owner: &Owner, dry_run: bool) -> Result<bool, String> {
        if self.reader.get(GROUP, RESOURCE, None, &ip.to_string()).is_some() {
            return Ok(false);
        }
        if dry_run {
            return Ok(true);
        }
        match self.reader.create(GROUP, RESOURCE, ip_address_object(ip, &owner.namespace, &owner.name)).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_already_exists() => Ok(false),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Gives an address back, where it is still `owner`'s.
    pub(super) async fn release_ip(&self, ip: IpAddr, owner: &Owner) {
        let object_name = ip.to_string();
        if let Some(object) = self.reader.get(GROUP, RESOURCE, None, &object_name)
            && parent(&object) != *owner
        {
            return;
        }
        match self.reader.delete(GROUP, RESOURCE, None, &object_name).await {
            Err(error) if !error.is_not_found() => {
                tracing::warn!(%ip, %error, "ClusterIP could not be released; the next repair will");
            }
            _ => {}
        }
    }
}

/// Whom an IPAddress belongs to.
pub(super) fn parent(object: &Value) -> Owner {
    Owner {
        namespace: str_at(object, "/spec/parentRef/namespace").to_owned(),
        name: str_at(object, "/spec/parentRef/name").to_owned(),
    }
}
