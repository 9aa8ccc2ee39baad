//! Control groups: v1 hierarchies, the v2 tree, and both at once (hybrid).
//!
//! ```text
//! v1/hybrid   <mount of cpu>/<path>  <mount of memory>/<path>  …  <unified>/<path> (no controllers)
//! v2          <unified>/<path>       with the controllers enabled on the way down
//! ```
//! A [`CgroupPath`] is relative to the roots; one operation acts on every hierarchy.

mod limits;
mod path;
mod stats;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

pub use limits::Limits;
pub use path::CgroupPath;
pub use stats::{CpuUsage, MemoryUsage, Pressure};

/// Controllers that Orlop knows what to do with.
const KNOWN_V1: [&str; 9] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "hugetlb", "blkio", "freezer", "devices"];
const WANTED_V2: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// Which interface the controllers are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// Also hybrid: v1 controllers beside a v2 tree without any.
    V1,
    V2,
}

/// Where the hierarchies of this machine are mounted.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    version: CgroupVersion,
    /// Controller (v1) -> mount point. `name=systemd` is one of them.
    v1: BTreeMap<String, PathBuf>,
    unified: Option<PathBuf>,
}

impl Hierarchies {
    /// Reads them from mountinfo.
    pub fn discover() -> io::Result<Self> {
        Self::from_mounts(&crate::mounts::list()?)
    }

