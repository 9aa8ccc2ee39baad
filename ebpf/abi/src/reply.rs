//! The refusal of a packet, byte by byte: a TCP reset, or ICMP port unreachable.

use crate::addr::Addr;
use crate::packet::{Flow, TCP_ACK, TCP_RST, TCP_SYN};

/// Length of an IPv4 header without options, and of a TCP header without them.
pub const SHORT_HEADER: usize = 20;
/// Length of an IPv6 header.
pub const V6_HEADER: usize = 40;
/// ICMP header, quoted IPv4 header, quoted ports.
pub const ICMP_V4: usize = 8 + SHORT_HEADER + 8;
/// ICMPv6 header, quoted IPv6 header, quoted ports.
pub const ICMP_V6: usize = 8 + V6_HEADER + 8;

const ICMP_PROTO: u8 = 1;
const ICMP_V6_PROTO: u8 = 58;
const HOP_LIMIT: u8 = 64;

/// The ones'-complement sum of big-endian words, not yet folded.
#[inline(always)]
pub fn sum<const N: usize>(bytes: &[u8; N]) -> u32 {
    let mut total = 0;
    let mut at = 0;
    while at + 1 < N {
        total += u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        at += 2;
    }
    total
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "folded to 16 bits before")]
fn fold(mut total: u32) -> [u8; 2] {
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    (!(total as u16)).to_be_bytes()
}

/// The pseudo header's sum; IPv4 counts the one address word.
#[inline(always)]
fn pseudo(src: &Addr, dst: &Addr, proto: u8, length: u32) -> u32 {
    let mut total = u32::from(proto) + length;
    let mut word = if src.is_v4() { 3 } else { 0 };
    while word < 4 {
        for address in [src.words[word], dst.words[word]] {
            let bytes = address.to_ne_bytes();
            total += u32::from(u16::from_be_bytes([bytes[0], bytes[1]]));
            total += u32::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        }
        word += 1;
    }
    total
}

/// An IPv4 header from the flow's destination to its source.
#[inline(always)]
pub fn v4_header(flow: &Flow, proto: u8, payload: u16) -> [u8; SHORT_HEADER] {
    let (src, dst) = (flow.dst.v4_word_be().to_ne_bytes(), flow.src.v4_word_be().to_ne_bytes());
    let length = (payload + 20).to_be_bytes();
    let mut header = [
        0x45, 0, length[0], length[1], 0, 0, 0x40, 0, HOP_LIMIT, proto, 0, 0, src[0], src[1], src[2], src[3], dst[0],
        dst[1], dst[2], dst[3],
    ];
    let checksum = fold(sum(&header));
    header[10] = checksum[0];
    header[11] = checksum[1];
    header
}

/// An IPv6 header from the flow's destination to its source.
#[inline(always)]
pub fn v6_header(flow: &Flow, proto: u8, payload: u16) -> [u8; V6_HEADER] {
    let mut header = [0; V6_HEADER];
    header[0] = 0x60;
    [header[4], header[5]] = payload.to_be_bytes();
    header[6] = proto;
    header[7] = HOP_LIMIT;
    let mut word = 0;
    while word < 4 {
        let (src, dst) = (flow.dst.words[word].to_ne_bytes(), flow.src.words[word].to_ne_bytes());
        let at = word * 4;
        [header[8 + at], header[9 + at], header[10 + at], header[11 + at]] = src;
        [header[24 + at], header[25 + at], header[26 + at], header[27 + at]] = dst;
        word += 1;
    }
    header
}

/// The TCP reset that answers a segment with this header (RFC 9293, 3.10.7.1). `segment` is the length
/// of its data. A reset is never answered.
#[inline(always)]
pub fn reset(flow: &Flow, header: &[u8; SHORT_HEADER], segment: u32) -> Option<[u8; SHORT_HEADER]> {
    if flow.tcp_flags & TCP_RST != 0 {
        return None;
    }
    let (sport, dport) = (flow.dport_be.to_ne_bytes(), flow.sport_be.to_ne_bytes());
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let (seq, ack, flags) = if flow.tcp_flags & TCP_ACK != 0 {
        ([header[8], header[9], header[10], header[11]], [0; 4], TCP_RST)
    } else {
        let syn = u32::from(flow.tcp_flags & TCP_SYN != 0);
        ([0; 4], sequence.wrapping_add(segment).wrapping_add(syn).to_be_bytes(), TCP_RST | TCP_ACK)
    };
    let mut answer = [
        sport[0], sport[1], dport[0], dport[1], seq[0], seq[1], seq[2], seq[3], ack[0], ack[1], ack[2], ack[3], 0x50,
        flags, 0, 0, 0, 0, 0, 0,
    ];
    let checksum = fold(sum(&answer) + pseudo(&flow.dst, &flow.src, flow.proto, 20));
    answer[16] = checksum[0];
    answer[17] = checksum[1];
    Some(answer)
}

/// Completes an ICMP "port unreachable" whose quote of the packet is in place from byte 8 on.
///
/// `sum` is [`sum`], or in the kernel its helper: summed here, the message would take all of the stack.
#[inline(always)]
pub fn port_unreachable_v4(message: &mut [u8; ICMP_V4], sum: impl Fn(&[u8; ICMP_V4]) -> u32) {
    message[0] = 3;
    message[1] = 3;
    let checksum = fold(sum(message));
    message[2] = checksum[0];
    message[3] = checksum[1];
}

/// Completes an ICMPv6 "port unreachable" whose quote of the packet is in place from byte 8 on.
#[inline(always)]
pub fn port_unreachable_v6(flow: &Flow, message: &mut [u8; ICMP_V6], sum: impl Fn(&[u8; ICMP_V6]) -> u32) {
    message[0] = 1;
    message[1] = 4;
    #[allow(clippy::cast_possible_truncation, reason = "56")]
    let length = ICMP_V6 as u32;
    let checksum = fold(sum(message) + pseudo(&flow.dst, &flow.src, ICMP_V6_PROTO, length));
    message[2] = checksum[0];
    message[3] = checksum[1];
}

/// Protocol number of the unreachable message.
#[inline(always)]
pub const fn icmp_proto(v4: bool) -> u8 {
    if v4 { ICMP_PROTO } else { ICMP_V6_PROTO }
}
