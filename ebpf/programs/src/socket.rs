//! Hooks at the control group: a socket's addresses, before a packet exists.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use orlop_abi::addr::Addr;
use orlop_abi::packet::{TCP, UDP};
use orlop_abi::socket::{Socket, Verdict, inbound, outbound};

use crate::maps::{Kernel, raw};

/// The kernel goes on with the call.
const PROCEED: i32 = 1;
/// The kernel fails the call, with EPERM if no other value was set.
const FAIL: i32 = 0;
const ECONNREFUSED: i32 = 111;

/// Sets the value that the failed call returns (helper 187, kernel 6.0 for these hooks).
#[inline(always)]
fn set_retval(value: i32) {
    // SAFETY: the number and the signature are the kernel's stable ABI; the verifier checks that the
    // hook may call it.
    unsafe {
        let helper: unsafe extern "C" fn(i32) -> i32 = core::mem::transmute(187_usize);
        helper(value);
    }
}

// The context may be read and written in whole words only; volatile keeps the compiler from merging.
macro_rules! read {
    ($ctx:expr, $field:ident $([$i:expr])?) => {
        // SAFETY: the context lives while the program runs, and the verifier checks the access.
        unsafe { addr_of!((*$ctx).$field $([$i])?).read_volatile() }
    };
}
macro_rules! write {
    ($ctx:expr, $field:ident $([$i:expr])?, $value:expr) => {
        // SAFETY: as for reading.
        unsafe { addr_of_mut!((*$ctx).$field $([$i])?).write_volatile($value) }
    };
}

/// Where the family's address is in the context.
trait Family {
    fn addr(ctx: *mut bpf_sock_addr) -> Addr;
    fn set_addr(ctx: *mut bpf_sock_addr, addr: &Addr);
}

struct V4;
struct V6;

impl Family for V4 {
    #[inline(always)]
    fn addr(ctx: *mut bpf_sock_addr) -> Addr {
        Addr::v4_be(read!(ctx, user_ip4))
    }
    #[inline(always)]
    fn set_addr(ctx: *mut bpf_sock_addr, addr: &Addr) {
        write!(ctx, user_ip4, addr.v4_word_be());
    }
}

impl Family for V6 {
    #[inline(always)]
    fn addr(ctx: *mut bpf_sock_addr) -> Addr {
        Addr {
            words: [read!(ctx, user_ip6[0]), read!(ctx, user_ip6[1]), read!(ctx, user_ip6[2]), read!(ctx, user_ip6[3])],
        }
    }
    #[inline(always)]
    fn set_addr(ctx: *mut bpf_sock_addr, addr: &Addr) {
        write!(ctx, user_ip6[0], addr.words[0]);
        write!(ctx, user_ip6[1], addr.words[1]);
        write!(ctx, user_ip6[2], addr.words[2]);
        write!(ctx, user_ip6[3], addr.words[3]);
    }
}

/// The port, network byte order: the low half of the word.
#[inline(always)]
fn port_be(ctx: *mut bpf_sock_addr) -> u16 {
    (read!(ctx, user_port) & 0xffff) as u16
}

#[inline(always)]
fn translate_outbound<F: Family>(context: &SockAddrContext, sticky: bool) -> i32 {
    let ctx = context.sock_addr;
    let protocol = read!(ctx, protocol);
    if protocol != u32::from(TCP) && protocol != u32::from(UDP) {
        return PROCEED;
    }
    let addr = F::addr(ctx);
    // SAFETY: the context of this very call.
    let (cookie, netns) = unsafe { (bpf_get_socket_cookie(raw(context)), bpf_get_netns_cookie(raw(context))) };
    let socket = Socket { cookie, netns, proto: protocol as u8 };
    match outbound(&Kernel, &socket, &addr, port_be(ctx), sticky) {
        Verdict::Pass => PROCEED,
        Verdict::Translate(endpoint) => {
            F::set_addr(ctx, &endpoint.addr);
            write!(ctx, user_port, u32::from(endpoint.port_be));
            PROCEED
        }
        Verdict::Refuse => {
            set_retval(-ECONNREFUSED);
            FAIL
        }
        Verdict::Deny => FAIL,
    }
}

#[inline(always)]
fn translate_inbound<F: Family>(context: &SockAddrContext) -> i32 {
    let ctx = context.sock_addr;
    let addr = F::addr(ctx);
    // SAFETY: the context of this very call.
    let cookie = unsafe { bpf_get_socket_cookie(raw(context)) };
    if let Some(asked) = inbound(&Kernel, cookie, &addr, port_be(ctx)) {
        F::set_addr(ctx, &asked.addr);
        write!(ctx, user_port, u32::from(asked.port_be));
    }
    PROCEED
}

#[cgroup_sock_addr(connect4)]
pub fn orlop_connect4(ctx: SockAddrContext) -> i32 {
    translate_outbound::<V4>(&ctx, false)
}

#[cgroup_sock_addr(connect6)]
pub fn orlop_connect6(ctx: SockAddrContext) -> i32 {
    translate_outbound::<V6>(&ctx, false)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn orlop_sendmsg4(ctx: SockAddrContext) -> i32 {
    translate_outbound::<V4>(&ctx, true)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn orlop_sendmsg6(ctx: SockAddrContext) -> i32 {
    translate_outbound::<V6>(&ctx, true)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn orlop_recvmsg4(ctx: SockAddrContext) -> i32 {
    translate_inbound::<V4>(&ctx)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn orlop_recvmsg6(ctx: SockAddrContext) -> i32 {
    translate_inbound::<V6>(&ctx)
}

#[cgroup_sock_addr(getpeername4)]
pub fn orlop_peername4(ctx: SockAddrContext) -> i32 {
    translate_inbound::<V4>(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
pub fn orlop_peername6(ctx: SockAddrContext) -> i32 {
    translate_inbound::<V6>(&ctx)
}
