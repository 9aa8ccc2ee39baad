//! The maps as hash maps, for native tests.

use core::cell::{Cell, RefCell};
extern crate std;
use std::collections::{HashMap, HashSet};

use crate::addr::Addr;
use crate::maps::{
    Affinity, AffinityKey, Config, Counter, Endpoint, FlowKey, FlowValue, Group, MemberKey, Service, ServiceKey,
    SlotKey, SocketKey, SocketValue,
};
use crate::tables::Tables;

#[derive(Default)]
pub(crate) struct FakeTables {
    pub(crate) config: Option<Config>,
    pub(crate) services: HashMap<ServiceKey, Service>,
    pub(crate) node_addrs: HashMap<Addr, u32>,
    pub(crate) slots: HashMap<SlotKey, Endpoint>,
    pub(crate) members: HashSet<MemberKey>,
    pub(crate) sources: HashSet<(u32, Addr)>,
    pub(crate) affinity: RefCell<HashMap<AffinityKey, Affinity>>,
    pub(crate) sockets: RefCell<HashMap<SocketKey, SocketValue>>,
    pub(crate) flows: RefCell<HashMap<FlowKey, FlowValue>>,
    pub(crate) counted: RefCell<HashMap<u32, u64>>,
    pub(crate) now_ns: Cell<u64>,
    pub(crate) random: Cell<u32>,
}

impl FakeTables {
    /// Writes a set of endpoints with membership, as user space does.
    pub(crate) fn group(&mut self, id: u32, endpoints: &[Endpoint]) -> Group {
        for (slot, endpoint) in (0..).zip(endpoints) {
            self.slots.insert(SlotKey { group: id, slot }, *endpoint);
            self.members.insert(MemberKey { endpoint: *endpoint, group: id });
        }
        Group { id, count: u32::try_from(endpoints.len()).unwrap() }
    }

    pub(crate) fn counted(&self, counter: Counter) -> u64 {
        self.counted.borrow().get(&(counter as u32)).copied().unwrap_or(0)
    }
}

impl Tables for FakeTables {
    fn config(&self) -> Option<Config> {
        self.config
    }
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        self.services.get(key).copied()
    }
    fn node_addr(&self, addr: &Addr) -> Option<u32> {
        self.node_addrs.get(addr).copied()
    }
    fn slot(&self, key: &SlotKey) -> Option<Endpoint> {
        self.slots.get(key).copied()
    }
    fn is_member(&self, key: &MemberKey) -> bool {
        self.members.contains(key)
    }
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        self.affinity.borrow().get(key).copied()
    }
    fn set_affinity(&self, key: &AffinityKey, value: &Affinity) {
        self.affinity.borrow_mut().insert(*key, *value);
    }
    fn source_allowed(&self, service: u32, source: &Addr) -> bool {
        self.sources.contains(&(service, *source))
    }
    fn socket(&self, key: &SocketKey) -> Option<SocketValue> {
        self.sockets.borrow().get(key).copied()
    }
    fn set_socket(&self, key: &SocketKey, value: &SocketValue) {
        self.sockets.borrow_mut().insert(*key, *value);
    }
    fn flow(&self, key: &FlowKey) -> Option<FlowValue> {
        self.flows.borrow().get(key).copied()
    }
    fn set_flow(&self, key: &FlowKey, value: &FlowValue, exclusive: bool) -> bool {
        let mut flows = self.flows.borrow_mut();
        if exclusive && flows.contains_key(key) {
            return false;
        }
        flows.insert(*key, *value);
        true
    }
    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }
    fn random(&self) -> u32 {
        self.random.get()
    }
    fn count(&self, counter: Counter) {
        *self.counted.borrow_mut().entry(counter as u32).or_default() += 1;
    }
}
