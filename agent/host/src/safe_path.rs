//! Opening what untrusted paths name, without ever leaving a root directory.
//!
//! Pods choose names of volumes, sub-paths and the symlinks inside their volumes. Every resolution
//! is done by the kernel in one step (`openat2`, Linux 5.6), so that nothing can be swapped in between.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};

/// The kernel answers `EAGAIN` when a rename raced with the resolution; that often is one too many.
const MAX_ATTEMPTS: usize = 64;

/// How symlinks below the root are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symlinks {
    /// Followed as long as they stay below the root; an absolute one is refused.
    Beneath,
    /// None is followed, wherever it points.
    Refused,
}

/// An open directory that nothing below may lead out of.
#[derive(Debug)]
pub struct SafeRoot {
    dir: OwnedFd,
}

impl SafeRoot {
    /// Opens a trusted path. The last component may not be a symlink.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Self { dir: nix::fcntl::open(path, flags, Mode::empty())? })
    }

    /// Opens `sub` below the root. `sub` must be relative; `..` may not climb out.
    pub fn open_sub(&self, sub: &Path, flags: OFlag, symlinks: Symlinks) -> io::Result<OwnedFd> {
        open_below(self.dir.as_fd(), sub, flags, symlinks)
    }

    /// Opens `sub` as a handle only (`O_PATH`), good as the source of a bind mount.
    pub fn handle(&self, sub: &Path, symlinks: Symlinks) -> io::Result<OwnedFd> {
        self.open_sub(sub, OFlag::O_PATH, symlinks)
    }

    /// Opens `sub`, making the directories that are missing with `mode`, and answers a handle of it.
    pub fn make_dirs(&self, sub: &Path, mode: u32) -> io::Result<OwnedFd> {
        check_relative(sub)?;
        let mut made = PathBuf::new();
        let mut current = self.handle(Path::new("."), Symlinks::Beneath)?;
        for component in sub.components() {
            let Component::Normal(name) = component else { continue };
            made.push(name);
            current = match self.handle(&made, Symlinks::Beneath) {
                Ok(fd) => fd,
                Err(error) if error.kind() == io::ErrorKind::NotFound => make_dir_in(&current, name, mode)?,
                Err(error) => return Err(error),
            };
        }
        Ok(current)
    }

    /// Reads a file below the root, at most `limit` bytes of it.
    pub fn read(&self, sub: &Path, limit: u64) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let file = File::from(self.open_sub(sub, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Symlinks::Refused)?);
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl AsFd for SafeRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// A path that names the open file itself: `/proc/self/fd/N`. Valid while the handle lives, in this process.
pub fn proc_path(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// True for one plain file name: no separator, neither empty nor `.` nor `..`.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains('/') && !name.contains('\0')
}

fn check_relative(sub: &Path) -> io::Result<()> {
    let bad = sub.is_absolute() || sub.components().any(|c| matches!(c, Component::ParentDir));
    if bad {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} must be a relative path without \"..\"", sub.display()),
        ));
    }
    Ok(())
}

fn make_dir_in(parent: &OwnedFd, name: &OsStr, mode: u32) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_bits_truncate(mode)) {
        Ok(()) => {}
        // Somebody else made it: the open below refuses anything but a real directory.
        Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(parent, name, flags | OFlag::O_RDONLY, Mode::empty())?;
    // The umask took its share of the mode.
    nix::sys::stat::fchmod(&fd, Mode::from_bits_truncate(mode))?;
    Ok(fd)
}

fn open_below(root: BorrowedFd<'_>, sub: &Path, flags: OFlag, symlinks: Symlinks) -> io::Result<OwnedFd> {
    check_relative(sub)?;
    let sub = if sub.as_os_str().is_empty() { Path::new(".") } else { sub };
    let mut resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    if symlinks == Symlinks::Refused {
        resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS;
    }
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    let mut attempts = 0;
    loop {
        attempts += 1;
        match openat2(root, sub, how) {
            Ok(fd) => return Ok(fd),
            Err(Errno::EAGAIN) if attempts < MAX_ATTEMPTS => {}
            Err(Errno::EXDEV) => {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("{} leads out of its volume", sub.display()),
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn symlinks_may_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("volume");
        std::fs::create_dir_all(root.join("real")).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::fs::write(root.join("real/file"), "f").unwrap();
        symlink("real", root.join("inside")).unwrap();
        symlink("../secret", root.join("up")).unwrap();
        symlink("/etc", root.join("absolute")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let safe = SafeRoot::open(&root).unwrap();
        let ok = |sub: &str, how| safe.handle(Path::new(sub), how).is_ok();
        assert!(ok("real/file", Symlinks::Refused));
        assert!(ok("inside/file", Symlinks::Beneath));
        assert!(ok("", Symlinks::Refused));
        for sub in ["up", "absolute/passwd", "magic/etc", "../secret", "/etc/passwd", "real/../../secret"] {
            assert!(!ok(sub, Symlinks::Beneath), "{sub}");
        }
        assert!(!ok("inside/file", Symlinks::Refused));
        assert_eq!(safe.read(Path::new("real/file"), 10).unwrap(), b"f");
    }

    #[test]
    fn directories_are_made_below_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("volume");
        std::fs::create_dir_all(&root).unwrap();
        symlink("/tmp", root.join("out")).unwrap();
        let safe = SafeRoot::open(&root).unwrap();
        safe.make_dirs(Path::new("a/b/./c"), 0o2770).unwrap();
        assert_eq!(std::fs::metadata(root.join("a/b/c")).unwrap().mode() & 0o7777, 0o2770);
        safe.make_dirs(Path::new("a/b/c"), 0o755).unwrap();
        assert!(safe.make_dirs(Path::new("out/evil"), 0o755).is_err());
        assert!(safe.make_dirs(Path::new("../evil"), 0o755).is_err());
        assert!(!dir.path().join("evil").exists());
    }

    #[test]
    fn plain_names() {
        for (name, plain) in [("a", true), ("a.b", true), ("..", false), (".", false), ("", false), ("a/b", false)] {
            assert_eq!(is_plain_name(name), plain, "{name}");
        }
    }
}
