//! Headers of a packet from outside: as much as a service needs.

use crate::addr::Addr;

/// Transport protocols that services know.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;

/// Ethertypes, host byte order.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

pub const TCP_FIN: u8 = 1;
pub const TCP_SYN: u8 = 1 << 1;
pub const TCP_RST: u8 = 1 << 2;
pub const TCP_ACK: u8 = 1 << 4;

/// Bytes of a packet, at offsets from its start.
pub trait Bytes {
    /// `N` bytes at `offset`, or `None` past the end.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
}

/// The transport flow of one packet, and where its headers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    pub src: Addr,
    pub dst: Addr,
    pub sport_be: u16,
    pub dport_be: u16,
    pub proto: u8,
    /// 0 for anything but TCP.
    pub tcp_flags: u8,
    /// Offset of the IP header.
    pub l3: u32,
    /// Offset of the transport header.
    pub l4: u32,
}

/// Extension headers that are walked before a packet is left alone.
const MAX_EXTENSIONS: usize = 4;

/// Reads the flow of a packet whose IP header starts at `l3`.
///
/// `None` for what services don't handle: other protocols, broken headers, and fragments, whose
/// later parts carry no ports.
#[inline(always)]
pub fn parse<B: Bytes>(bytes: &B, ethertype: u16, l3: u32) -> Option<Flow> {
    let (src, dst, proto, l4) = match ethertype {
        ETHERTYPE_IPV4 => parse_v4(bytes, l3)?,
        ETHERTYPE_IPV6 => parse_v6(bytes, l3)?,
        _ => return None,
    };
    if proto != TCP && proto != UDP {
        return None;
    }
    let ports: [u8; 4] = bytes.load(l4)?;
    let tcp_flags = if proto == TCP { bytes.load::<1>(l4 + 13)?[0] } else { 0 };
    Some(Flow {
        src,
        dst,
        sport_be: u16::from_ne_bytes([ports[0], ports[1]]),
        dport_be: u16::from_ne_bytes([ports[2], ports[3]]),
        proto,
        tcp_flags,
        l3,
        l4,
    })
}

#[inline(always)]
fn parse_v4<B: Bytes>(bytes: &B, l3: u32) -> Option<(Addr, Addr, u8, u32)> {
    let header: [u8; 20] = bytes.load(l3)?;
    let header_len = u32::from(header[0] & 0x0f) * 4;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if header[0] >> 4 != 4 || header_len < 20 || fragment != 0 {
        return None;
    }
    let src = Addr::v4_be(u32::from_ne_bytes([header[12], header[13], header[14], header[15]]));
    let dst = Addr::v4_be(u32::from_ne_bytes([header[16], header[17], header[18], header[19]]));
    Some((src, dst, header[9], l3 + header_len))
}

#[inline(always)]
fn parse_v6<B: Bytes>(bytes: &B, l3: u32) -> Option<(Addr, Addr, u8, u32)> {
    let header: [u8; 8] = bytes.load(l3)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let src = load_v6(bytes, l3 + 8)?;
    let dst = load_v6(bytes, l3 + 24)?;
    let mut next = header[6];
    let mut l4 = l3 + 40;
    for _ in 0..MAX_EXTENSIONS {
        // Hop-by-hop, routing and destination options; a fragment header (44) ends the walk below.
        if next != 0 && next != 43 && next != 60 {
            break;
        }
        let extension: [u8; 2] = bytes.load(l4)?;
        next = extension[0];
        l4 += (u32::from(extension[1]) + 1) * 8;
    }
    Some((src, dst, next, l4))
}

#[inline(always)]
fn load_v6<B: Bytes>(bytes: &B, offset: u32) -> Option<Addr> {
    let raw: [u8; 16] = bytes.load(offset)?;
    let word = |i: usize| u32::from_ne_bytes([raw[i], raw[i + 1], raw[i + 2], raw[i + 3]]);
    Some(Addr { words: [word(0), word(4), word(8), word(12)] })
}
