//! The eBPF backend: plans become map entries.
//!
//! One service changes without a moment without endpoints, and without a lock:
//! ```text
//! write the new set of endpoints ─► flip the service entry to it ─► wait for running programs ─► remove the old set
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ipnetwork::IpNetwork;
use orlop_abi::addr::Addr;
use orlop_abi::maps::{
    COUNTER_NAMES, Config, INTERFACE_PODS, Interface, LAYOUT_VERSION, MemberKey, SERVICE_CHECK_SOURCE,
    SERVICE_EXTERNAL_DROP, SERVICE_INTERNAL_DROP, Service, ServiceKey, SlotKey,
};
use orlop_abi::packet::UDP;
use orlop_proxy::backend::{Backend, Feature, Support, SyncError};
use orlop_proxy::plan::Plan;
use orlop_proxy::state::{Destination, Frontend, ProxyState, Rule, WhenEmpty};
use tokio::task::JoinHandle;

use crate::attach::{Attachments, PacketRun, TcHook, interface_of_pin};
use crate::bpffs::Pins;
use crate::config::EbpfConfig;
use crate::convert;
use crate::error::DataplaneError;
use crate::flows;
use crate::groups::{Acquired, Content, Groups};
use crate::ids::Ids;
use crate::interfaces::{self, Links};
use crate::loader;
use crate::netlink::Notifications;
use crate::probe;
use crate::sys;
use crate::tables::{Tables, WriteError};

/// Services in eBPF: at connect time for this node's sockets, in tc for packets from outside.
pub struct EbpfBackend {
    pub(crate) config: EbpfConfig,
    pub(crate) pins: Pins,
    pub(crate) attachments: Attachments,
    pub(crate) tables: Tables,
    notifications: Option<Notifications>,
    /// Interfaces with our programs: index to name.
    attached: BTreeMap<u32, String>,
    /// What `tables.services` holds.
    pub(crate) services: HashMap<ServiceKey, Service>,
    pub(crate) groups: Groups,
    pub(crate) ids: Ids,
    /// What `tables.sources` holds, by service.
    pub(crate) sources: HashMap<u32, Arc<[IpNetwork]>>,
    /// Sets that nothing leads to any more, and nobody waits for yet.
    pub(crate) unused: Vec<(u32, Content)>,
    pub(crate) retired: Option<Retired>,
}

/// Sets that nothing leads to any more, with the wait for programs that may still read them.
pub(crate) struct Retired {
    pub(crate) sets: Vec<(u32, Content)>,
    wait: JoinHandle<()>,
}

impl EbpfBackend {
    /// Loads the programs and attaches them, taking over maps and links of a former agent.
    ///
    /// # Errors
    /// When the build has no programs, the kernel lacks something (see [`crate::probe`]), or refuses.
    pub fn new(config: EbpfConfig) -> Result<Self, DataplaneError> {
        if !crate::object::is_embedded() {
            return Err(DataplaneError::NotEmbedded);
        }
        if let Some(reason) = probe::unsupported() {
            return Err(DataplaneError::Unsupported(reason));
        }
        let cgroup_root = match &config.cgroup_root {
            Some(path) => path.clone(),
            None => probe::cgroup2_root()
                .ok_or_else(|| DataplaneError::Unsupported("no cgroup2 file system is mounted".into()))?,
        };
        let pins = Pins::at(&config.bpffs_dir);
        pins.prepare()?;
        let mut loaded = loader::load(&pins, &config.map_sizes)?;
        let tables = Tables::take(&mut loaded.object)?;
        let attachments = Attachments::new(loaded, &cgroup_root)?;
        let notifications = Notifications::open()
            .inspect_err(|error| tracing::warn!(%error, "changes of interfaces are noticed in the audit only"))
            .ok();
        let mut backend = Self {
            config,
            pins,
            attachments,
            tables,
            notifications,
            attached: BTreeMap::new(),
            services: HashMap::new(),
            groups: Groups::default(),
            ids: Ids::default(),
            sources: HashMap::new(),
            unused: Vec::new(),
            retired: None,
        };
        let kernel = |source: SyncError| DataplaneError::Kernel {
            operation: "writing the configuration",
            source: io::Error::other(source),
        };
        backend.write_config().map_err(kernel)?;
        let created = backend.attachments.ensure_cgroup(&backend.pins)?;
        let interfaces = backend.ensure_interfaces()?;
        tracing::info!(
            cgroup = %cgroup_root.display(),
            pins = %backend.config.bpffs_dir.display(),
            adopted = created == 0,
            interfaces = ?interfaces,
            "eBPF proxy is attached"
        );
        Ok(backend)
    }