    fn from_mounts(mounts: &[crate::mounts::MountInfo]) -> io::Result<Self> {
        let mut v1: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut unified: Option<PathBuf> = None;
        for mount in mounts {
            // A bind mount of a part of the tree is not the hierarchy.
            if mount.root != Path::new("/") {
                continue;
            }
            let shorter =
                |old: Option<&PathBuf>| old.is_none_or(|p| mount.mount_point.as_os_str().len() < p.as_os_str().len());
            match mount.fs_type.as_str() {
                "cgroup2" if shorter(unified.as_ref()) => unified = Some(mount.mount_point.clone()),
                "cgroup" => {
                    for option in mount.super_options.split(',') {
                        let named = option.starts_with("name=");
                        if (named || KNOWN_V1.contains(&option)) && shorter(v1.get(option)) {
                            v1.insert(option.to_owned(), mount.mount_point.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        let has_controllers = v1.keys().any(|c| !c.starts_with("name="));
        let version = match (&unified, has_controllers) {
            (Some(_), false) => CgroupVersion::V2,
            (_, true) => CgroupVersion::V1,
            (None, false) => {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "no cgroup hierarchy is mounted below /sys/fs/cgroup",
                ));
            }
        };
        Ok(Self { version, v1, unified })
    }

    pub fn version(&self) -> CgroupVersion {
        self.version
    }

    /// Mount point of the v2 tree; in hybrid mode the one without controllers.
    pub fn unified_root(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// True when the controller can be used at all.
    pub fn has_controller(&self, controller: &str) -> bool {
        match (self.version, &self.unified) {
            (CgroupVersion::V1, _) => self.v1.contains_key(controller),
            (CgroupVersion::V2, Some(root)) => {
                read_words(&root.join("cgroup.controllers")).is_ok_and(|words| words.iter().any(|w| w == controller))
            }
            (CgroupVersion::V2, None) => false,
        }
    }

    /// The directory of `path` for a controller.
    pub fn dir(&self, controller: &str, path: &CgroupPath) -> Option<PathBuf> {
        let root = match self.version {
            CgroupVersion::V1 => self.v1.get(controller),
            CgroupVersion::V2 => self.unified.as_ref(),
        }?;
        Some(root.join(path.relative()))
    }

    /// The directory of `path` in the v2 tree.
    pub fn unified_dir(&self, path: &CgroupPath) -> Option<PathBuf> {
        Some(self.unified.as_ref()?.join(path.relative()))
    }

    /// Every directory that makes up the cgroup; several controllers may share one mount.
    fn dirs(&self, path: &CgroupPath) -> BTreeSet<PathBuf> {
        self.roots().into_iter().map(|root| root.join(path.relative())).collect()
    }

    fn roots(&self) -> BTreeSet<PathBuf> {
        match self.version {
            CgroupVersion::V1 => self.v1.values().chain(self.unified.iter()).cloned().collect(),
            CgroupVersion::V2 => self.unified.iter().cloned().collect(),
        }
    }

    /// True when the cgroup is in any hierarchy.
    pub fn exists(&self, path: &CgroupPath) -> bool {
        self.dirs(path).iter().any(|dir| dir.is_dir())
    }

    /// Makes the cgroup and its parents in every hierarchy. On v2 turns the controllers on, on the way down.
    pub fn create(&self, path: &CgroupPath) -> io::Result<()> {
        match self.version {
            CgroupVersion::V2 => {
                let Some(root) = &self.unified else { return Ok(()) };
                let mut dir = root.clone();
                for component in path.components() {
                    enable_controllers(&dir);
                    dir.push(component);
                    create_one(&dir)?;
                }
                Ok(())
            }
            CgroupVersion::V1 => {
                let cpuset = self.v1.get("cpuset");
                for root in self.roots() {
                    let mut dir = root.clone();
                    for component in path.components() {
                        let parent = dir.clone();
                        dir.push(component);
                        create_one(&dir)?;
                        if cpuset == Some(&root) {
                            inherit_cpuset(&parent, &dir)?;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// Sets what `limits` holds. A controller that this machine lacks is passed over: its name is in the answer.
    pub fn apply(&self, path: &CgroupPath, limits: &Limits) -> io::Result<Vec<&'static str>> {
        limits::apply(self, path, limits)
    }

    /// Names of the child cgroups, over all hierarchies.
    pub fn children(&self, path: &CgroupPath) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for dir in self.dirs(path) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    names.extend(entry.file_name().into_string().ok());
                }
            }
        }
        names
    }

    /// Processes in the cgroup and below, over all hierarchies.
    pub fn processes(&self, path: &CgroupPath) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        for dir in self.dirs(path) {
            visit(&dir, &mut |dir| {
                if let Ok(words) = read_words(&dir.join("cgroup.procs")) {
                    // 0 stands for a process of another pid namespace.
                    pids.extend(words.iter().filter_map(|w| w.parse::<i32>().ok()).filter(|pid| *pid > 0));
                }
            });
        }
        pids
    }

    /// Kills every process in the cgroup and below (`cgroup.kill` where the kernel has it), once. Who was there.
    pub fn kill(&self, path: &CgroupPath) -> BTreeSet<i32> {
        let pids = self.processes(path);
        if pids.is_empty() {
            return pids;
        }
        if self.version == CgroupVersion::V2
            && let Some(dir) = self.unified_dir(path)
            && std::fs::write(dir.join("cgroup.kill"), "1").is_ok()
        {
            return pids;
        }
        let own = std::process::id();
        for pid in pids.iter().filter(|pid| u32::try_from(**pid) != Ok(own)) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        }
        pids
    }

    /// Removes the cgroup and all below it from every hierarchy; goes on past errors. Fails while processes are in it.
    pub fn remove(&self, path: &CgroupPath) -> Result<(), Vec<(PathBuf, io::Error)>> {
        if path.is_root() {
            return Ok(());
        }
        let mut errors = Vec::new();
        for dir in self.dirs(path) {
            remove_tree(&dir, &mut errors);
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Moves a process into the cgroup, in every hierarchy.
    pub fn add_process(&self, path: &CgroupPath, pid: u32) -> io::Result<()> {
        for dir in self.dirs(path) {
            std::fs::write(dir.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }
}

fn create_one(dir: &Path) -> io::Result<()> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Each controller on its own: one that the kernel refuses here must not keep the others off.
fn enable_controllers(dir: &Path) {
    let Ok(available) = read_words(&dir.join("cgroup.controllers")) else { return };
    let enabled = read_words(&dir.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in WANTED_V2 {
        let has = |words: &[String]| words.iter().any(|w| w == controller);
        if has(&available) && !has(&enabled) {
            let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// A new v1 cpuset is empty and takes no process until it has processors and memory nodes.
fn inherit_cpuset(parent: &Path, child: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if std::fs::read_to_string(child.join(file))?.trim().is_empty() {
            let value = std::fs::read_to_string(parent.join(file))?;
            std::fs::write(child.join(file), value.trim())?;
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path, errors: &mut Vec<(PathBuf, io::Error)>) {
    let mut dirs = Vec::new();
    visit(dir, &mut |d| dirs.push(d.to_owned()));
    for dir in dirs.into_iter().rev() {
        match std::fs::remove_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => errors.push((dir, error)),
            _ => {}
        }
    }
}

/// Calls `see` with `dir` and every directory below it, parents first; no recursion, no symlinks.
fn visit(dir: &Path, see: &mut dyn FnMut(&Path)) {
    if !dir.is_dir() {
        return;
    }
    let mut queue = vec![dir.to_owned()];
    while let Some(dir) = queue.pop() {
        see(&dir);
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                queue.push(entry.path());
            }
        }
    }
}

fn read_words(path: &Path) -> io::Result<Vec<String>> {
    Ok(std::fs::read_to_string(path)?.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
