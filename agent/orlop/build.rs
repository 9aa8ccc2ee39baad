//! Carries the pause image along: `cargo xtask build` leaves it in `target/images`; without it the
//! program is built all the same, and then needs the tarball in its data directory.

use std::path::{Path, PathBuf};

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let pause = target.join("images/pause.tar");
    println!("cargo::rerun-if-changed={}", pause.display());
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    // Generic code for some hundred kinds of objects compiles to many equal functions: the linker
    // (lld, this toolchain's default) folds them into one.
    let release = std::env::var("PROFILE").is_ok_and(|p| p == "release");
    if release && std::env::var("TARGET").is_ok_and(|t| t == "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        // Two megabytes of relative relocations fit in some kilobytes (DT_RELR, glibc 2.36).
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    let bytes = std::fs::read(&pause).unwrap_or_default();
    std::fs::write(out.join("pause.tar"), bytes).expect("OUT_DIR is writable");
}