    /// Counters since the maps were made, by name.
    ///
    /// # Errors
    /// When the kernel refuses to read them.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>, SyncError> {
        Ok(COUNTER_NAMES.into_iter().zip(self.tables.counters()?).collect())
    }

    /// Bytes of kernel memory that each pinned map takes, by name.
    ///
    /// # Errors
    /// When a map can't be opened.
    pub fn map_memory(&self) -> Result<Vec<(String, u64)>, SyncError> {
        loader::map_memory(&self.pins)
    }

    /// Runs a packet through a tc program as if it were at an interface, and what comes out. Connections that
    /// it opens are really in the table after.
    ///
    /// # Errors
    /// When the kernel refuses, as for an interface that doesn't exist.
    pub fn run_packet(&self, hook: TcHook, interface: u32, packet: &[u8], repeat: u32) -> io::Result<PacketRun> {
        self.attachments.run_packet(hook, interface, packet, repeat)
    }

    fn write_config(&mut self) -> Result<(), SyncError> {
        let first = |v4: bool| {
            let ip = self.config.node_ips.iter().find(|ip| ip.is_ipv4() == v4);
            ip.map_or(Addr::default(), |ip| Addr::from(*ip))
        };
        let host_netns = sys::netns_cookie().unwrap_or_else(|error| {
            tracing::warn!(%error, "NodePorts don't answer on loopback: this network namespace can't be named");
            0
        });
        self.tables.set_config(Config {
            host_netns,
            node_v4: first(true),
            node_v6: first(false),
            snat_first: self.config.snat_ports.first,
            snat_count: self.config.snat_ports.count,
            layout: LAYOUT_VERSION,
        })
    }

    /// Attaches to the interfaces that should have the programs, and detaches from others. Their names.
    fn ensure_interfaces(&mut self) -> Result<Vec<String>, DataplaneError> {
        let failed = |operation| move |source| DataplaneError::Kernel { operation, source };
        let links = interfaces::read_links().map_err(failed("listing interfaces"))?;
        let routed = interfaces::default_route_interfaces();
        let mut wanted = interfaces::choose(&links, &self.config.interfaces, &self.config.node_ips, &routed);
        wanted.extend(self.config.pod_interfaces.iter().filter(|name| links.contains_key(*name)).cloned());
        self.detach_others(&links, &wanted).map_err(failed("listing pinned links"))?;
        for name in &wanted {
            let Some(link) = links.get(name) else { continue };
            let pods = self.config.pod_interfaces.contains(name);
            let interface =
                Interface { link_header_len: link.header_len, flags: if pods { INTERFACE_PODS } else { 0 } };
            self.tables.interfaces.set(link.index, interface).map_err(|error| DataplaneError::Kernel {
                operation: "noting an interface",
                source: io::Error::other(format!("{error:?}")),
            })?;
            self.attachments.ensure_interface(&self.pins, name, link)?;
            self.attached.insert(link.index, name.clone());
        }
        Ok(wanted.into_iter().collect())
    }

    fn detach_others(&mut self, links: &Links, wanted: &std::collections::BTreeSet<String>) -> io::Result<()> {
        let keep: HashSet<u32> = wanted.iter().filter_map(|name| links.get(name)).map(|link| link.index).collect();
        let mut others: BTreeMap<u32, String> = self.attached.clone();
        // Pins of a former agent, and of interfaces that are gone.
        for index in self.pins.links()?.iter().filter_map(|pin| interface_of_pin(pin)) {
            others.entry(index).or_default();
        }
        for (index, name) in others {
            if !keep.contains(&index) {
                self.attachments.detach_interface(&self.pins, &name, index);
                self.attached.remove(&index);
                if let Err(error) = self.tables.interfaces.remove(index) {
                    tracing::warn!(index, %error, "an interface that is gone is still noted");
                }
            }
        }
        Ok(())
    }

    /// Repairs what hangs in the kernel outside of the maps.
    fn ensure_attached(&mut self) -> Result<(), DataplaneError> {
        let repaired = self.attachments.ensure_cgroup(&self.pins)?;
        if repaired > 0 {
            tracing::warn!(repaired, "programs had been detached from the control group and were attached again");
        }
        self.ensure_interfaces().map(drop)
    }

    fn set_frontend(
        &mut self,
        frontend: &Frontend,
        rule: &Rule,
        removed: &mut flows::Removed,
    ) -> Result<(), WriteError> {
        let key = convert::service_key(frontend);
        let old = self.services.get(&key).copied();
        let id = self.ids.number(&rule.service, old.map(|old| old.id));
        let members = rule.affinity_s.is_some();
        let internal = self.acquire(&rule.internal, members)?;
        let external = match self.acquire(&rule.external, members) {
            Ok(group) => group,
            Err(error) => {
                self.retire([internal.id]);
                return Err(error);
            }
        };
        let dropping = |destination: &Destination, bit| if destination.when_empty == WhenEmpty::Drop { bit } else { 0 };
        let checked = if rule.source_ranges.is_empty() { 0 } else { SERVICE_CHECK_SOURCE };
        let new = Service {
            id,
            flags: dropping(&rule.internal, SERVICE_INTERNAL_DROP)
                | dropping(&rule.external, SERVICE_EXTERNAL_DROP)
                | checked,
            affinity_s: rule.affinity_s.unwrap_or(0),
            reserved: 0,
            internal,
            external,
        };
        let written = if checked == 0 { Ok(()) } else { self.set_sources(id, &rule.source_ranges) };
        if let Err(error) = written.and_then(|()| self.tables.services.set(key, new)) {
            self.retire([internal.id, external.id]);
            return Err(error);
        }
        self.ids.take(id);
        self.services.insert(key, new);
        if let Some(old) = old {
            if key.proto == UDP {
                removed.note(old.id, self.groups.endpoints(old.external.id), &rule.external.endpoints);
            }
            self.ids.give_back(old.id);
            self.retire([old.internal.id, old.external.id]);
        }
        Ok(())
    }

    fn remove_frontend(&mut self, frontend: &Frontend, removed: &mut flows::Removed) -> Result<(), SyncError> {
        let key = convert::service_key(frontend);
        self.tables.services.remove(key)?;
        if let Some(old) = self.services.remove(&key) {
            if key.proto == UDP {
                removed.note(old.id, self.groups.endpoints(old.external.id), &[]);
            }
            self.ids.give_back(old.id);
            self.retire([old.internal.id, old.external.id]);
        }
        Ok(())
    }

    /// A set with these endpoints in the kernel, written if it is new.
    fn acquire(&mut self, destination: &Destination, members: bool) -> Result<orlop_abi::maps::Group, WriteError> {
        let content = Content { endpoints: destination.endpoints.clone(), members };
        let group = match self.groups.acquire(content.clone()) {
            Acquired::Shared(group) => return Ok(group),
            Acquired::New(group) => group,
        };
        match self.write_set(group.id, &content) {
            Ok(()) => Ok(group),
            Err(error) => {
                self.groups.release(group.id);
                // Nothing leads to it, so nothing needs waiting for.
                if let Err(error) = self.erase_set(group.id, &content) {
                    tracing::warn!(%error, "a half-written set of endpoints stays until the next audit");
                }
                Err(error)
            }
        }
    }

    fn write_set(&mut self, id: u32, content: &Content) -> Result<(), WriteError> {
        for (slot, endpoint) in (0..).zip(content.endpoints.iter()) {
            let endpoint = convert::raw_endpoint(endpoint);
            self.tables.slots.set(SlotKey { group: id, slot }, endpoint)?;
            if content.members {
                self.tables.members.set(MemberKey { endpoint, group: id }, 1)?;
            }
        }
        Ok(())
    }

    fn erase_set(&mut self, id: u32, content: &Content) -> Result<(), SyncError> {
        for (slot, endpoint) in (0..).zip(content.endpoints.iter()) {
            self.tables.slots.remove(SlotKey { group: id, slot })?;
            if content.members {
                self.tables.members.remove(MemberKey { endpoint: convert::raw_endpoint(endpoint), group: id })?;
            }
        }
        Ok(())
    }

    /// Gives up uses of sets; those without another are removed once no program can be reading them.
    fn retire<const N: usize>(&mut self, ids: [u32; N]) {
        let unused = ids.into_iter().filter_map(|id| Some((id, self.groups.release(id)?)));
        self.unused.extend(unused);
    }

    /// Erases the sets whose wait is over, and begins a wait for those that became unused since: one at
    /// a time, however fast changes come.
    fn erase_retired(&mut self) {
        if self.retired.as_ref().is_some_and(|retired| retired.wait.is_finished())
            && let Some(retired) = self.retired.take()
        {
            for (id, content) in retired.sets {
                if let Err(error) = self.erase_set(id, &content) {
                    tracing::warn!(%error, "a set of endpoints that nobody uses stays until the next audit");
                }
            }
        }
        if self.retired.is_none() && !self.unused.is_empty() {
            self.retired = Some(Retired { sets: std::mem::take(&mut self.unused), wait: spawn_wait() });
        }
    }

    fn set_sources(&mut self, id: u32, ranges: &Arc<[IpNetwork]>) -> Result<(), WriteError> {
        if self.sources.get(&id) == Some(ranges) {
            return Ok(());
        }
        for range in ranges.iter() {
            let (key, prefix) = convert::source_key(id, range);
            self.tables.sources.set(key, prefix)?;
        }
        if let Some(old) = self.sources.insert(id, ranges.clone()) {
            for range in old.iter().filter(|range| !ranges.contains(range)) {
                let (key, prefix) = convert::source_key(id, range);
                self.tables.sources.remove(key, prefix).map_err(WriteError::Other)?;
            }
        }
        Ok(())
    }

    /// Removes the ranges of services that don't check sources any more.
    fn drop_unused_sources(&mut self) -> Result<(), SyncError> {
        if self.sources.is_empty() {
            return Ok(());
        }
        let checked = self.services.values().filter(|service| service.flags & SERVICE_CHECK_SOURCE != 0);
        let used: HashSet<u32> = checked.map(|service| service.id).collect();
        let unused: Vec<u32> = self.sources.keys().copied().filter(|id| !used.contains(id)).collect();
        for id in unused {
            for range in self.sources.remove(&id).iter().flat_map(|ranges| ranges.iter()) {
                let (key, prefix) = convert::source_key(id, range);
                self.tables.sources.remove(key, prefix)?;
            }
        }
        Ok(())
    }
}

