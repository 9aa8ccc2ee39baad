//! The maps, typed.

use std::io;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use orlop_abi::addr::Addr;
use orlop_abi::maps::{
    COUNTERS, Config, Endpoint, FlowKey, FlowValue, Interface, MemberKey, Plain, Service, ServiceKey, SlotKey,
    SourceKey, names,
};
use orlop_proxy::backend::SyncError;

use crate::config::MapSizes;
use crate::error::DataplaneError;

/// Bytes that cross into the kernel.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Raw<T>(pub(crate) T);

// SAFETY: `Plain` promises no padding and no invalid bit patterns; the wrapper is transparent.
unsafe impl<T: Plain> Pod for Raw<T> {}

/// A hash map that user space fills or clears.
pub(crate) struct Table<K, V> {
    name: &'static str,
    limit: u32,
    map: HashMap<MapData, Raw<K>, Raw<V>>,
}

/// Why an entry was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    Full { table: &'static str, limit: u32 },
    Other(SyncError),
}

impl<K: Plain, V: Plain> Table<K, V> {
    fn take(maps: &mut aya::Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        let map = take(maps, name)?;
        let limit = limit_of(&map, name)?;
        let map = HashMap::try_from(map).map_err(|source| map_error(name, source))?;
        Ok(Self { name, limit, map })
    }

    pub(crate) fn set(&mut self, key: K, value: V) -> Result<(), WriteError> {
        match self.map.insert(Raw(key), Raw(value), 0) {
            Ok(()) => Ok(()),
            Err(error) => Err(write_error(self.name, self.limit, "writing an entry", error)),
        }
    }

    pub(crate) fn get(&self, key: K) -> Result<Option<V>, SyncError> {
        match self.map.get(&Raw(key), 0) {
            Ok(Raw(value)) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(sync_error(self.name, "reading an entry", error)),
        }
    }

    /// Removes an entry; one that isn't there is fine.
    pub(crate) fn remove(&mut self, key: K) -> Result<(), SyncError> {
        match self.map.remove(&Raw(key)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(sync_error(self.name, "removing an entry", error)),
        }
    }

    /// All entries. Those that change meanwhile may be missed or seen twice.
    pub(crate) fn entries(&self) -> Result<Vec<(K, V)>, SyncError> {
        let mut entries = Vec::new();
        for entry in self.map.iter() {
            match entry {
                Ok((Raw(key), Raw(value))) => entries.push((key, value)),
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(sync_error(self.name, "reading all entries", error)),
            }
            // A key that vanishes under the walk starts it over; the limit ends it.
            if entries.len() > self.limit as usize {
                break;
            }
        }
        Ok(entries)
    }
}

/// The source ranges of load balancers.
pub(crate) struct Sources {
    limit: u32,
    map: LpmTrie<MapData, Raw<SourceKey>, Raw<u32>>,
}

/// Bits before the address in a key.
const SERVICE_BITS: u32 = 32;

impl Sources {
    /// Lets a prefix (of the 16-byte form) use a service.
    pub(crate) fn set(&mut self, key: SourceKey, prefix: u32) -> Result<(), WriteError> {
        self.map
            .insert(&Key::new(SERVICE_BITS + prefix, Raw(key)), Raw(1), 0)
            .map_err(|error| write_error(names::SOURCES, self.limit, "writing an entry", error))
    }

    pub(crate) fn remove(&mut self, key: SourceKey, prefix: u32) -> Result<(), SyncError> {
        match self.map.remove(&Key::new(SERVICE_BITS + prefix, Raw(key))) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(sync_error(names::SOURCES, "removing an entry", error)),
        }
    }

    /// All prefixes with their length.
    pub(crate) fn entries(&self) -> Result<Vec<(SourceKey, u32)>, SyncError> {
        let mut entries = Vec::new();
        for key in self.map.keys() {
            let key = key.map_err(|error| sync_error(names::SOURCES, "reading all entries", error))?;
            let Raw(source) = key.data();
            entries.push((source, key.prefix_len().saturating_sub(SERVICE_BITS)));
            if entries.len() > self.limit as usize {
                break;
            }
        }
        Ok(entries)
    }
}

