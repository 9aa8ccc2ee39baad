//! The answer to a packet for a service without endpoints: it turns around at once, as a TCP reset or as
//! ICMP port unreachable, so that clients need not wait for a time-out.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::helpers::{bpf_csum_diff, bpf_redirect, bpf_skb_change_tail, bpf_skb_load_bytes};
use aya_ebpf::programs::TcContext;
use orlop_abi::packet::{Flow, TCP};
use orlop_abi::reply::{
    ICMP_V4, ICMP_V6, SHORT_HEADER, V6_HEADER, icmp_proto, port_unreachable_v4, port_unreachable_v6, reset, v4_header,
    v6_header,
};

/// Length of an Ethernet header, the only one that is turned around.
const ETHERNET: u32 = 14;

/// Sends the refusal out where the packet came in. What can't be answered is dropped.
///
/// One function per case and not inlined: they are seldom called, and a program's stack has 512 bytes.
#[inline(always)]
pub(crate) fn refuse(skb: *mut __sk_buff, flow: &Flow) -> i32 {
    let built = match (flow.proto == TCP, flow.dst.is_v4()) {
        (true, true) => reset_v4(skb, flow),
        (true, false) => reset_v6(skb, flow),
        (false, true) => unreachable_v4(skb, flow),
        (false, false) => unreachable_v6(skb, flow),
    };
    if built == FAILED { TC_ACT_SHOT } else { turn_around(skb, flow.l3) }
}

// Programs' functions return numbers: an Option would travel through memory.
const BUILT: i32 = 0;
const FAILED: i32 = 1;

#[inline(always)]
fn code(built: Option<()>) -> i32 {
    if built.is_some() { BUILT } else { FAILED }
}

/// Swaps the hardware addresses, and sends the packet out.
#[inline(never)]
fn turn_around(skb: *mut __sk_buff, l3: u32) -> i32 {
    let ctx = TcContext::new(skb);
    if l3 == ETHERNET {
        let Ok(macs) = ctx.load::<[u8; 12]>(0) else { return TC_ACT_SHOT };
        let swapped = [
            macs[6], macs[7], macs[8], macs[9], macs[10], macs[11], macs[0], macs[1], macs[2], macs[3], macs[4],
            macs[5],
        ];
        if ctx.store(0, &swapped, 0).is_err() {
            return TC_ACT_SHOT;
        }
    }
    // SAFETY: a field that every tc program may read; the helper takes two numbers.
    unsafe { bpf_redirect((*skb).ifindex, 0) as i32 }
}

/// Cuts or extends the packet.
#[inline(always)]
fn resize(ctx: &TcContext, length: u32) -> Option<()> {
    // SAFETY: the context of this very call.
    (unsafe { bpf_skb_change_tail(ctx.skb.skb, length, 0) } == 0).then_some(())
}

/// Writes both headers over the packet's.
#[inline(always)]
fn write<const H: usize, const M: usize>(ctx: &TcContext, l3: u32, header: &[u8; H], message: &[u8; M]) -> Option<()> {
    resize(ctx, l3 + (H + M) as u32)?;
    ctx.store(l3 as usize, header, 0).ok()?;
    ctx.store(l3 as usize + H, message, 0).ok()
}

#[inline(always)]
fn answer_tcp(ctx: &TcContext, flow: &Flow) -> Option<[u8; SHORT_HEADER]> {
    let header: [u8; SHORT_HEADER] = ctx.load(flow.l4 as usize).ok()?;
    let header_len = u32::from(header[12] >> 4) * 4;
    reset(flow, &header, ctx.len().saturating_sub(flow.l4 + header_len))
}

#[inline(never)]
fn reset_v4(skb: *mut __sk_buff, flow: &Flow) -> i32 {
    let ctx = TcContext::new(skb);
    let Some(answer) = answer_tcp(&ctx, flow) else { return FAILED };
    code(write(&ctx, flow.l3, &v4_header(flow, flow.proto, SHORT_HEADER as u16), &answer))
}

#[inline(never)]
fn reset_v6(skb: *mut __sk_buff, flow: &Flow) -> i32 {
    let ctx = TcContext::new(skb);
    let Some(answer) = answer_tcp(&ctx, flow) else { return FAILED };
    code(write(&ctx, flow.l3, &v6_header(flow, flow.proto, SHORT_HEADER as u16), &answer))
}

/// A message with the packet's headers quoted; packets with options are not worth more code.
#[inline(always)]
fn quoting<const N: usize>(ctx: &TcContext, flow: &Flow, header_len: u32) -> Option<[u8; N]> {
    if flow.l4 != flow.l3 + header_len {
        return None;
    }
    let mut message = [0; N];
    // With its length a constant: the verifier doesn't believe one that was computed.
    // SAFETY: the target is the rest of a local array, as long as told.
    let failed = unsafe {
        let target = message.as_mut_ptr().add(8);
        bpf_skb_load_bytes(ctx.skb.skb.cast(), flow.l3, target.cast(), N as u32 - 8)
    };
    (failed == 0).then_some(message)
}

/// The sum by the kernel's helper, in the terms of `orlop_abi::reply::sum`.
#[inline(always)]
fn sum<const N: usize>(bytes: &[u8; N]) -> u32 {
    // SAFETY: the bytes are read only, and there are as many as told (a multiple of four).
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, bytes.as_ptr().cast_mut().cast(), N as u32, 0) } as u32;
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    u32::from(u16::from_be(folded as u16))
}

#[inline(never)]
fn unreachable_v4(skb: *mut __sk_buff, flow: &Flow) -> i32 {
    let ctx = TcContext::new(skb);
    let Some(mut message) = quoting::<ICMP_V4>(&ctx, flow, SHORT_HEADER as u32) else { return FAILED };
    port_unreachable_v4(&mut message, sum);
    code(write(&ctx, flow.l3, &v4_header(flow, icmp_proto(true), ICMP_V4 as u16), &message))
}

#[inline(never)]
fn unreachable_v6(skb: *mut __sk_buff, flow: &Flow) -> i32 {
    let ctx = TcContext::new(skb);
    let Some(mut message) = quoting::<ICMP_V6>(&ctx, flow, V6_HEADER as u32) else { return FAILED };
    port_unreachable_v6(flow, &mut message, sum);
    code(write(&ctx, flow.l3, &v6_header(flow, icmp_proto(false), ICMP_V6 as u16), &message))
}
