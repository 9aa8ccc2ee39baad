//! One instance is one data directory: its lock, its process, its record of what it made elsewhere.
//!
//! ```text
//! <data-dir>/orlop.lock        held while an orlop runs on the directory; holds its pid
//! <data-dir>/instance.json     what `down --purge` has to remove outside of the directory
//! <data-dir>/images/           image tarballs to import
//! <data-dir>/containerd/       containerd's own data (root), kept over reboots
//! <data-dir>/run/              sockets and containerd's state, of this boot only
//! <data-dir>/cni/              CNI configuration and address leases
//! <data-dir>/pki, store.redb   the control plane's
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// What an instance made outside of its data directory; written before it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Record {
    pub(crate) root_dir: PathBuf,
    pub(crate) pod_logs_dir: PathBuf,
    pub(crate) cgroup_root: String,
    /// It was not there before.
    pub(crate) made_cgroup_root: bool,
    /// systemd or cgroupfs.
    pub(crate) cgroup_driver: String,
    pub(crate) bpffs_dir: PathBuf,
    /// CRI socket; of the own containerd or of somebody's.
    pub(crate) runtime_endpoint: String,
    /// Orlop started this runtime, so it also stops it.
    pub(crate) own_runtime: bool,
    pub(crate) node_name: String,
}

/// The directories of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) data_dir: PathBuf,
}

/// Together one second.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// Longest socket path that the kernel takes, without the closing zero byte.
const MAX_SOCKET_PATH: usize = 107;

impl Instance {
    /// Names the instance; makes nothing.
    pub(crate) fn new(data_dir: &Path) -> Result<Self> {
        let data_dir = std::path::absolute(data_dir).with_context(|| format!("--data-dir {}", data_dir.display()))?;
        let instance = Self { data_dir };
        // containerd adds a second socket beside its first.
        let longest = instance.containerd_socket().as_os_str().len() + ".ttrpc".len();
        if longest > MAX_SOCKET_PATH {
            bail!(
                "--data-dir {} is too long by {} bytes for the sockets below it: use a shorter path",
                instance.data_dir.display(),
                longest - MAX_SOCKET_PATH
            );
        }
        Ok(instance)
    }

    pub(crate) fn exists(&self) -> bool {
        self.data_dir.join("orlop.lock").exists()
    }

    pub(crate) fn images_dir(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.data_dir.join("run")
    }

    pub(crate) fn containerd_dir(&self) -> PathBuf {
        self.data_dir.join("containerd")
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.run_dir().join("containerd.sock")
    }

    pub(crate) fn cni_conf_dir(&self) -> PathBuf {
        self.data_dir.join("cni/net.d")
    }

    pub(crate) fn ipam_dir(&self) -> PathBuf {
        self.data_dir.join("cni/ipam")
    }

    /// Takes the directory for this process, making it where it is not there.
    pub(crate) fn lock(&self) -> Result<InstanceLock> {
        let dir = &self.data_dir;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| {
            format!("creating the data directory {} (is it writable, and is there space?)", dir.display())
        })?;
        let path = dir.join("orlop.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        let mut lock = match lock_patiently(file) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!(
                "the data directory {} is in use by process {}: stop it (`orlop down --data-dir {}`), or give another --data-dir",
                dir.display(),
                self.holder().map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string()),
                dir.display()
            ),
            Err((_, errno)) => return Err(errno).with_context(|| format!("locking {}", path.display())),
        };
        lock.set_len(0)?;
        lock.seek(SeekFrom::Start(0))?;
        writeln!(lock, "{}", std::process::id()).with_context(|| format!("writing {}", path.display()))?;
        self.forget_last_boot()?;
        Ok(InstanceLock { _file: lock })
    }

    /// The process that holds the lock now.
    pub(crate) fn holder(&self) -> Option<i32> {
        let mut file = File::open(self.data_dir.join("orlop.lock")).ok()?;
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let pid: i32 = text.trim().parse().ok()?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_free) => None,
            Err(_) => Some(pid),
        }
    }

    /// Sockets and task state of before a reboot describe processes that are gone.
    fn forget_last_boot(&self) -> Result<()> {
        let run = self.run_dir();
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let marker = run.join("boot-id");
        if run.exists() && fs::read_to_string(&marker).unwrap_or_default() != boot_id {
            fs::remove_dir_all(&run).with_context(|| format!("removing the last boot's {}", run.display()))?;
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&run)?;
        fs::write(&marker, boot_id).with_context(|| format!("writing {}", marker.display()))
    }

    pub(crate) fn record(&self) -> Result<Record> {
        let path = self.data_dir.join("instance.json");
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: remove it", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.data_dir.join("instance.json");
        let partial = path.with_extension("partial");
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&partial)?;
            file.write_all(&serde_json::to_vec_pretty(record)?)?;
            file.sync_all()?;
            fs::rename(&partial, &path)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

/// A process that was just killed holds its lock until the kernel has taken it apart.
fn lock_patiently(mut file: File) -> Result<Flock<File>, (File, nix::errno::Errno)> {
    for _ in 0..LOCK_TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((again, nix::errno::Errno::EWOULDBLOCK)) => file = again,
            result => return result,
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
}

/// The directory is this process's as long as this lives.
#[derive(Debug)]
pub(crate) struct InstanceLock {
    _file: Flock<File>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_about_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(dir.path()).unwrap();
        let lock = instance.lock().unwrap();
        let message = format!("{:#}", instance.lock().unwrap_err());
        assert!(message.contains(&std::process::id().to_string()), "{message}");
        assert_eq!(instance.holder(), Some(i32::try_from(std::process::id()).unwrap()));
        drop(lock);
        assert_eq!(instance.holder(), None);
        instance.lock().unwrap();
    }

    #[test]
    fn state_of_another_boot_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(dir.path()).unwrap();
        drop(instance.lock().unwrap());
        fs::write(instance.run_dir().join("keep"), "x").unwrap();
        drop(instance.lock().unwrap());
        assert!(instance.run_dir().join("keep").exists());
        fs::write(instance.run_dir().join("boot-id"), "another").unwrap();
        drop(instance.lock().unwrap());
        assert!(!instance.run_dir().join("keep").exists());
    }

    #[test]
    fn records_survive() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(dir.path()).unwrap();
        assert_eq!(instance.record().unwrap(), Record::default());
        let record = Record { node_name: "n".into(), own_runtime: true, ..Record::default() };
        instance.write_record(&record).unwrap();
        assert_eq!(instance.record().unwrap(), record);
    }

    #[test]
    fn long_paths_are_refused_with_the_reason() {
        let message = Instance::new(Path::new(&format!("/{}", "x".repeat(120)))).unwrap_err().to_string();
        assert!(message.contains("too long"), "{message}");
    }
}
