//! `cargo xtask setup`: what a bare Debian 12 machine with Rust still lacks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{apt, cache, ebpf_toolchain, step};

/// To compile: protobuf for the CRI's definitions, a C linker for Rust itself.
const BUILD: &[&str] = &["protobuf-compiler", "gcc", "libc6-dev"];

/// To run: the container runtime, the CNI plugins, and the kernel's front ends.
const RUN: &[&str] =
    &["containerd", "runc", "containernetworking-plugins", "iptables", "iproute2", "ca-certificates", "curl"];

/// To test: real clients and peers, and tools that look at the kernel from outside.
const TEST: &[&str] = &[
    "busybox-static",
    "nftables",
    "ipvsadm",
    "ipset",
    "conntrack",
    "etcd-server",
    "etcd-client",
    "curl",
    "procps",
    "util-linux",
    "iputils-ping",
    "openssl",
];

/// kubectl of both ends of the supported skew, each from the Debian release that carries it.
#[derive(Clone, Copy)]
pub(crate) enum Kubectl {
    V1_32,
    V1_36,
}

impl Kubectl {
    pub(crate) const ALL: [Self; 2] = [Self::V1_32, Self::V1_36];

    fn source(self) -> (&'static str, &'static str) {
        match self {
            Self::V1_32 => ("1.32", "trixie"),
            Self::V1_36 => ("1.36", "sid"),
        }
    }
}

/// Everything, for those who like it done at once.
pub(crate) fn all() -> Result<()> {
    for_build()?;
    for_run()?;
    for_test()?;
    ebpf_toolchain::ready()?;
    step::say("everything is installed");
    Ok(())
}

pub(crate) fn for_build() -> Result<()> {
    apt::install("building", BUILD)
}

pub(crate) fn for_run() -> Result<()> {
    apt::install("running containers", RUN)
}

pub(crate) fn for_test() -> Result<()> {
    apt::install("tests", TEST)?;
    for version in Kubectl::ALL {
        kubectl(version)?;
    }
    Ok(())
}

/// The busybox of the demo image: trixie's, because `wget -T` of bookworm's 1.35 crashes.
pub(crate) fn busybox() -> Result<PathBuf> {
    from_release("trixie", "busybox-static", "1.37", "usr/bin/busybox")
}

/// The path of a kubectl of that version, downloaded where it is not in the cache yet.
pub(crate) fn kubectl(version: Kubectl) -> Result<PathBuf> {
    let (minor, suite) = version.source();
    from_release(suite, "kubectl", minor, "usr/bin/kubectl")
}

/// A program of another Debian release, unpacked in the cache and not installed.
fn from_release(suite: &'static str, package: &str, version: &str, program: &str) -> Result<PathBuf> {
    let dir = cache::user()?.join(format!("{package}-{version}"));
    let path = dir.join(program);
    if path.exists() {
        return Ok(path);
    }
    let release = apt::Release::open(suite)?;
    let found = release.version(package)?;
    if !found.contains(version) {
        step::say(&format!("Debian {suite} has {package} {found} now: it stands in for {version}"));
    }
    let partial = dir.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    release.unpack(package, &partial)?;
    let _ = fs::remove_dir_all(&dir);
    fs::rename(&partial, &dir).with_context(|| format!("moving {package} to {}", dir.display()))?;
    Ok(path)
}

/// Tells the scenarios (and benchmarks) where the parts are.
pub(crate) fn test_environment(command: &mut Command, orlop: &Path) -> Result<()> {
    command
        .env("ORLOP_TEST_BIN", orlop)
        .env("ORLOP_TEST_IMAGES", cache::target().join("images"))
        .env("ORLOP_TEST_KUBECTL_1_32", kubectl(Kubectl::V1_32)?)
        .env("ORLOP_TEST_KUBECTL_1_36", kubectl(Kubectl::V1_36)?);
    Ok(())
}
