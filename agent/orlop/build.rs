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
    let bytes = std::fs::read(&pause).unwrap_or_default();
    std::fs::write(out.join("pause.tar"), bytes).expect("OUT_DIR is writable");
}
