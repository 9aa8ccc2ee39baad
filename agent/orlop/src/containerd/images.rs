//! Images without a registry: tarballs in `<data-dir>/images` and the pause image that this program carries.
//!
//! A tarball is imported once per content (size and time of change); the marks lie beside
//! containerd's own data, so that they go when it goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::instance::Instance;

/// `pause` as an OCI tarball; empty where the program was built without `cargo xtask build`.
const PAUSE_TAR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause.tar"));

/// Imports what is new. Returns how many images files were imported.
pub(crate) async fn import_all(instance: &Instance, socket: &Path) -> Result<usize> {
    let marks = instance.containerd_dir().join("imported");
    fs::create_dir_all(&marks)?;
    let mut imported = 0;
    if let Some(pause) = unpack_pause(instance)? {
        imported += usize::from(import_new(&marks, socket, &pause).await?);
    }
    let dir = instance.images_dir();
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let mut files: Vec<PathBuf> =
        fs::read_dir(&dir)?.filter_map(Result::ok).map(|e| e.path()).filter(|p| is_tarball(p)).collect();
    files.sort();
    for file in files {
        imported += usize::from(import_new(&marks, socket, &file).await?);
    }
    Ok(imported)
}

fn is_tarball(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    path.is_file() && !name.starts_with('.') && (name.ends_with(".tar") || name.contains(".tar."))
}

/// Writes the carried image where `ctr` can read it.
fn unpack_pause(instance: &Instance) -> Result<Option<PathBuf>> {
    if PAUSE_TAR.is_empty() {
        return Ok(None);
    }
    let path = instance.containerd_dir().join("pause.tar");
    if fs::read(&path).ok().as_deref() != Some(PAUSE_TAR) {
        fs::write(&path, PAUSE_TAR).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(Some(path))
}

async fn import_new(marks: &Path, socket: &Path, file: &Path) -> Result<bool> {
    let meta = fs::metadata(file).with_context(|| format!("reading {}", file.display()))?;
    let stamp = format!("{} {:?}", meta.len(), meta.modified()?);
    let mark = marks.join(file.file_name().unwrap_or_default());
    if fs::read_to_string(&mark).ok().as_deref() == Some(stamp.as_str()) {
        return Ok(false);
    }
    let ctr = super::find_program("ctr")?;
    let out = tokio::process::Command::new(ctr)
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(file)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("starting ctr")?;
    if !out.status.success() {
        let reason = String::from_utf8_lossy(&out.stderr);
        bail!(
            "importing the image tarball {}: {}; is it an OCI or Docker archive, and whole?",
            file.display(),
            reason.trim().lines().last().unwrap_or("ctr gave no reason")
        );
    }
    fs::write(&mark, stamp)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tarballs_count() {
        let dir = tempfile::tempdir().unwrap();
        for (name, expected) in
            [("a.tar", true), ("a.tar.gz", true), (".a.tar", false), ("a.tar.zst", true), ("a.txt", false)]
        {
            let path = dir.path().join(name);
            fs::write(&path, "").unwrap();
            assert_eq!(is_tarball(&path), expected, "{name}");
        }
        assert!(!is_tarball(&dir.path().join("missing.tar")));
    }
}
