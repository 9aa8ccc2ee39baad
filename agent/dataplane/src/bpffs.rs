//! The file system that maps and links are pinned in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::DataplaneError;

/// Where the kernel expects it.
const STANDARD: &str = "/sys/fs/bpf";

/// Folders for pins below `bpffs_dir`.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
    maps: PathBuf,
    links: PathBuf,
}

impl Pins {
    /// Maps below a folder of their layout's version, links beside it: a link outlives a layout.
    pub(crate) fn at(root: &Path) -> Self {
        let version = orlop_abi::maps::LAYOUT_VERSION;
        Self { root: root.to_owned(), maps: root.join(format!("v{version}")), links: root.join("links") }
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.maps.join(name)
    }

    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.links.join(name)
    }

    /// Names of the pinned links.
    pub(crate) fn links(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.links)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    /// Mounts a bpffs where there is none, and makes the folders.
    pub(crate) fn prepare(&self) -> Result<(), DataplaneError> {
        if !on_bpffs(&self.root) {
            let target = if self.root.starts_with(STANDARD) { Path::new(STANDARD) } else { &self.root };
            fs::create_dir_all(target).map_err(|source| path_error("creating the mount point", target, source))?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("bpffs"), target, Some("bpf"), flags, Some("mode=0700"))
                .map_err(|errno| path_error("mounting a bpffs", target, errno.into()))?;
        }
        for folder in [&self.maps, &self.links] {
            fs::create_dir_all(folder).map_err(|source| path_error("creating the folder", folder, source))?;
        }
        Ok(())
    }

    /// Removes every pin, all versions, going on past errors. A bpffs that was mounted for us alone goes too.
    pub(crate) fn remove(&self) -> Vec<(PathBuf, io::Error)> {
        let mut errors = Vec::new();
        // Links first: they are what acts. Dropping the last name of a link detaches it.
        remove_tree(&self.links, &mut errors);
        remove_tree(&self.root, &mut errors);
        if self.root.exists() && !self.root.starts_with(STANDARD) && errors.iter().all(|(path, _)| *path == self.root) {
            errors.clear();
            // It is the mount point itself, which can't be removed while mounted.
            match umount2(&self.root, MntFlags::MNT_DETACH) {
                Ok(()) => {
                    if let Err(error) = fs::remove_dir(&self.root) {
                        errors.push((self.root.clone(), error));
                    }
                }
                Err(errno) => errors.push((self.root.clone(), errno.into())),
            }
        }
        errors
    }
}

/// Whether the nearest folder that exists is on a bpffs.
fn on_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .and_then(|ancestor| statfs(ancestor).ok())
        .is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

fn remove_tree(folder: &Path, errors: &mut Vec<(PathBuf, io::Error)>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return errors.push((folder.to_owned(), error)),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove_tree(&path, errors);
        } else if let Err(error) = fs::remove_file(&path) {
            errors.push((path, error));
        }
    }
    if let Err(error) = fs::remove_dir(folder) {
        errors.push((folder.to_owned(), error));
    }
}

fn path_error(operation: &'static str, path: &Path, source: io::Error) -> DataplaneError {
    DataplaneError::Path { operation, path: path.to_owned(), source }
}
