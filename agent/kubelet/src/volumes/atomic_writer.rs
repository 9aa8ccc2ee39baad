//! Writes a set of files so that a reader sees either all old or all new ones.
//!
//! ```text
//! <target>/..2026_01_31_12_00_00.123456789/key     the contents
//! <target>/..data -> ..2026_01_31_12_00_00.123456789
//! <target>/key -> ..data/key
//! ```
//! An update writes a new directory and swaps `..data` by rename. The layout is upstream's: programs
//! that watch mounted ConfigMaps know it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// One file to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProjection {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Owner, where it is not root.
    pub uid: Option<u32>,
}

/// Files by relative path.
pub type Payload = BTreeMap<String, FileProjection>;

/// True for a path that may stand in a payload: relative, plain, and its first component not of our own (`..x`).
pub fn is_valid_path(path: &str) -> bool {
    let parsed = Path::new(path);
    !path.is_empty()
        && path.len() <= 4096
        && !path.contains('\0')
        && !path.ends_with('/')
        && !path.starts_with("..")
        && parsed.components().all(|c| matches!(c, Component::Normal(name) if name.len() <= 255))
}

/// Brings `target` to `payload`; true if anything changed. `gid` is the group of every file, for `fsGroup`.
/// `stamp` names the new directory and must not have been used before.
pub fn write(target: &Path, payload: &Payload, gid: Option<u32>, stamp: &str) -> io::Result<bool> {
    for path in payload.keys() {
        if !is_valid_path(path) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} is not a valid file path")));
        }
    }
    let data = target.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(link) => Some(link),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(old) = &old
        && is_current(&target.join(old), payload)?
        && links_stand(target, payload)
    {
        return Ok(false);
    }
    let new_name = format!("..{stamp}");
    let new_dir = target.join(&new_name);
    let written = write_files(&new_dir, payload, gid).and_then(|()| {
        let temporary = target.join(NEW_DATA);
        remove_file_if_there(&temporary)?;
        symlink(&new_name, &temporary)?;
        fs::rename(&temporary, &data)
    });
    if let Err(error) = written {
        let _ = fs::remove_dir_all(&new_dir);
        return Err(error);
    }
    let wanted = top_names(payload);
    for name in &wanted {
        put_link(target, name)?;
    }
    remove_stale(target, &wanted, &new_name)?;
    Ok(true)
}

/// First components of the paths: what the reader sees in the volume.
fn top_names(payload: &Payload) -> BTreeSet<String> {
    payload.keys().filter_map(|path| path.split('/').next().map(str::to_owned)).collect()
}

fn write_files(dir: &Path, payload: &Payload, gid: Option<u32>) -> io::Result<()> {
    fs::create_dir(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    if gid.is_some() {
        chown(dir, None, gid)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o2755))?;
    }
    for (path, file) in payload {
        let full = dir.join(path);
        let mut parent = dir.to_owned();
        for component in Path::new(path).parent().into_iter().flat_map(Path::components) {
            parent.push(component);
            match fs::create_dir(&parent) {
                Ok(()) => {
                    fs::set_permissions(&parent, fs::Permissions::from_mode(0o755))?;
                    chown(&parent, None, gid)?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        // Nobody may read it before it has its mode.
        let options = {
            use std::os::unix::fs::OpenOptionsExt;
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).to_owned()
        };
        let mut handle = options.open(&full)?;
        io::Write::write_all(&mut handle, &file.data)?;
        if file.uid.is_some() || gid.is_some() {
            std::os::unix::fs::fchown(&handle, file.uid, gid)?;
        }
        // An fsGroup has to be able to read what it owns; upstream's read-only mask.
        let mode = if gid.is_some() { file.mode | 0o440 } else { file.mode };
        handle.set_permissions(fs::Permissions::from_mode(mode & 0o777))?;
    }
    Ok(())
}

/// True if the directory holds exactly the payload.
fn is_current(dir: &Path, payload: &Payload) -> io::Result<bool> {
    for (path, file) in payload {
        match fs::read(dir.join(path)) {
            Ok(data) if data == file.data => {}
            Ok(_) => return Ok(false),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
                ) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    let mut files = BTreeSet::new();
    let mut queue = vec![PathBuf::new()];
    while let Some(relative) = queue.pop() {
        for entry in fs::read_dir(dir.join(&relative))? {
            let entry = entry?;
            let path = relative.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                queue.push(path);
            } else {
                files.insert(path);
            }
        }
    }
    Ok(files.len() == payload.len())
}

fn links_stand(target: &Path, payload: &Payload) -> bool {
    top_names(payload)
        .iter()
        .all(|name| fs::read_link(target.join(name)).is_ok_and(|link| link == Path::new(DATA).join(name)))
}

fn put_link(target: &Path, name: &str) -> io::Result<()> {
    let link = target.join(name);
    let points_to = Path::new(DATA).join(name);
    if fs::read_link(&link).is_ok_and(|current| current == points_to) {
        return Ok(());
    }
    remove_file_if_there(&link)?;
    symlink(points_to, link)
}

/// Links to keys that are gone, and directories of older versions (also those a crash left).
fn remove_stale(target: &Path, wanted: &BTreeSet<String>, current: &str) -> io::Result<()> {
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name == DATA || name == current {
            continue;
        }
        let kind = entry.file_type()?;
        if name.starts_with("..") && kind.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if kind.is_symlink() && !wanted.contains(name) {
            remove_file_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_file_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
#[path = "atomic_writer_tests.rs"]
mod tests;
