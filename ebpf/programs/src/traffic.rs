//! tc hooks: packets that arrive from outside, and their replies.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use orlop_abi::addr::Addr;
use orlop_abi::flow::{Verdict, egress, ingress};
use orlop_abi::maps::Counter;
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

/// Fills `flow` and `flags`; 0 for packets that services don't handle.
#[inline(never)]
fn read(skb: *mut __sk_buff, flow: &mut Flow, flags: &mut u32) -> i32 {
    let ctx = TcContext::new(skb);
    // SAFETY: fields of the context that every tc program may read.
    let (ifindex, protocol) = unsafe { ((*skb).ifindex, (*skb).protocol) };
    let Some(at) = interface(ifindex) else { return 0 };
    let Some(found) = parse(&Packet(&ctx), u16::from_be(protocol as u16), at.link_header_len) else { return 0 };
    *flow = found;
    *flags = at.flags;
    1
}

const PASS: i32 = 0;
const DROP: i32 = 1;
const REFUSE: i32 = 2;
const SOURCE: i32 = 3;
const DESTINATION: i32 = 4;

/// A verdict as a number, with its address left in `addr` and `port_be`.
#[inline(always)]
fn flatten(verdict: Verdict, addr: &mut Addr, port_be: &mut u16) -> i32 {
    match verdict {
        Verdict::Pass => PASS,
        Verdict::Drop => DROP,
        Verdict::Refuse => REFUSE,
        Verdict::Source(to, port) => {
            (*addr, *port_be) = (to, port);
            SOURCE
        }
        Verdict::Destination(to, port) => {
            (*addr, *port_be) = (to, port);
            DESTINATION
        }
    }
}

// Deciding and acting are functions of their own, so that their stacks don't add up: all frames of a call
// chain share 512 bytes.

#[inline(never)]
fn decide_ingress(flow: &Flow, interface_flags: u32, addr: &mut Addr, port_be: &mut u16) -> i32 {
    flatten(ingress(&Kernel, flow, interface_flags), addr, port_be)
}

#[inline(never)]
fn decide_egress(flow: &Flow, addr: &mut Addr, port_be: &mut u16) -> i32 {
    flatten(egress(&Kernel, flow), addr, port_be)
}

#[inline(always)]
fn act(ctx: &TcContext, flow: &Flow, verdict: i32, addr: &Addr, port_be: u16) -> i32 {
    let side = match verdict {
        PASS => return NEXT,
        REFUSE => return refuse(ctx.skb.skb, flow),
        SOURCE => Side::Source,
        DESTINATION => Side::Destination,
        _ => return TC_ACT_SHOT,
    };
    if rewrite(ctx.skb.skb, flow, side, addr, port_be) == 0 {
        NEXT
    } else {
        Kernel.count(Counter::RewriteFailed);
        TC_ACT_SHOT
    }
}

#[classifier]
pub fn orlop_ingress(ctx: TcContext) -> i32 {
    let (mut flow, mut flags) = (Flow::default(), 0);
    if read(ctx.skb.skb, &mut flow, &mut flags) == 0 {
        return NEXT;
    }
    let (mut addr, mut port_be) = (Addr::default(), 0);
    let verdict = decide_ingress(&flow, flags, &mut addr, &mut port_be);
    act(&ctx, &flow, verdict, &addr, port_be)
}

#[classifier]
pub fn orlop_egress(ctx: TcContext) -> i32 {
    let (mut flow, mut flags) = (Flow::default(), 0);
    if read(ctx.skb.skb, &mut flow, &mut flags) == 0 {
        return NEXT;
    }
    let (mut addr, mut port_be) = (Addr::default(), 0);
    let verdict = decide_egress(&flow, &mut addr, &mut port_be);
    act(&ctx, &flow, verdict, &addr, port_be)
}
