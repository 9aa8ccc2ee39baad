//! The maps, and the decisions' view of them.
//!
//! Sizes here are defaults; the loader overrides them. Maps that user space fills allocate entries
//! as they come, so a large limit costs nothing; those that programs fill evict the least recently used.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use orlop_abi::addr::Addr;
use orlop_abi::maps::{
    Affinity, AffinityKey, COUNTERS, Config, Counter, Endpoint, FlowKey, FlowValue, Interface, MemberKey, Service,
    ServiceKey, SlotKey, SocketKey, SocketValue, SourceKey,
};
use orlop_abi::tables::Tables;

#[map]
static ORLOP_CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static ORLOP_SERVICES: HashMap<ServiceKey, Service> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
static ORLOP_SLOTS: HashMap<SlotKey, Endpoint> = HashMap::with_max_entries(524_288, BPF_F_NO_PREALLOC);
#[map]
static ORLOP_MEMBERS: HashMap<MemberKey, u32> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);
#[map]
static ORLOP_NODE_ADDR: HashMap<Addr, u32> = HashMap::with_max_entries(512, BPF_F_NO_PREALLOC);
#[map]
static ORLOP_AFFINITY: LruHashMap<AffinityKey, Affinity> = LruHashMap::with_max_entries(16_384, 0);
#[map]
static ORLOP_SOCKETS: LruHashMap<SocketKey, SocketValue> = LruHashMap::with_max_entries(32_768, 0);
#[map]
static ORLOP_FLOWS: LruHashMap<FlowKey, FlowValue> = LruHashMap::with_max_entries(32_768, 0);
#[map]
static ORLOP_IFACES: HashMap<u32, Interface> = HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);
#[map]
static ORLOP_SOURCES: LpmTrie<SourceKey, u32> = LpmTrie::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
static ORLOP_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// The maps and clock of the running kernel.
pub(crate) struct Kernel;

/// The interface that a packet is at, if the agent attached us there.
#[inline(always)]
pub(crate) fn interface(index: u32) -> Option<Interface> {
    // SAFETY: the value is copied out at once; user space replaces entries whole.
    unsafe { ORLOP_IFACES.get(index) }.copied()
}

/// The address of a context, for helpers.
#[inline(always)]
pub(crate) fn raw<C: EbpfContext>(ctx: &C) -> *mut core::ffi::c_void {
    ctx.as_ptr()
}

macro_rules! copy_of {
    ($map:ident, $key:expr) => {
        // SAFETY: the value is copied out at once. An entry that is being recycled could give the
        // copy another key's value only in the preallocated LRU maps, where user space never reads
        // and a mixed-up entry costs one connection its way, as an eviction would.
        unsafe { $map.get($key) }.copied()
    };
}

impl Tables for Kernel {
    #[inline(always)]
    fn config(&self) -> Option<Config> {
        ORLOP_CONFIG.get(0).copied()
    }
    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        copy_of!(ORLOP_SERVICES, key)
    }
    #[inline(always)]
    fn node_addr(&self, addr: &Addr) -> Option<u32> {
        copy_of!(ORLOP_NODE_ADDR, addr)
    }
    #[inline(always)]
    fn slot(&self, key: &SlotKey) -> Option<Endpoint> {
        copy_of!(ORLOP_SLOTS, key)
    }
    #[inline(always)]
    fn is_member(&self, key: &MemberKey) -> bool {
        ORLOP_MEMBERS.get_ptr(key).is_some()
    }
    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        copy_of!(ORLOP_AFFINITY, key)
    }
    #[inline(always)]
    fn set_affinity(&self, key: &AffinityKey, value: &Affinity) {
        if ORLOP_AFFINITY.insert(key, value, BPF_ANY.into()).is_err() {
            self.count(Counter::MapFull);
        }
    }
    #[inline(always)]
    fn source_allowed(&self, service: u32, source: &Addr) -> bool {
        // Both words of the key count: 32 bits of the id, 128 of the address.
        ORLOP_SOURCES.get(Key::new(160, SourceKey { service, addr: *source })).is_some()
    }
    #[inline(always)]
    fn socket(&self, key: &SocketKey) -> Option<SocketValue> {
        copy_of!(ORLOP_SOCKETS, key)
    }
    #[inline(always)]
    fn set_socket(&self, key: &SocketKey, value: &SocketValue) {
        if ORLOP_SOCKETS.insert(key, value, BPF_ANY.into()).is_err() {
            self.count(Counter::MapFull);
        }
    }
    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<FlowValue> {
        copy_of!(ORLOP_FLOWS, key)
    }
    #[inline(always)]
    fn set_flow(&self, key: &FlowKey, value: &FlowValue, exclusive: bool) -> bool {
        let flags = if exclusive { BPF_NOEXIST } else { BPF_ANY };
        ORLOP_FLOWS.insert(key, value, flags.into()).is_ok()
    }
    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_ns() }
    }
    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_prandom_u32() }
    }
    #[inline(always)]
    fn count(&self, counter: Counter) {
        if let Some(value) = ORLOP_COUNTERS.get_ptr_mut(counter as u32) {
            // SAFETY: this CPU's own slot, and programs are not preempted by themselves.
            unsafe { *value += 1 };
        }
    }
}
