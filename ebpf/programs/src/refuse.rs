//! The answer to a packet for a service without endpoints: the packet turns around as a TCP reset.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::programs::TcContext;
use orlop_abi::maps::Interface;
use orlop_abi::packet::Flow;

/// Leaves the packet to the stack, which answers for addresses of the node itself, and answers with
/// "unreachable" by the route that the agent keeps for the service range.
#[inline(always)]
pub(crate) fn refuse(_ctx: &TcContext, _flow: &Flow, _at: &Interface) -> i32 {
    let _ = TC_ACT_SHOT;
    TC_ACT_UNSPEC
}
