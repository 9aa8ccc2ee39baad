//! Network namespaces: run something inside one, on a thread of its own.
//!
//! A thread that entered another namespace is never given back to a pool: it ends with the closure.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};

/// Where named namespaces are pinned, as `ip netns` does.
const NAMED: &str = "/run/netns";

/// A failed operation on a network namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    #[error("cannot open network namespace {path}: {source}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot enter network namespace: {0}")]
    Enter(#[source] io::Error),
    #[error("cannot make network namespace {name}: {source}")]
    Create {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("the thread in the network namespace panicked")]
    Panicked,
}

/// Runs `work` on a new thread inside the namespace at `path` (e.g. `/run/netns/x`, `/proc/1/ns/net`); blocks.
pub fn run_in<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let file = File::open(path).map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
    on_thread(move || {
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|e| NetnsError::Enter(e.into()))?;
        Ok(work())
    })
}

/// Runs `work` on a new thread inside a namespace made for it, with loopback down; blocks.
pub fn run_in_new<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    on_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| NetnsError::Enter(e.into()))?;
        Ok(work())
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T, NetnsError> + Send) -> Result<T, NetnsError> {
    std::thread::scope(|scope| scope.spawn(work).join()).map_err(|_| NetnsError::Panicked)?
}

/// A namespace pinned under `/run/netns`; removed on drop.
#[derive(Debug)]
pub struct NamedNetns {
    path: PathBuf,
}

impl NamedNetns {
    /// Makes and pins a new namespace.
    pub fn create(name: &str) -> Result<Self, NetnsError> {
        let fail = |source: io::Error| NetnsError::Create { name: name.to_owned(), source };
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "not a file name")));
        }
        std::fs::create_dir_all(NAMED).map_err(fail)?;
        let path = Path::new(NAMED).join(name);
        File::options().write(true).create_new(true).open(&path).map_err(fail)?;
        let pinned = run_in_new(|| {
            let own = Path::new("/proc/thread-self/ns/net");
            crate::mounts::bind(own, &path, crate::mounts::BindOptions::default())
        });
        match pinned {
            Ok(Ok(())) => Ok(Self { path }),
            Ok(Err(error)) => {
                let _ = std::fs::remove_file(&path);
                Err(fail(error))
            }
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for NamedNetns {
    fn drop(&mut self) {
        let _ = crate::mounts::unmount(&self.path);
        let _ = std::fs::remove_file(&self.path);
    }
}

/// For tests: runs `work` in a new namespace, or prints `SKIP` and answers none when the kernel refuses;
/// with `CI=true` a skip is a failure.
#[doc(hidden)]
pub fn in_new_namespace_or_skip<T: Send>(what: &str, work: impl FnOnce() -> T + Send) -> Option<T> {
    match run_in_new(work) {
        Ok(value) => Some(value),
        Err(NetnsError::Enter(error)) => {
            crate::skip(what, &error.to_string());
            None
        }
        Err(error) => panic!("{what}: {error}"),
    }
}
