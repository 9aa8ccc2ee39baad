//! The kernel programs, as `cargo xtask build-ebpf` left them; empty in a build without them.

/// The ELF object, aligned as its reader needs it.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/orlop.bpf.o"));

/// Whether this build carries the programs.
pub fn is_embedded() -> bool {
    !OBJECT.is_empty()
}
