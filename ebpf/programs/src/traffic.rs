//! tc hooks: packets that arrive from outside, and their replies.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use orlop_abi::flow::{Verdict, egress, ingress};
use orlop_abi::maps::{Counter, Interface};
use orlop_abi::packet::{Bytes, Flow, parse};
use orlop_abi::tables::Tables;

use crate::maps::{Kernel, interface};
use crate::refuse::refuse;
use crate::rewrite::{Side, rewrite};

/// Go on to the next program, then to the stack (also what tcx calls TCX_NEXT).
const NEXT: i32 = TC_ACT_UNSPEC;

struct Packet<'a>(&'a TcContext);

impl Bytes for Packet<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.0.load::<[u8; N]>(offset as usize).ok()
    }
}

#[inline(always)]
fn read(ctx: &TcContext) -> Option<(Flow, Interface)> {
    // SAFETY: fields of the context that every tc program may read.
    let (ifindex, protocol) = unsafe { ((*ctx.skb.skb).ifindex, (*ctx.skb.skb).protocol) };
    let at = interface(ifindex)?;
    let flow = parse(&Packet(ctx), u16::from_be(protocol as u16), at.link_header_len)?;
    Some((flow, at))
}

#[inline(always)]
fn act(ctx: &TcContext, flow: &Flow, at: &Interface, verdict: Verdict) -> i32 {
    let (side, addr, port_be) = match verdict {
        Verdict::Pass => return NEXT,
        Verdict::Drop => return TC_ACT_SHOT,
        Verdict::Refuse => return refuse(ctx, flow, at),
        Verdict::Source(addr, port_be) => (Side::Source, addr, port_be),
        Verdict::Destination(addr, port_be) => (Side::Destination, addr, port_be),
    };
    if rewrite(ctx, flow, side, &addr, port_be).is_ok() {
        NEXT
    } else {
        Kernel.count(Counter::RewriteFailed);
        TC_ACT_SHOT
    }
}

#[classifier]
pub fn orlop_ingress(ctx: TcContext) -> i32 {
    match read(&ctx) {
        Some((flow, at)) => act(&ctx, &flow, &at, ingress(&Kernel, &flow, at.flags)),
        None => NEXT,
    }
}

#[classifier]
pub fn orlop_egress(ctx: TcContext) -> i32 {
    match read(&ctx) {
        Some((flow, at)) => act(&ctx, &flow, &at, egress(&Kernel, &flow)),
        None => NEXT,
    }
}
