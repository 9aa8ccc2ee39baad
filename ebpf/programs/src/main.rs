//! The kernel programs: thin shells around the decisions in `orlop-abi`.
//!
//! ```text
//! maps      the maps, and `Kernel`, which is `Tables` on them
//! socket    connect, sendmsg, recvmsg, getpeername at the control group
//! traffic   tc ingress and egress
//! rewrite   addresses, ports and checksums of a packet
//! refuse    TCP reset and ICMP port unreachable in place of a packet
//! ```
#![no_std]
#![no_main]

mod maps;
mod refuse;
mod rewrite;
mod socket;
mod traffic;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// GPL-compatible, as several helpers ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
