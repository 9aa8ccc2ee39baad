//! What this node has for the eBPF proxy, and what it lacks and why.

use std::fs;
use std::path::{Path, PathBuf};

use aya::util::KernelVersion;

use crate::object;

/// One thing that the backend asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is.
    pub name: &'static str,
    /// The backend can't do without it.
    pub required: bool,
    /// `None` where it is there, else why not.
    pub lacking: Option<String>,
}

/// Looks at the node, changing nothing.
pub fn probe() -> Vec<Capability> {
    let kernel = KernelVersion::current().ok();
    let at_least = |major, minor| {
        let enough = kernel.is_some_and(|version| version >= KernelVersion::new(major, minor, 0));
        (!enough).then(|| match kernel {
            Some(found) => format!("needs Linux {major}.{minor}, this is {found:?}"),
            None => format!("needs Linux {major}.{minor}, and the version of this kernel is unknown"),
        })
    };
    vec![
        Capability {
            name: "programs",
            required: true,
            lacking: (!object::is_embedded()).then(|| "built without eBPF programs; run cargo xtask build-ebpf".into()),
        },
        Capability { name: "kernel", required: true, lacking: at_least(6, 0) },
        Capability {
            name: "cgroup2",
            required: true,
            lacking: cgroup2_root().is_none().then(|| "no cgroup2 file system is mounted".into()),
        },
        Capability { name: "bpf", required: true, lacking: lacking_rights() },
        Capability { name: "tcx", required: false, lacking: at_least(6, 6) },
        Capability {
            name: "btf",
            required: false,
            lacking: (!Path::new("/sys/kernel/btf/vmlinux").exists())
                .then(|| "the kernel has no /sys/kernel/btf/vmlinux".into()),
        },
    ]
}

/// Why the backend can't run here; `None` if it can.
pub fn unsupported() -> Option<String> {
    let reasons: Vec<String> = probe()
        .into_iter()
        .filter(|capability| capability.required)
        .filter_map(|capability| capability.lacking.map(|why| format!("{}: {why}", capability.name)))
        .collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Where cgroup2 is mounted: alone, or beside v1 (`/sys/fs/cgroup/unified`).
pub fn cgroup2_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut columns = line.split(' ');
        let (_, target, kind) = (columns.next()?, columns.next()?, columns.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(target.replace("\\040", " ")))
    })
}

/// CAP_BPF (or CAP_SYS_ADMIN) with CAP_NET_ADMIN.
fn lacking_rights() -> Option<String> {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const BPF: u32 = 39;
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let bits = u64::from_str_radix(effective.trim(), 16).ok()?;
    let has = |bit: u32| bits & (1 << bit) != 0;
    if !(has(BPF) || has(SYS_ADMIN)) {
        return Some("this process has neither CAP_BPF nor CAP_SYS_ADMIN".into());
    }
    (!has(NET_ADMIN)).then(|| "this process lacks CAP_NET_ADMIN".into())
}
