//! The compiler for the kernel programs: a rustc with its library source, and a bpf-linker built on
//! the same LLVM. It lives in the user's cache, named by the versions that it is made of, and needs
//! no root. Each step leaves its result behind, so an interrupted build goes on where it stopped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{apt, cache, step};

const BPF_LINKER: &str = "0.13.0";

/// A toolchain that is ready to compile for `bpfel-unknown-none`.
pub(crate) struct Toolchain {
    pub rustc: PathBuf,
    /// Directory of `bpf-linker`.
    pub bin: PathBuf,
}

/// Finds the toolchain, or makes it.
pub(crate) fn ready() -> Result<Toolchain> {
    match own_sysroot_with_source()? {
        Some(own) => from_own_rustc(&own),
        None => from_debian(),
    }
}

struct OwnRustc {
    sysroot: PathBuf,
    version: String,
    llvm_major: String,
}

/// The machine's rustc, where its library source is installed (`rustup component add rust-src`).
fn own_sysroot_with_source() -> Result<Option<OwnRustc>> {
    let sysroot = PathBuf::from(step::output(Command::new("rustc").args(["--print", "sysroot"]))?.trim());
    if !sysroot.join("lib/rustlib/src/rust/library/core").exists() {
        return Ok(None);
    }
    let version = step::output(Command::new("rustc").arg("-vV"))?;
    let llvm_major = llvm_major(&version)?;
    Ok(Some(OwnRustc { sysroot, version, llvm_major }))
}

fn llvm_major(verbose_version: &str) -> Result<String> {
    let line = apt::field(verbose_version, "LLVM version").context("`rustc -vV` names no LLVM version")?;
    Ok(line.split('.').next().unwrap_or_default().to_owned())
}

fn from_own_rustc(own: &OwnRustc) -> Result<Toolchain> {
    let dir = cache::made(cache::user()?.join(format!("ebpf-toolchain-{}", cache::key(&[&own.version, BPF_LINKER]))))?;
    let lib = fs::read_dir(own.sysroot.join("lib"))?
        .filter_map(Result::ok)
        .map(|e| e.path())
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libLLVM")))
        .with_context(|| format!("{} has no libLLVM", own.sysroot.display()))?;
    bpf_linker(&dir, &lib, &own.llvm_major)?;
    Ok(Toolchain { rustc: own.sysroot.join("bin/rustc"), bin: dir.join("bin") })
}

/// Debian's `rustc-web` and the packages that belong to it: names and versions are asked of apt,
/// because the security suite keeps only the newest.
fn from_debian() -> Result<Toolchain> {
    let rustc_version = match apt::candidate("rustc-web")? {
        Some(version) => version,
        None => {
            apt::update()?;
            apt::candidate("rustc-web")?.context("no Debian package rustc-web: is the bookworm-security suite in the apt sources? (or install the library source of your rustc: `rustup component add rust-src`)")?
        }
    };
    let std = depends("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm = depends(&std, "libllvm")?;
    let llvm_major = llvm.trim_start_matches("libllvm").to_owned();
    let dir = cache::made(
        cache::user()?.join(format!("ebpf-toolchain-{}", cache::key(&[&rustc_version, &std, &llvm, BPF_LINKER]))),
    )?;
    let root = dir.join("root");
    let lib = root.join("usr/lib/x86_64-linux-gnu");
    if !root.join(".done").exists() {
        step::say(&format!("private eBPF toolchain in {}: rustc-web {rustc_version}, {std}, {llvm}", dir.display()));
        let debs = cache::made(dir.join("debs"))?;
        let names = [
            format!("rustc-web={rustc_version}"),
            format!("{std}={rustc_version}"),
            format!("libstd-rust-web-dev={rustc_version}"),
            format!("rust-web-src={rustc_version}"),
            llvm,
        ];
        step::run(
            "downloading the compiler for the eBPF programs",
            Command::new("apt-get").arg("download").args(&names).current_dir(&debs),
        )?;
        cache::made(root.clone())?;
        for entry in fs::read_dir(&debs)? {
            unpack(&entry?.path(), &root)?;
        }
        fs::write(root.join(".done"), "")?;
        fs::remove_dir_all(&debs)?;
    }
    let bin = cache::made(dir.join("bin"))?;
    let rustc = bin.join("rustc");
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} exec {}/usr/bin/rustc \"$@\"\n",
        lib.display(),
        root.display()
    );
    if fs::read_to_string(&rustc).ok().as_deref() != Some(script.as_str()) {
        fs::write(&rustc, script)?;
        fs::set_permissions(&rustc, PermissionsExt::from_mode(0o755))?;
    }
    bpf_linker(&dir, &lib.join(format!("libLLVM.so.{llvm_major}.1")), &llvm_major)?;
    Ok(Toolchain { rustc, bin })
}

fn depends(package: &str, prefix: &str) -> Result<String> {
    let text = step::output(Command::new("apt-cache").args(["depends", package]))?;
    text.lines()
        .filter_map(|l| l.trim().strip_prefix("Depends: "))
        .find(|d| d.starts_with(prefix))
        .map(str::to_owned)
        .with_context(|| format!("the Debian package {package} depends on no {prefix}…"))
}

/// Of the source package only the library is wanted: the rest is 400 MB.
fn unpack(deb: &Path, root: &Path) -> Result<()> {
    let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let only = if name.starts_with("rust-web-src_") {
        "--wildcards './usr/src/rustc-*/library' ./usr/lib/rustlib/src"
    } else {
        ""
    };
    let script = format!("dpkg-deb --fsys-tarfile \"$1\" | tar -x -C \"$2\" {only}");
    step::run(
        &format!("unpacking {}", name.split('_').next().unwrap_or(&name)),
        Command::new("bash").args(["-o", "pipefail", "-c", &script, "unpack"]).arg(deb).arg(root),
    )
}

fn bpf_linker(dir: &Path, lib_llvm: &Path, llvm_major: &str) -> Result<()> {
    if dir.join("bin/bpf-linker").exists() {
        step::have(&format!("eBPF toolchain: {}", dir.display()));
        return Ok(());
    }
    if !lib_llvm.exists() {
        bail!("{} is not there: remove {} and run this again", lib_llvm.display(), dir.display());
    }
    let links = cache::made(dir.join("llvm/lib"))?;
    for name in ["libLLVM.so".to_owned(), format!("libLLVM.so.{llvm_major}.1")] {
        let link = links.join(name);
        let _ = fs::remove_file(&link);
        symlink(lib_llvm, &link)?;
    }
    let build = dir.join("build");
    step::run(
        &format!("building bpf-linker {BPF_LINKER} (about three minutes, once)"),
        Command::new("cargo")
            .args([
                "install",
                "bpf-linker",
                "--version",
                BPF_LINKER,
                "--locked",
                "--no-default-features",
                "--features",
                &format!("llvm-{llvm_major}"),
                "--root",
            ])
            .arg(dir)
            .env("LLVM_PREFIX", dir.join("llvm"))
            .env("CARGO_TARGET_DIR", &build),
    )?;
    let _ = fs::remove_dir_all(build);
    Ok(())
}