/// Every map that user space handles.
pub(crate) struct Tables {
    pub(crate) config: Array<MapData, Raw<Config>>,
    pub(crate) services: Table<ServiceKey, Service>,
    pub(crate) slots: Table<SlotKey, Endpoint>,
    pub(crate) members: Table<MemberKey, u32>,
    pub(crate) node_addrs: Table<Addr, u32>,
    pub(crate) flows: Table<FlowKey, FlowValue>,
    pub(crate) interfaces: Table<u32, Interface>,
    pub(crate) sources: Sources,
    pub(crate) counters: PerCpuArray<MapData, u64>,
}

impl Tables {
    pub(crate) fn take(maps: &mut aya::Ebpf) -> Result<Self, DataplaneError> {
        let sources = take(maps, names::SOURCES)?;
        let limit = limit_of(&sources, names::SOURCES)?;
        let sources = LpmTrie::try_from(sources).map_err(|source| map_error(names::SOURCES, source))?;
        Ok(Self {
            config: Array::try_from(take(maps, names::CONFIG)?).map_err(|source| map_error(names::CONFIG, source))?,
            services: Table::take(maps, names::SERVICES)?,
            slots: Table::take(maps, names::SLOTS)?,
            members: Table::take(maps, names::MEMBERS)?,
            node_addrs: Table::take(maps, names::NODE_ADDRS)?,
            flows: Table::take(maps, names::FLOWS)?,
            interfaces: Table::take(maps, names::INTERFACES)?,
            sources: Sources { limit, map: sources },
            counters: PerCpuArray::try_from(take(maps, names::COUNTERS)?)
                .map_err(|source| map_error(names::COUNTERS, source))?,
        })
    }

    /// The counters, summed over CPUs, by [`orlop_abi::maps::Counter`].
    pub(crate) fn counters(&self) -> Result<Vec<u64>, SyncError> {
        (0..COUNTERS)
            .map(|index| {
                let values = self
                    .counters
                    .get(&index, 0)
                    .map_err(|error| sync_error(names::COUNTERS, "reading an entry", error))?;
                Ok(values.iter().copied().fold(0, u64::wrapping_add))
            })
            .collect()
    }

    pub(crate) fn set_config(&mut self, config: Config) -> Result<(), SyncError> {
        self.config.set(0, Raw(config), 0).map_err(|error| sync_error(names::CONFIG, "writing an entry", error))
    }
}

/// Names and limits, as the loader needs them.
pub(crate) fn limits(sizes: &MapSizes) -> [(&'static str, u32); 7] {
    [
        (names::SERVICES, sizes.services),
        (names::SLOTS, sizes.slots),
        (names::MEMBERS, sizes.members),
        (names::SOURCES, sizes.sources),
        (names::AFFINITY, sizes.affinity),
        (names::SOCKETS, sizes.sockets),
        (names::FLOWS, sizes.flows),
    ]
}

fn take(maps: &mut aya::Ebpf, name: &'static str) -> Result<Map, DataplaneError> {
    maps.take_map(name).ok_or(DataplaneError::Missing { kind: "map", name })
}

/// The limit of the map in the kernel, which a former agent may have made with another one.
fn limit_of(map: &Map, name: &'static str) -> Result<u32, DataplaneError> {
    let (Map::HashMap(data) | Map::LruHashMap(data) | Map::LpmTrie(data)) = map else {
        return Err(DataplaneError::Missing { kind: "hash map or trie", name });
    };
    let info = data.info().map_err(|source| map_error(name, source))?;
    Ok(info.max_entries())
}

fn map_error(name: &'static str, source: MapError) -> DataplaneError {
    DataplaneError::Map { name, source: Box::new(source) }
}

fn io_of(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}

fn sync_error(name: &'static str, operation: &'static str, error: MapError) -> SyncError {
    SyncError::Kernel { operation, subject: format!("map {name}"), source: io_of(error) }
}

fn write_error(name: &'static str, limit: u32, operation: &'static str, error: MapError) -> WriteError {
    let source = io_of(error);
    // Hash maps say E2BIG, tries ENOSPC.
    match source.raw_os_error() {
        Some(libc::E2BIG | libc::ENOSPC) => WriteError::Full { table: name, limit },
        _ => WriteError::Other(SyncError::Kernel { operation, subject: format!("map {name}"), source }),
    }
}
