//! The machine: identity, kernel, memory, processors.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Who the machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineIdentity {
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// Go's name of the architecture, as Kubernetes uses it.
    pub architecture: &'static str,
    pub hostname: String,
}

/// Memory and processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineCapacity {
    pub cpus: u64,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    /// Page size in bytes -> number of pages reserved.
    pub huge_pages: BTreeMap<u64, u64>,
    pub max_pids: u64,
}

/// Reads everything that never changes while the machine is up.
pub fn identity() -> MachineIdentity {
    let line = |path: &str| std::fs::read_to_string(path).map(|s| s.trim().to_owned()).unwrap_or_default();
    let machine_id = match line("/etc/machine-id") {
        id if id.is_empty() => line("/var/lib/dbus/machine-id"),
        id => id,
    };
    let uname = nix::sys::utsname::uname();
    let (kernel_version, hostname) = uname.as_ref().map_or_else(
        |_| (String::new(), String::new()),
        |u| (u.release().to_string_lossy().into_owned(), u.nodename().to_string_lossy().into_owned()),
    );
    let system_uuid = match line("/sys/class/dmi/id/product_uuid") {
        uuid if uuid.is_empty() => match line("/proc/device-tree/vm,uuid") {
            uuid if uuid.is_empty() => machine_id.clone(),
            uuid => uuid.trim_end_matches('\0').to_owned(),
        },
        uuid => uuid,
    };
    MachineIdentity {
        machine_id,
        system_uuid,
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        kernel_version,
        os_image: os_image().unwrap_or_else(|| "Linux".to_owned()),
        architecture: go_architecture(std::env::consts::ARCH),
        hostname,
    }
}

/// Reads memory and processors.
pub fn capacity() -> io::Result<MachineCapacity> {
    let meminfo = parse_meminfo(&std::fs::read_to_string("/proc/meminfo")?);
    Ok(MachineCapacity {
        cpus: online_cpus(),
        memory_bytes: meminfo.get("MemTotal").copied().unwrap_or(0),
        swap_bytes: meminfo.get("SwapTotal").copied().unwrap_or(0),
        huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
        max_pids: max_pids(),
    })
}

/// `/proc/meminfo` in bytes by its own names.
pub fn parse_meminfo(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let mut words = rest.split_whitespace();
            let number: u64 = words.next()?.parse().ok()?;
            let factor = if words.next() == Some("kB") { 1024 } else { 1 };
            Some((name.to_owned(), number.saturating_mul(factor)))
        })
        .collect()
}

/// How many numbers a kernel list such as `0-3,8` names; bounded by what processors can be.
pub fn count_cpu_list(list: &str) -> u64 {
    list.trim()
        .split(',')
        .filter_map(|part| match part.split_once('-') {
            Some((low, high)) => {
                let (low, high): (u64, u64) = (low.parse().ok()?, high.parse().ok()?);
                Some(high.checked_sub(low)?.saturating_add(1))
            }
            None => part.parse::<u64>().ok().map(|_| 1),
        })
        .fold(0, u64::saturating_add)
}

fn online_cpus() -> u64 {
    let listed = std::fs::read_to_string("/sys/devices/system/cpu/online").map_or(0, |list| count_cpu_list(&list));
    if listed > 0 {
        return listed;
    }
    std::thread::available_parallelism().map_or(1, |n| u64::try_from(n.get()).unwrap_or(1))
}

fn huge_pages(root: &Path) -> BTreeMap<u64, u64> {
    let mut pages = BTreeMap::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let kilobytes =
            name.to_str().and_then(|n| n.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok());
        let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok();
        if let (Some(kilobytes), Some(count)) = (kilobytes, count.and_then(|c| c.trim().parse().ok())) {
            pages.insert(kilobytes.saturating_mul(1024), count);
        }
    }
    pages
}

fn max_pids() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let pid_max = read("/proc/sys/kernel/pid_max").unwrap_or(32_768);
    read("/proc/sys/kernel/threads-max").map_or(pid_max, |threads| threads.min(pid_max))
}

/// Number of threads that run now, from `/proc/loadavg`.
pub fn running_threads() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// Seconds since 1970 at which the machine booted.
pub fn boot_time_s() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

fn os_image() -> Option<String> {
    let text =
        std::fs::read_to_string("/etc/os-release").or_else(|_| std::fs::read_to_string("/usr/lib/os-release")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

fn go_architecture(rust: &'static str) -> &'static str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_counted() {
        for (list, want) in [("0-3,8\n", 5), ("0", 1), ("", 0), ("3-1", 0), ("x,1", 1)] {
            assert_eq!(count_cpu_list(list), want, "{list}");
        }
    }

    #[test]
    fn meminfo_is_in_bytes() {
        let memory = parse_meminfo("MemTotal:  24000 kB\nHugePages_Total:   3\nbroken\n");
        assert_eq!(memory["MemTotal"], 24_000 * 1024);
        assert_eq!(memory["HugePages_Total"], 3);
    }

    #[test]
    fn this_machine_answers() {
        let capacity = capacity().unwrap();
        assert!(capacity.cpus > 0 && capacity.memory_bytes > 0 && capacity.max_pids > 0);
        let identity = identity();
        assert_eq!(identity.boot_id.len(), 36);
        assert!(!identity.kernel_version.is_empty() && !identity.os_image.is_empty());
        assert!(running_threads().unwrap() > 0 && boot_time_s().unwrap() > 0);
    }
}
