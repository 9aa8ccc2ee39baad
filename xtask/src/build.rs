//! Compiling: the kernel programs, the images that the binary carries, and the binary.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{cache, ebpf_toolchain, images, setup, step};

const HOST: &str = "x86_64-unknown-linux-gnu";

/// Which `orlop` to build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    pub release: bool,
    pub node_only: bool,
}

impl Profile {
    pub(crate) fn new(release: bool, node_only: bool) -> Self {
        Self { release, node_only }
    }

    pub(crate) fn dev() -> Self {
        Self::new(false, false)
    }

    fn path(self) -> PathBuf {
        let dir = cache::target().join(if self.release { "release" } else { "debug" });
        dir.join(if self.node_only { "orlop-node" } else { "orlop" })
    }
}

/// Compiles `ebpf/programs`; the object goes to `target/ebpf/`, where `agent/dataplane` picks it up.
pub(crate) fn ebpf() -> Result<PathBuf> {
    let toolchain = ebpf_toolchain::ready()?;
    let programs = cache::root().join("ebpf/programs");
    let build_dir = cache::target().join("ebpf-build");
    let path = std::env::var("PATH").unwrap_or_default();
    let flags = ["--cfg=bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\u{1f}");
    step::run(
        "compiling the eBPF programs",
        Command::new("cargo")
            .args(["build", "--release", "--locked", "-Z", "build-std=core", "--target", "bpfel-unknown-none"])
            .current_dir(&programs)
            .env("PATH", format!("{}:{path}", toolchain.bin.display()))
            .env("RUSTC", &toolchain.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .env("CARGO_TARGET_DIR", &build_dir)
            .env_remove("RUSTC_WRAPPER"),
    )?;
    let object = build_dir.join("bpfel-unknown-none/release/orlop-bpf");
    let published = cache::made(cache::target().join("ebpf"))?.join("orlop.bpf.o");
    publish(&object, &published)?;
    Ok(published)
}

/// Copies only when the content differs, so that nothing downstream is built again for nothing.
pub(crate) fn publish(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let partial = to.with_extension("partial");
    fs::write(&partial, new)?;
    fs::set_permissions(&partial, fs::metadata(from)?.permissions())?;
    fs::rename(&partial, to).with_context(|| format!("writing {}", to.display()))
}

/// Builds the binary with everything that it embeds.
pub(crate) fn orlop(profile: Profile) -> Result<PathBuf> {
    setup::for_build()?;
    ebpf()?;
    images::pause()?;
    let mut command = Command::new("cargo");
    command.args(["build", "--locked"]).current_dir(cache::root());
    if profile.release || profile.node_only {
        command.args(["--package", "orlop"]);
    } else {
        // The features of the whole workspace, as the tests have them: nothing is compiled twice.
        command.args(["--workspace", "--bin", "orlop"]);
    }
    if profile.node_only {
        command.arg("--no-default-features");
    }
    let out_dir = if profile.release {
        // With an explicit target the flags reach the program only: a static proc-macro can't exist.
        command.args(["--release", "--target", HOST]);
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");
        cache::target().join(HOST).join("release")
    } else {
        cache::target().join("debug")
    };
    let what = if profile.node_only { "orlop (node only)" } else { "orlop" };
    step::run(&format!("building {what}, {}", if profile.release { "release" } else { "debug" }), &mut command)?;
    let built = out_dir.join("orlop");
    let path = profile.path();
    if built != path {
        fs::create_dir_all(path.parent().context("no parent")?)?;
        publish(&built, &path)?;
    }
    let about = step::output(Command::new(&path).args(["version", "--output=json"]))?;
    ensure!(about.contains("\"ebpfPrograms\":true"), "{} was built without the eBPF programs: {about}", path.display());
    Ok(path)
}
