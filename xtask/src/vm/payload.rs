//! What changes from run to run: the program, the images, kubectl and the guest's script, as a raw tar disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{cache, images, setup};

pub(super) fn build(orlop: &Path) -> Result<PathBuf> {
    let path = cache::made(cache::target().join("vm"))?.join("payload.tar");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let mut tar = tar::Builder::new(file);
    let root = cache::root();
    let mut add = |from: &Path, name: &str| {
        tar.append_path_with_name(from, name).with_context(|| format!("adding {}", from.display()))
    };
    add(orlop, "orlop")?;
    add(&setup::kubectl(setup::Kubectl::V1_36)?, "kubectl")?;
    for image in images::build()? {
        let name = image.file_name().context("an image without a name")?.to_string_lossy().into_owned();
        add(&image, &format!("images/{name}"))?;
    }
    add(&root.join("tests/vm/guest.sh"), "guest.sh")?;
    add(&root.join("tests/manifests/demo.yaml"), "demo.yaml")?;
    add(&root.join("agent/orlop/orlop.service"), "orlop.service")?;
    tar.into_inner()?.sync_all()?;
    Ok(path)
}
