//! New addresses and ports in a packet, with the checksums that cover them.

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::bpf_csum_diff;
use aya_ebpf::programs::TcContext;
use orlop_abi::addr::Addr;
use orlop_abi::packet::{Flow, TCP};

/// Which end of the packet changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// A helper refused: the packet is malformed, or memory is short.
struct Failed;

/// Rewrites one end of the packet. When that is not 0 the packet is half written and must be dropped.
#[inline(never)]
pub(crate) fn rewrite(skb: *mut __sk_buff, flow: &Flow, side: Side, addr: &Addr, port_be: u16) -> i32 {
    i32::from(try_rewrite(&TcContext::new(skb), flow, side, addr, port_be).is_err())
}

#[inline(always)]
fn try_rewrite(ctx: &TcContext, flow: &Flow, side: Side, addr: &Addr, port_be: u16) -> Result<(), Failed> {
    let source = side == Side::Source;
    let (old_addr, old_port_be) = if source { (flow.src, flow.sport_be) } else { (flow.dst, flow.dport_be) };
    let port_at = flow.l4 + if source { 0 } else { 2 };
    let checksum_at = (flow.l4 + if flow.proto == TCP { 16 } else { 6 }) as usize;
    // A UDP checksum of 0 means "none" and stays so.
    let udp: u64 = if flow.proto == TCP { 0 } else { BPF_F_MARK_MANGLED_0.into() };

    if flow.dst.is_v4() {
        let (from, to) = (old_addr.v4_word_be(), addr.v4_word_be());
        let at = flow.l3 + if source { 12 } else { 16 };
        let ip_checksum_at = (flow.l3 + 10) as usize;
        ctx.l4_csum_replace(checksum_at, from.into(), to.into(), u64::from(BPF_F_PSEUDO_HDR) | udp | 4)
            .map_err(|_| Failed)?;
        ctx.l3_csum_replace(ip_checksum_at, from.into(), to.into(), 4).map_err(|_| Failed)?;
        ctx.store(at as usize, &to, 0).map_err(|_| Failed)?;
    } else {
        let mut from = old_addr.words;
        let mut to = addr.words;
        let at = flow.l3 + if source { 8 } else { 24 };
        // SAFETY: two local arrays of the given sizes.
        let diff = unsafe { bpf_csum_diff(from.as_mut_ptr(), 16, to.as_mut_ptr(), 16, 0) };
        let diff = u64::try_from(diff).map_err(|_| Failed)?;
        ctx.l4_csum_replace(checksum_at, 0, diff, u64::from(BPF_F_PSEUDO_HDR) | udp).map_err(|_| Failed)?;
        ctx.store(at as usize, &to, 0).map_err(|_| Failed)?;
    }
    ctx.l4_csum_replace(checksum_at, old_port_be.into(), port_be.into(), udp | 2).map_err(|_| Failed)?;
    ctx.store(port_at as usize, &port_be, 0).map_err(|_| Failed)
}
