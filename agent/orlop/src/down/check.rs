//! The proof after `orlop down`: looks for everything that an instance can leave in the kernel, in
//! the process table and on disk, by other ways than those that made it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use orlop_host::cgroup::Hierarchies;
use orlop_host::mounts;
use orlop_host::netlink::Netlink;

use crate::instance::{Instance, Record};

/// One line for each thing that is still there.
pub(super) async fn leftovers(instance: &Instance, record: &Record, purged: bool) -> Vec<String> {
    let mut left = Vec::new();
    left.extend(processes(&instance.data_dir));
    left.extend(mounted(instance, record));
    if let Some(cgroup) = super::pods_cgroup(record)
        && Hierarchies::discover().is_ok_and(|h| h.exists(&cgroup))
    {
        left.push(format!("control group {}", cgroup.relative()));
    }
    if !record.bpffs_dir.as_os_str().is_empty() && record.bpffs_dir.exists() {
        left.push(format!("pinned programs or maps in {}", record.bpffs_dir.display()));
    }
    for route in super::routes_left().await {
        left.push(format!("route {route}"));
    }
    if bridge_exists().await {
        left.push(format!("interface {}", orlop_network::BRIDGE));
    }
    if instance.ipam_dir().exists() {
        left.push(format!("address leases in {}", instance.ipam_dir().display()));
    }
    if purged && instance.data_dir.exists() {
        left.push(format!("{}", instance.data_dir.display()));
    }
    left
}

async fn bridge_exists() -> bool {
    let Ok(link) = Netlink::connect() else { return false };
    link.links().await.unwrap_or_default().iter().any(|l| l.name == orlop_network::BRIDGE && l.kind == "bridge")
}

/// Processes that were started with a path below the data directory: containerd, its shims.
fn processes(data_dir: &Path) -> Vec<String> {
    let own = std::process::id().to_string();
    let mut prefix = data_dir.as_os_str().as_bytes().to_vec();
    prefix.push(b'/');
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let pid = entry.file_name().into_string().ok()?;
            if pid == own || !pid.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let cmdline = fs::read(entry.path().join("cmdline")).ok()?;
            let mut args = cmdline.split(|b| *b == 0);
            let program = String::from_utf8_lossy(args.next()?).into_owned();
            let runtime = program.contains("containerd");
            (runtime && args.any(|a| a.starts_with(&prefix))).then(|| format!("process {pid} ({program})"))
        })
        .collect()
}

fn mounted(instance: &Instance, record: &Record) -> Vec<String> {
    let below = |m: &mounts::MountInfo| {
        m.mount_point.starts_with(instance.run_dir())
            || m.mount_point.starts_with(instance.containerd_dir())
            || (record.root_dir.is_absolute() && m.mount_point.starts_with(record.root_dir.join("pods")))
    };
    mounts::list()
        .unwrap_or_default()
        .into_iter()
        .filter(below)
        .map(|m| format!("mount {}", m.mount_point.display()))
        .collect()
}
