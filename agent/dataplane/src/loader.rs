//! Loads the programs on pinned maps: those of a former agent where they are, new ones else.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::EbpfLoader;
use aya::programs::Program;
use aya::util::KernelVersion;
use orlop_proxy::backend::SyncError;

use crate::bpffs::Pins;
use crate::config::MapSizes;
use crate::error::DataplaneError;
use crate::object;
use crate::sys;
use crate::tables::limits;

/// The programs in the kernel, attached to nothing yet.
pub(crate) struct Loaded {
    pub(crate) object: aya::Ebpf,
}

/// Names of all maps, each pinned below its own name.
const MAPS: [&str; 11] = {
    use orlop_abi::maps::names::*;
    [CONFIG, SERVICES, SLOTS, MEMBERS, NODE_ADDRS, AFFINITY, SOCKETS, FLOWS, INTERFACES, SOURCES, COUNTERS]
};

/// Opens or creates the maps, and loads every program.
pub(crate) fn load(pins: &Pins, sizes: &MapSizes) -> Result<Loaded, DataplaneError> {
    if !object::is_embedded() {
        return Err(DataplaneError::NotEmbedded);
    }
    let mut loader = EbpfLoader::new();
    for name in MAPS {
        loader.map_pin_path(name, pins.map(name));
    }
    for (name, limit) in limits(sizes) {
        loader.map_max_entries(name, limit.max(1));
    }
    let mut object = loader.load(object::OBJECT).map_err(|source| DataplaneError::Load(Box::new(source)))?;
    for program in crate::attach::PROGRAMS {
        let loaded = object.program_mut(program).ok_or(DataplaneError::Missing { kind: "program", name: program })?;
        let result = match loaded {
            Program::CgroupSockAddr(hook) => hook.load(),
            Program::SchedClassifier(hook) => hook.load(),
            _ => return Err(DataplaneError::Missing { kind: "hook or classifier", name: program }),
        };
        result.map_err(|source| DataplaneError::Program { program, source: Box::new(source) })?;
    }
    Ok(Loaded { object })
}

impl Loaded {
    /// A descriptor of a program, and its number.
    pub(crate) fn program(&self, name: &'static str) -> Result<(OwnedFd, u32), DataplaneError> {
        let program = self.object.program(name).ok_or(DataplaneError::Missing { kind: "program", name })?;
        let failed = |source| DataplaneError::Program { program: name, source: Box::new(source) };
        let id = program.info().map_err(failed)?.id();
        let fd = program.fd().map_err(failed)?.as_fd().try_clone_to_owned();
        let fd = fd.map_err(|source| DataplaneError::Kernel { operation: "duplicating a descriptor", source })?;
        Ok((fd, id))
    }
}

/// What the kernel says that each map takes (`memlock` of its descriptor).
pub(crate) fn map_memory(pins: &Pins) -> Result<Vec<(String, u64)>, SyncError> {
    MAPS.into_iter()
        .map(|name| {
            let path = pins.map(name);
            let failed = |operation| {
                let path = path.clone();
                move |source| SyncError::Path { operation, path, source }
            };
            let fd = sys::pinned(&path).map_err(failed("opening the map"))?;
            let Some(fd) = fd else { return Ok((name.to_owned(), 0)) };
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
                .map_err(failed("reading the descriptor of the map"))?;
            let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
            Ok((name.to_owned(), bytes.unwrap_or(0)))
        })
        .collect()
}

/// Whether this kernel has tcx (6.6); older ones get a clsact qdisc.
pub(crate) fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}
