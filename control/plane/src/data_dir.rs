//! The data directory: its version, and files that are either old or new but never half of both.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Layout of the data directory that this program writes.
const VERSION: u32 = 1;
/// File that tells the layout.
const VERSION_FILE: &str = "VERSION";

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} was written by a newer version of orlop (layout {found}, this program knows up to {VERSION}); start the newer orlop, or use another --data-dir"
    )]
    Newer { path: PathBuf, found: u32 },
    #[error(
        "{path} is damaged: expected a number, found {found:?}; if this really is a data directory of orlop, write {VERSION} into the file, else use another --data-dir"
    )]
    Damaged { path: PathBuf, found: String },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { action, path, source }
}

/// Makes the directory where it is missing, and checks that this program may use it.
pub(crate) fn open(dir: &Path) -> Result<(), DataDirError> {
    private_dir(dir)?;
    let path = dir.join(VERSION_FILE);
    match read_text(&path)? {
        None => write_atomic(&path, format!("{VERSION}\n").as_bytes(), 0o644),
        Some(text) => match text.trim().parse::<u32>() {
            Ok(found) if found > VERSION => Err(DataDirError::Newer { path, found }),
            Ok(_) => Ok(()),
            Err(_) => Err(DataDirError::Damaged { path, found: text.chars().take(40).collect() }),
        },
    }
}

/// A directory that only its owner enters; one that exists keeps its mode.
pub(crate) fn private_dir(dir: &Path) -> Result<(), DataDirError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create directory", dir))
}

/// The file's text; `None` where there is no file.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, DataDirError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Temporary file, fsync, rename, fsync of the directory: after a power cut the file is the old or the new one.
pub(crate) fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), DataDirError> {
    let (Some(dir), Some(file)) = (path.parent(), path.file_name()) else {
        return Err(failed("write", path)(io::ErrorKind::InvalidInput.into()));
    };
    let temporary = dir.join(format!(".{}.tmp", file.to_string_lossy()));
    let written = (|| {
        // One that a crash left behind may have another mode.
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        out.set_permissions(Permissions::from_mode(mode))?;
        out.write_all(content)?;
        out.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    })();
    written.map_err(|e| {
        // Nothing half-made stays; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        failed("write", path)(e)
    })
}

/// Takes group's and others' rights from a secret file that has them.
pub(crate) fn keep_private(path: &Path) -> Result<(), DataDirError> {
    let mode = fs::metadata(path).map_err(failed("read", path))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "a secret file was readable by others; closed");
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("set permissions of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_layout_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap();
        open(dir.path()).unwrap();
        fs::write(dir.path().join("VERSION"), "7\n").unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("VERSION was written by a newer version of orlop (layout 7"), "{error}");
        assert!(error.contains("--data-dir"), "{error}");
    }

    #[test]
    fn a_damaged_version_is_told_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("VERSION"), "hello").unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is damaged: expected a number, found \"hello\""), "{error}");
    }

    #[test]
    fn writing_replaces_whole_files_and_leaves_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(dir.path().join(".key.tmp"), "left by a crash").unwrap();
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
