//! What is really in the maps, whoever wrote it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use orlop_abi::maps::{
    Endpoint as RawEndpoint, Group, MemberKey, SERVICE_CHECK_SOURCE, SERVICE_EXTERNAL_DROP, SERVICE_INTERNAL_DROP,
    SlotKey,
};
use orlop_proxy::backend::SyncError;
use orlop_proxy::state::{Endpoint, FrontendKind, ProxyState, Rule};

use crate::backend::EbpfBackend;
use crate::convert;
use crate::groups::{Content, Groups};

impl EbpfBackend {
    /// Reads the maps and replaces what this agent thought to be in them.
    pub(crate) fn read_back(&mut self) -> Result<ProxyState, SyncError> {
        let mut sets: HashMap<u32, BTreeMap<u32, RawEndpoint>> = HashMap::new();
        for (key, endpoint) in self.tables.slots.entries()? {
            sets.entry(key.group).or_default().insert(key.slot, endpoint);
        }
        self.services.clear();
        let names = std::mem::take(&mut self.ids).into_names();
        let mut groups = Groups::default();
        let mut state = ProxyState::default();
        self.sources = self.read_sources()?;
        let mut shared: HashMap<(u32, bool), Content> = HashMap::new();
        for (key, service) in self.tables.services.entries()? {
            let Some(frontend) = convert::frontend(&key) else {
                self.tables.services.remove(key)?;
                continue;
            };
            let members = service.affinity_s != 0;
            let mut content = |group: Group| {
                let known = shared
                    .entry((group.id, members))
                    .or_insert_with(|| self.read_set(group.id, sets.get(&group.id), members));
                let whole = known.endpoints.len() == group.count as usize;
                // A broken set reads as "no endpoints", which differs from what is wanted, and so is repaired.
                if whole { known.clone() } else { Content { endpoints: Arc::new([]), members } }
            };
            let (internal, external) = (content(service.internal), content(service.external));
            for (group, content) in [(service.internal, &internal), (service.external, &external)] {
                if group.count != 0 && !content.endpoints.is_empty() {
                    groups.adopt(group.id, content);
                }
            }
            let ranges = if service.flags & SERVICE_CHECK_SOURCE != 0 { self.sources.get(&service.id) } else { None };
            let rule = Rule {
                service: convert::nameless(service.id),
                kind: FrontendKind::Unknown,
                internal: convert::destination(internal.endpoints, service.flags & SERVICE_INTERNAL_DROP != 0),
                external: convert::destination(external.endpoints, service.flags & SERVICE_EXTERNAL_DROP != 0),
                affinity_s: members.then_some(service.affinity_s),
                source_ranges: ranges.cloned().unwrap_or_else(|| Arc::new([])),
            };
            self.ids.take(service.id);
            self.services.insert(key, service);
            state.frontends.insert(frontend, rule);
        }
        self.ids.rename(names);
        self.groups = groups;
        self.erase_orphans(&sets)?;
        for (addr, flags) in self.tables.node_addrs.entries()? {
            state.node_addresses.insert(addr.into(), convert::node_addr_scope(flags));
        }
        Ok(state)
    }

    fn read_set(&self, id: u32, slots: Option<&BTreeMap<u32, RawEndpoint>>, members: bool) -> Content {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (expected, (slot, endpoint)) in (0..).zip(slots.into_iter().flatten()) {
            let key = MemberKey { endpoint: *endpoint, group: id };
            let member = !members || matches!(self.tables.members.get(key), Ok(Some(_)));
            if *slot != expected || !member {
                break;
            }
            endpoints.push(convert::endpoint(endpoint));
        }
        Content { endpoints: endpoints.into(), members }
    }

    fn read_sources(&self) -> Result<HashMap<u32, Arc<[IpNetwork]>>, SyncError> {
        let mut ranges: HashMap<u32, Vec<IpNetwork>> = HashMap::new();
        for (key, prefix) in self.tables.sources.entries()? {
            ranges.entry(key.service).or_default().extend(convert::source_range(&key, prefix));
        }
        Ok(ranges
            .into_iter()
            .map(|(id, mut ranges)| {
                ranges.sort();
                (id, ranges.into())
            })
            .collect())
    }

    /// Removes sets that nothing leads to, but for those whose wait is still on.
    fn erase_orphans(&mut self, sets: &HashMap<u32, BTreeMap<u32, RawEndpoint>>) -> Result<(), SyncError> {
        let retired = self.retired.iter().flat_map(|retired| &retired.sets);
        let waiting: HashSet<u32> = self.unused.iter().chain(retired).map(|(id, _)| *id).collect();
        for (&id, slots) in sets {
            if waiting.contains(&id) {
                self.groups.reserve(id);
            } else if self.groups.endpoints(id).is_none() {
                // Readers may still be on it for an instant where a former agent was killed between flip and removal.
                for &slot in slots.keys() {
                    self.tables.slots.remove(SlotKey { group: id, slot })?;
                }
            }
        }
        for (key, _) in self.tables.members.entries()? {
            if !waiting.contains(&key.group) && self.groups.endpoints(key.group).is_none() {
                self.tables.members.remove(key)?;
            }
        }
        Ok(())
    }
}