fn spawn_wait() -> JoinHandle<()> {
    tokio::task::spawn_blocking(|| {
        if sys::wait_for_running_programs().is_err() {
            // Refused on nohz_full machines. No program runs for so long.
            std::thread::sleep(Duration::from_secs(1));
        }
    })
}

fn dataplane_error(error: DataplaneError) -> SyncError {
    SyncError::Kernel {
        operation: "attaching the programs",
        subject: "this node".into(),
        source: io::Error::other(error),
    }
}

#[async_trait]
impl Backend for EbpfBackend {
    fn mode(&self) -> &'static str {
        "ebpf"
    }

    fn supports(&self, feature: Feature) -> Support {
        match feature {
            Feature::Sctp => Support::No("the eBPF programs translate TCP and UDP only".into()),
            Feature::Ipv6 | Feature::SessionAffinity | Feature::SourceRanges | Feature::LocalhostNodePorts => {
                Support::Yes
            }
        }
    }

    async fn local_addresses(&mut self) -> Result<Vec<IpAddr>, SyncError> {
        let links = interfaces::read_links().map_err(|source| SyncError::Kernel {
            operation: "listing interfaces",
            subject: "this node".into(),
            source,
        })?;
        Ok(links.into_values().flat_map(|link| link.addresses).collect())
    }

    async fn installed(&mut self) -> Result<ProxyState, SyncError> {
        self.erase_retired();
        self.ensure_attached().map_err(dataplane_error)?;
        self.read_back()
    }

    async fn apply(&mut self, plan: &Plan, desired: &ProxyState) -> Result<(), SyncError> {
        self.erase_retired();
        let mut failures = Failures::default();
        let mut removed = flows::Removed::default();
        // Room first: what goes away may be what the new ones need.
        for frontend in &plan.remove {
            failures.note(self.remove_frontend(frontend, &mut removed).map_err(WriteError::Other));
        }
        for frontend in &plan.set {
            let Some(rule) = desired.frontends.get(frontend) else {
                failures.note(Err(WriteError::Other(SyncError::Inconsistent { frontend: *frontend })));
                continue;
            };
            failures.note(self.set_frontend(frontend, rule, &mut removed));
        }
        for ip in &plan.set_addresses {
            let flags = desired.node_addresses.get(ip).map_or(0, |scope| convert::node_addr_flags(*scope));
            failures.note(self.tables.node_addrs.set(Addr::from(*ip), flags));
        }
        for ip in &plan.remove_addresses {
            failures.note(self.tables.node_addrs.remove(Addr::from(*ip)).map_err(WriteError::Other));
        }
        failures.note(self.drop_unused_sources().map_err(WriteError::Other));
        self.erase_retired();
        failures.note(flows::forget(&mut self.tables.flows, &removed).map_err(WriteError::Other));
        failures.into_result()
    }

    async fn attend(&mut self) -> Result<(), SyncError> {
        self.ensure_attached().map_err(dataplane_error)
    }

    async fn changed(&mut self) {
        match &mut self.notifications {
            Some(notifications) => notifications.next().await,
            None => std::future::pending().await,
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Self::counters(self).unwrap_or_default()
    }

    async fn cleanup(&mut self) -> Result<(), Vec<SyncError>> {
        for (index, name) in std::mem::take(&mut self.attached) {
            self.attachments.detach_interface(&self.pins, &name, index);
        }
        let errors: Vec<SyncError> = self
            .pins
            .remove()
            .into_iter()
            .map(|(path, source)| SyncError::Path { operation: "removing the pin", path, source })
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// Keeps the first failure, and counts those of full maps.
#[derive(Default)]
struct Failures {
    first: Option<WriteError>,
    full: usize,
}

impl Failures {
    fn note(&mut self, result: Result<(), WriteError>) {
        if let Err(error) = result {
            self.full += usize::from(matches!(error, WriteError::Full { .. }));
            self.first.get_or_insert(error);
        }
    }

    fn into_result(self) -> Result<(), SyncError> {
        match self.first {
            None => Ok(()),
            Some(WriteError::Full { table, limit }) => Err(SyncError::Full { table, limit, failed: self.full }),
            Some(WriteError::Other(error)) => Err(error),
        }
    }
}
