//! What the eBPF programs and the agent share: the layout of the maps, and the decisions over them.
//!
//! ```text
//! addr      one 16-byte form for both families: IPv4 is kept as ::ffff:a.b.c.d
//! maps      keys and values of every map, their names, default sizes, flags
//! tables    the seam: what a decision may ask of the maps, the clock and the random source
//! service   frontend lookup and choice of an endpoint (affinity included)
//! socket    what a connect() or sendmsg() becomes, and the way back
//! packet    headers of a packet that arrived from outside
//! flow      connection table: DNAT, SNAT and their reverse
//! reply     the refusal of a packet, byte by byte
//! ```
//!
//! Everything here is generic over [`tables::Tables`], so that the same code runs in the kernel on BPF
//! maps and natively in tests on hash maps. Nothing allocates, loops are bounded by constants.
#![no_std]
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod addr;
pub mod flow;
pub mod maps;
pub mod packet;
pub mod reply;
pub mod service;
pub mod socket;
pub mod tables;

#[cfg(test)]
mod fake_tables;
#[cfg(test)]
mod tests;
