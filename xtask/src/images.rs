//! OCI image tarballs without a registry: `pause`, from our own tiny program, and a busybox for
//! demos and tests. Same input, same bytes: layers carry no times or owners of the build machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{build, cache, setup, step};

/// The names that manifests use. They belong to no registry: a node never asks anybody for them.
const PAUSE: &str = "orlop.local/pause:1.0";
const BUSYBOX: &str = "orlop.local/busybox:1.37";

/// Builds both and says where they are.
pub(crate) fn build() -> Result<Vec<PathBuf>> {
    Ok(vec![pause()?, busybox()?])
}

/// The sandbox image; the binary embeds it, too.
pub(crate) fn pause() -> Result<PathBuf> {
    let program = pause_program()?;
    let mut layer = Layer::new();
    layer.file("pause", &fs::read(&program)?, 0o755)?;
    let config = json!({"Entrypoint": ["/pause"], "User": "65535:65535"});
    write_image("pause", PAUSE, layer, &config)
}

fn pause_program() -> Result<PathBuf> {
    let target = cache::target().join("pause-build");
    step::run(
        "building the pause program",
        Command::new("cargo")
            .args(["build", "--release", "--locked", "--target", "x86_64-unknown-linux-gnu"])
            .current_dir(cache::root().join("agent/pause"))
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static"),
    )?;
    Ok(target.join("x86_64-unknown-linux-gnu/release/pause"))
}

fn busybox() -> Result<PathBuf> {
    let program = setup::busybox()?;
    let applets = step::output(Command::new(&program).arg("--list"))?;
    let mut layer = Layer::new();
    for dir in ["bin", "etc", "home", "proc", "root", "sys", "dev", "usr", "usr/bin", "var", "www"] {
        layer.dir(dir, 0o755)?;
    }
    layer.dir("tmp", 0o1777)?;
    layer.file("bin/busybox", &fs::read(&program)?, 0o755)?;
    for applet in applets.lines().filter(|a| *a != "busybox") {
        layer.link(&format!("bin/{applet}"), "/bin/busybox")?;
    }
    layer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644)?;
    layer.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)?;
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
    write_image("busybox", BUSYBOX, layer, &config)
}

/// One layer, as a reproducible tar.
struct Layer {
    tar: tar::Builder<Vec<u8>>,
}

impl Layer {
    fn new() -> Self {
        Self { tar: tar::Builder::new(Vec::new()) }
    }

    fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    }

    fn dir(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Directory, mode, 0);
        Ok(self.tar.append_data(&mut header, format!("{path}/"), std::io::empty())?)
    }

    fn file(&mut self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Regular, mode, bytes.len());
        Ok(self.tar.append_data(&mut header, path, bytes)?)
    }

    fn link(&mut self, path: &str, to: &str) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Symlink, 0o777, 0);
        Ok(self.tar.append_link(&mut header, path, to)?)
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes an OCI image layout (image-spec 1.0) with one image of one layer.
fn write_image(file: &str, name: &str, layer: Layer, config: &Value) -> Result<PathBuf> {
    let layer = layer.tar.into_inner()?;
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
    }))?;
    let descriptor = |media: &str, bytes: &[u8]| json!({"mediaType": media, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()});
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    let tag = name.rsplit(':').next().unwrap_or_default();
    entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    entry["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let index = serde_json::to_vec(
        &json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}),
    )?;

    let mut image = Layer::new();
    image.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    image.file("index.json", &index, 0o644)?;
    image.dir("blobs", 0o755)?;
    image.dir("blobs/sha256", 0o755)?;
    for blob in [&config, &layer, &manifest] {
        image.file(&format!("blobs/sha256/{}", digest(blob)), blob, 0o644)?;
    }
    let bytes = image.tar.into_inner()?;
    ensure!(!bytes.is_empty(), "{name}: empty image");
    let dir = cache::made(cache::target().join("images"))?;
    let partial = dir.join(format!(".{file}.partial"));
    fs::write(&partial, bytes)?;
    let path = dir.join(format!("{file}.tar"));
    build::publish(&partial, &path)?;
    fs::remove_file(partial)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_reproducible() {
        let make = || {
            let mut layer = Layer::new();
            layer.dir("bin", 0o755).unwrap();
            layer.file("bin/x", b"x", 0o755).unwrap();
            layer.link("bin/y", "/bin/x").unwrap();
            layer.tar.into_inner().unwrap()
        };
        assert_eq!(digest(&make()), digest(&make()));
    }
}
