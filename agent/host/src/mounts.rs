//! Mounts of this mount namespace: make, list, take down.

use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// How a bind mount is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// Take the mounts below the source along.
    pub recursive: bool,
    pub read_only: bool,
}

/// Which way mounts travel through a mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Shared,
    Slave,
}

/// A line of `/proc/thread-self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    pub mount_id: u32,
    pub parent_id: u32,
    /// `major:minor` of the file system.
    pub device: String,
    /// The directory of the file system that is mounted.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    pub options: String,
    /// `shared:N`, `master:N` …
    pub propagation: String,
    pub fs_type: String,
    pub source: String,
    pub super_options: String,
}

/// Mounts a tmpfs; `size_bytes` none is the kernel's default of half the memory.
pub fn tmpfs(target: &Path, size_bytes: Option<u64>, mode: u32, no_swap: bool) -> io::Result<()> {
    let mut options = format!("mode={mode:o}");
    if let Some(size) = size_bytes {
        options.push_str(&format!(",size={size}"));
    }
    let flags = MsFlags::empty();
    if no_swap {
        // Kernel 6.4 and later; older ones refuse the option.
        let with = format!("{options},noswap");
        match mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(with.as_str())) {
            Err(nix::errno::Errno::EINVAL) => {}
            result => return result.map_err(Into::into),
        }
    }
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options.as_str())).map_err(Into::into)
}

/// Binds `source` to `target`.
pub fn bind(source: &Path, target: &Path, options: BindOptions) -> io::Result<()> {
    let mut flags = MsFlags::MS_BIND;
    if options.recursive {
        flags |= MsFlags::MS_REC;
    }
    mount(Some(source), target, None::<&str>, flags, None::<&str>)?;
    if options.read_only {
        remount_read_only(target).inspect_err(|_| {
            let _ = unmount(target);
        })?;
    }
    Ok(())
}

/// Makes a bind mount read-only, keeping the flags that it has.
pub fn remount_read_only(target: &Path) -> io::Result<()> {
    let kept = nix::sys::statvfs::statvfs(target)?.flags();
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    for (has, keep) in [
        (nix::sys::statvfs::FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (nix::sys::statvfs::FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (nix::sys::statvfs::FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        if kept.contains(has) {
            flags |= keep;
        }
    }
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(Into::into)
}

/// Sets the propagation of a mount point, and of those below it when `recursive`.
pub fn set_propagation(target: &Path, propagation: Propagation, recursive: bool) -> io::Result<()> {
    let mut flags = match propagation {
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::Shared => MsFlags::MS_SHARED,
        Propagation::Slave => MsFlags::MS_SLAVE,
    };
    if recursive {
        flags |= MsFlags::MS_REC;
    }
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(Into::into)
}

/// Mounts any file system.
pub fn mount_fs(source: &str, target: &Path, fs_type: &str, options: &str) -> io::Result<()> {
    let data = (!options.is_empty()).then_some(options);
    mount(Some(source), target, Some(fs_type), MsFlags::empty(), data).map_err(Into::into)
}

/// Unmounts one mount, not following a symlink; what is not mounted is fine.
pub fn unmount(target: &Path) -> io::Result<()> {
    match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Detaches one mount even while it is in use; the kernel frees it later.
pub fn unmount_lazy(target: &Path) -> io::Result<()> {
    match umount2(target, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Unmounts everything at or below `root`, innermost first, lazily where busy; goes on past errors.
pub fn unmount_below(root: &Path) -> Result<usize, Vec<(PathBuf, io::Error)>> {
    let mounts = list().map_err(|e| vec![(PathBuf::from("/proc/thread-self/mountinfo"), e)])?;
    let mut points: Vec<_> =
        mounts.into_iter().map(|m| m.mount_point).filter(|point| point.starts_with(root)).collect();
    // The later a line, the later the mount: with equal paths the topmost goes first.
    points.reverse();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    let mut errors = Vec::new();
    let mut done = 0;
    for point in points {
        match unmount(&point).or_else(|_| unmount_lazy(&point)) {
            Ok(()) => done += 1,
            Err(error) => errors.push((point, error)),
        }
    }
    if errors.is_empty() { Ok(done) } else { Err(errors) }
}

/// All mounts, in the order in which the kernel lists them.
pub fn list() -> io::Result<Vec<MountInfo>> {
    Ok(parse(&std::fs::read("/proc/thread-self/mountinfo")?))
}

/// True when `path` itself is a mount point.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    Ok(list()?.iter().any(|m| m.mount_point == path))
}

/// Parses mountinfo; lines that are not of its form are passed over.
pub fn parse(text: &[u8]) -> Vec<MountInfo> {
    text.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = fields.iter().skip(6).position(|f| *f == b"-")? + 6;
    let text = |i: usize| fields.get(i).map(|f| String::from_utf8_lossy(&unescape(f)).into_owned());
    let path = |i: usize| fields.get(i).map(|f| PathBuf::from(std::ffi::OsString::from_vec(unescape(f))));
    Some(MountInfo {
        mount_id: text(0)?.parse().ok()?,
        parent_id: text(1)?.parse().ok()?,
        device: text(2)?,
        root: path(3)?,
        mount_point: path(4)?,
        options: text(5)?,
        propagation: fields.get(6..dash)?.iter().map(|f| String::from_utf8_lossy(f)).collect::<Vec<_>>().join(" "),
        fs_type: text(dash + 1)?,
        source: text(dash + 2)?,
        super_options: text(dash + 3).unwrap_or_default(),
    })
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut i = 0;
    while let Some(&byte) = field.get(i) {
        let octal = field.get(i + 1..i + 4).and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|d| u8::from_str_radix(d, 8).ok()).filter(|_| byte == b'\\') {
            Some(decoded) => {
                out.push(decoded);
                i += 4;
            }
            None => {
                out.push(byte);
                i += 1;
            }
        }
    }
    out
}

/// For tests: runs `work` on a thread in a mount namespace of its own, private from the host's; or prints `SKIP` and
/// answers none when the kernel refuses. Threads that `work` starts inherit the namespace.
#[doc(hidden)]
pub fn in_private_namespace_or_skip<T: Send>(what: &str, work: impl FnOnce() -> T + Send) -> Option<T> {
    use nix::sched::{CloneFlags, unshare};
    let entered = || -> io::Result<T> {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        set_propagation(Path::new("/"), Propagation::Private, true)?;
        Ok(work())
    };
    match std::thread::scope(|scope| scope.spawn(entered).join()) {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            crate::skip(what, &error.to_string());
            None
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
