//! hostPath volumes: what type of file must stand there, or is made.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::error::VolumeError;

/// Checks (and for the `…OrCreate` types makes) the path; answers it.
pub(super) fn prepare(volume: &str, source: &HostPathVolumeSource) -> Result<PathBuf, VolumeError> {
    let path = Path::new(&source.path);
    let fail = |what: &str| {
        Err(VolumeError::invalid(volume, format!("hostPath type check failed: {} is not {what}", source.path)))
    };
    if source.path.is_empty() || path.components().any(|c| matches!(c, std::path::Component::ParentDir)) {
        return Err(VolumeError::invalid(volume, format!("hostPath {:?} must not hold \"..\"", source.path)));
    }
    let metadata = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(VolumeError::io(volume, format!("stat {}", source.path))(error)),
    };
    let is = |check: fn(&fs::FileType) -> bool| metadata.as_ref().is_some_and(check);
    match source.type_.as_deref().unwrap_or_default() {
        "" => {}
        "DirectoryOrCreate" => {
            if metadata.is_none() {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(path)
                    .map_err(VolumeError::io(volume, format!("create directory {}", source.path)))?;
            } else if !is(fs::FileType::is_dir) {
                return fail("a directory");
            }
        }
        "Directory" if !is(fs::FileType::is_dir) => return fail("a directory"),
        "FileOrCreate" => {
            if metadata.is_none() {
                fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o644)
                    .open(path)
                    .map_err(VolumeError::io(volume, format!("create file {}", source.path)))?;
            } else if !is(fs::FileType::is_file) {
                return fail("a file");
            }
        }
        "File" if !is(fs::FileType::is_file) => return fail("a file"),
        "Socket" if !is(FileTypeExt::is_socket) => return fail("a socket file"),
        "CharDevice" if !is(FileTypeExt::is_char_device) => return fail("a character device"),
        "BlockDevice" if !is(FileTypeExt::is_block_device) => return fail("a block device"),
        "Directory" | "File" | "Socket" | "CharDevice" | "BlockDevice" => {}
        other => return Err(VolumeError::invalid(volume, format!("{other:?} is an invalid volume type"))),
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let check = |name: &str, kind: &str, ok: bool| {
            let source = HostPathVolumeSource { path: at(name), type_: Some(kind.to_owned()) };
            let result = prepare("v", &source);
            assert_eq!(result.is_ok(), ok, "{name} {kind}: {result:?}");
        };
        fs::write(at("file"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        check("missing", "", true);
        check("missing", "Directory", false);
        check("missing", "File", false);
        check("new/dir", "DirectoryOrCreate", true);
        check("new/dir", "Directory", true);
        check("new/dir", "FileOrCreate", false);
        check("new/file", "FileOrCreate", true);
        check("new/file", "File", true);
        check("file", "DirectoryOrCreate", false);
        check("socket", "Socket", true);
        check("file", "Socket", false);
        check("file", "CharDevice", false);
        check("file", "BlockDevice", false);
        check("file", "Nonsense", false);
        check("../x", "", false);
        let device = HostPathVolumeSource { path: "/dev/null".to_owned(), type_: Some("CharDevice".to_owned()) };
        assert!(prepare("v", &device).is_ok());
    }
}
