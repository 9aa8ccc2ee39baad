//! Writing limits, in the files of either version.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{CgroupPath, CgroupVersion, Hierarchies};

/// Limits of one cgroup; what is none is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// v1 shares; on v2 converted to a weight by the map that runtimes use.
    pub cpu_shares: Option<u64>,
    /// µs per period; negative is "no limit".
    pub cpu_quota_us: Option<i64>,
    pub cpu_period_us: Option<u64>,
    /// Negative is "no limit".
    pub memory_bytes: Option<i64>,
    /// Negative is "no limit".
    pub pids: Option<i64>,
    /// Page size in bytes -> limit in bytes.
    pub huge_pages: BTreeMap<u64, u64>,
    /// v2 files by name, written last; passed over on v1.
    pub unified: BTreeMap<String, String>,
}

pub(super) fn apply(hierarchies: &Hierarchies, path: &CgroupPath, limits: &Limits) -> io::Result<Vec<&'static str>> {
    let mut writer = Writer { hierarchies, path, missing: Vec::new() };
    let v2 = hierarchies.version() == CgroupVersion::V2;
    if let Some(shares) = limits.cpu_shares {
        if v2 {
            writer.write("cpu", "cpu.weight", &weight(shares).to_string())?;
        } else {
            writer.write("cpu", "cpu.shares", &shares.to_string())?;
        }
    }
    if let Some(quota) = limits.cpu_quota_us {
        writer.cpu_quota(quota, limits.cpu_period_us, v2)?;
    }
    if let Some(bytes) = limits.memory_bytes {
        let value = if bytes < 0 && v2 { "max".to_owned() } else { bytes.max(-1).to_string() };
        writer.write("memory", if v2 { "memory.max" } else { "memory.limit_in_bytes" }, &value)?;
    }
    if let Some(pids) = limits.pids {
        let value = if pids < 0 { "max".to_owned() } else { pids.to_string() };
        writer.write("pids", "pids.max", &value)?;
    }
    for (page_size, bytes) in &limits.huge_pages {
        let size = huge_page_name(*page_size);
        let file = if v2 { format!("hugetlb.{size}.max") } else { format!("hugetlb.{size}.limit_in_bytes") };
        writer.write("hugetlb", &file, &bytes.to_string())?;
    }
    if v2 {
        for (file, value) in &limits.unified {
            if crate::safe_path::is_plain_name(file) {
                writer.write("unified", file, value)?;
            }
        }
    }
    Ok(writer.missing)
}

struct Writer<'a> {
    hierarchies: &'a Hierarchies,
    path: &'a CgroupPath,
    missing: Vec<&'static str>,
}

impl Writer<'_> {
    /// A file that the kernel doesn't offer is a missing controller, not a failure.
    fn write(&mut self, controller: &'static str, file: &str, value: &str) -> io::Result<()> {
        let Some(dir) = self.hierarchies.dir(controller, self.path) else {
            self.note_missing(controller);
            return Ok(());
        };
        let target = dir.join(file);
        if !target.exists() && dir.is_dir() {
            self.note_missing(controller);
            return Ok(());
        }
        write_changed(&target, value)
    }

    fn cpu_quota(&mut self, quota: i64, period: Option<u64>, v2: bool) -> io::Result<()> {
        if v2 {
            let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
            return self.write("cpu", "cpu.max", &format!("{quota} {}", period.unwrap_or(100_000)));
        }
        let quota = if quota > 0 { quota } else { -1 };
        let Some(period) = period else {
            return self.write("cpu", "cpu.cfs_quota_us", &quota.to_string());
        };
        // The kernel refuses a ratio above the parent's at every step: whichever order goes through is right.
        let by_period = self
            .write("cpu", "cpu.cfs_period_us", &period.to_string())
            .and_then(|()| self.write("cpu", "cpu.cfs_quota_us", &quota.to_string()));
        by_period.or_else(|_| {
            self.write("cpu", "cpu.cfs_quota_us", &quota.to_string())?;
            self.write("cpu", "cpu.cfs_period_us", &period.to_string())
        })
    }

    fn note_missing(&mut self, controller: &'static str) {
        if !self.missing.contains(&controller) {
            self.missing.push(controller);
        }
    }
}

fn write_changed(file: &Path, value: &str) -> io::Result<()> {
    if std::fs::read_to_string(file).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    std::fs::write(file, value)
        .map_err(|error| io::Error::new(error.kind(), format!("write {value} to {}: {error}", file.display())))
}

/// KEP-2254's linear map of shares 2..262144 to weights 1..10000.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Page size as the kernel's file names have it: `64KB`, `2MB`, `1GB`.
pub(crate) fn huge_page_name(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_have_the_kernels_names() {
        for (bytes, name) in [(2 << 20, "2MB"), (1 << 30, "1GB"), (64 << 10, "64KB"), (32 << 20, "32MB")] {
            assert_eq!(huge_page_name(bytes), name);
        }
    }
}
