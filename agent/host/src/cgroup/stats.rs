//! What a cgroup has used, read from its own files.

use std::path::Path;

use super::{CgroupPath, CgroupVersion, Hierarchies};

/// CPU time since the cgroup was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    pub usage_ns: u64,
    pub user_ns: u64,
    pub system_ns: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
}

/// Memory now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    pub usage_bytes: u64,
    /// Usage without inactive file pages: what can't be reclaimed at once.
    pub working_set_bytes: u64,
    pub rss_bytes: u64,
    pub cache_bytes: u64,
    pub mapped_file_bytes: u64,
    pub swap_bytes: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// None without a limit.
    pub limit_bytes: Option<u64>,
    pub max_usage_bytes: u64,
    pub failcnt: u64,
}

/// One line of a pressure file (PSI).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total_us: u64,
}

/// v1 writes "no limit" as a page-rounded `i64::MAX`.
const UNLIMITED_V1: u64 = 1 << 62;
/// `USER_HZ` of every Linux that Kubernetes runs on.
const NS_PER_TICK: u64 = 10_000_000;

impl Hierarchies {
    /// None when the cgroup is gone or the controller isn't there.
    pub fn cpu_usage(&self, path: &CgroupPath) -> Option<CpuUsage> {
        match self.version() {
            CgroupVersion::V2 => {
                let stat = read(&self.dir("cpu", path)?.join("cpu.stat"))?;
                let get = |key| field(&stat, key).unwrap_or(0);
                Some(CpuUsage {
                    usage_ns: get("usage_usec").saturating_mul(1000),
                    user_ns: get("user_usec").saturating_mul(1000),
                    system_ns: get("system_usec").saturating_mul(1000),
                    periods: get("nr_periods"),
                    throttled_periods: get("nr_throttled"),
                    throttled_ns: get("throttled_usec").saturating_mul(1000),
                })
            }
            CgroupVersion::V1 => {
                let acct = self.dir("cpuacct", path)?;
                let split = read(&acct.join("cpuacct.stat")).unwrap_or_default();
                let throttle = self.dir("cpu", path).and_then(|d| read(&d.join("cpu.stat"))).unwrap_or_default();
                let ticks = |key| field(&split, key).unwrap_or(0).saturating_mul(NS_PER_TICK);
                Some(CpuUsage {
                    usage_ns: number(&acct.join("cpuacct.usage"))?,
                    user_ns: ticks("user"),
                    system_ns: ticks("system"),
                    periods: field(&throttle, "nr_periods").unwrap_or(0),
                    throttled_periods: field(&throttle, "nr_throttled").unwrap_or(0),
                    throttled_ns: field(&throttle, "throttled_time").unwrap_or(0),
                })
            }
        }
    }

    /// None when the cgroup is gone or the controller isn't there.
    pub fn memory_usage(&self, path: &CgroupPath) -> Option<MemoryUsage> {
        let dir = self.dir("memory", path)?;
        let stat = read(&dir.join("memory.stat"))?;
        let get = |key| field(&stat, key).unwrap_or(0);
        match self.version() {
            CgroupVersion::V2 => {
                // The root of the tree has no memory.current.
                let usage =
                    number(&dir.join("memory.current")).unwrap_or_else(|| get("anon").saturating_add(get("file")));
                Some(MemoryUsage {
                    usage_bytes: usage,
                    working_set_bytes: usage.saturating_sub(get("inactive_file")),
                    rss_bytes: get("anon"),
                    cache_bytes: get("file"),
                    mapped_file_bytes: get("file_mapped"),
                    swap_bytes: number(&dir.join("memory.swap.current")).unwrap_or(0),
                    page_faults: get("pgfault"),
                    major_page_faults: get("pgmajfault"),
                    limit_bytes: number(&dir.join("memory.max")),
                    max_usage_bytes: number(&dir.join("memory.peak")).unwrap_or(0),
                    failcnt: read(&dir.join("memory.events")).and_then(|e| field(&e, "max")).unwrap_or(0),
                })
            }
            CgroupVersion::V1 => {
                let usage = number(&dir.join("memory.usage_in_bytes"))?;
                Some(MemoryUsage {
                    usage_bytes: usage,
                    working_set_bytes: usage.saturating_sub(get("total_inactive_file")),
                    rss_bytes: get("total_rss"),
                    cache_bytes: get("total_cache"),
                    mapped_file_bytes: get("total_mapped_file"),
                    swap_bytes: get("total_swap"),
                    page_faults: get("total_pgfault"),
                    major_page_faults: get("total_pgmajfault"),
                    limit_bytes: number(&dir.join("memory.limit_in_bytes")).filter(|b| *b < UNLIMITED_V1),
                    max_usage_bytes: number(&dir.join("memory.max_usage_in_bytes")).unwrap_or(0),
                    failcnt: number(&dir.join("memory.failcnt")).unwrap_or(0),
                })
            }
        }
    }

    /// Number of processes (and threads) in the cgroup, and its limit.
    pub fn pids_usage(&self, path: &CgroupPath) -> Option<(u64, Option<u64>)> {
        let dir = self.dir("pids", path)?;
        Some((number(&dir.join("pids.current"))?, number(&dir.join("pids.max"))))
    }

    /// `some` and `full` lines of `cpu.pressure`, `memory.pressure` or `io.pressure`; v2 only.
    pub fn pressure(&self, path: &CgroupPath, resource: &str) -> Option<(Pressure, Pressure)> {
        let text = read(&self.unified_dir(path)?.join(format!("{resource}.pressure")))?;
        Some((pressure_line(&text, "some")?, pressure_line(&text, "full").unwrap_or_default()))
    }
}

fn pressure_line(text: &str, kind: &str) -> Option<Pressure> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(kind))?;
    let get = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let average = |key| get(key).and_then(|v| v.parse().ok()).unwrap_or(0.0);
    Some(Pressure {
        avg10: average("avg10"),
        avg60: average("avg60"),
        avg300: average("avg300"),
        total_us: get("total").and_then(|v| v.parse().ok()).unwrap_or(0),
    })
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn number(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

/// The number behind `key` in a file of `key number` lines.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        (name == key).then(|| rest.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "usage 5\nusage_usec 10\nuser_usec 7\n";
        assert_eq!(field(text, "usage_usec"), Some(10));
        assert_eq!(field(text, "usage"), Some(5));
        assert_eq!(field(text, "user"), None);
    }

    #[test]
    fn pressure_lines_are_parsed() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n";
        let some = pressure_line(text, "some").unwrap();
        assert_eq!((some.avg10, some.total_us), (1.5, 123));
        assert_eq!(pressure_line(text, "full").unwrap().total_us, 9);
        assert_eq!(pressure_line("", "some"), None);
    }
}
