//! Finds the object of the kernel programs, or leaves an empty stub in its place.
//!
//! The programs need a compiler of their own (`cargo xtask build-ebpf`), which plain `cargo check`
//! must not. `ORLOP_BPF_OBJECT` names another object than the target folder's `ebpf/orlop.bpf.o`.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest.ancestors().nth(2).ok_or("the crate is not two folders below the workspace")?;
    println!("cargo::rerun-if-env-changed=ORLOP_BPF_OBJECT");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let source = match env::var_os("ORLOP_BPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| workspace.join("target"), PathBuf::from)
            .join("ebpf/orlop.bpf.o"),
    };
    // A named file that is absent would rerun this on every build; its folder stands in for it, which must then
    // hold nothing else. (A folder that can't be made is one where the object can't appear either.)
    let folder = source.parent().unwrap_or(&manifest);
    let folder_is_there = folder.is_dir() || fs::create_dir_all(folder).is_ok();
    let watched = match (source.exists(), folder_is_there) {
        (true, _) => source.as_path(),
        (false, true) => folder,
        (false, false) => Path::new("build.rs"),
    };
    println!("cargo::rerun-if-changed={}", watched.display());
    let object = match fs::read(&source) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("reading {}: {error}", source.display()).into()),
    };
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("orlop.bpf.o"), object)?;
    Ok(())
}
