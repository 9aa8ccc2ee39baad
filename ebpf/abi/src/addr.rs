//! One address form for both families.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv6 address, or an IPv4 one as `::ffff:a.b.c.d`; the words hold network byte order in memory.
///
/// One form means one map for both families, and a socket of an IPv6 family that connects to a
/// v4-mapped address finds the same entry as an IPv4 socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr {
    /// Four words, network byte order.
    pub words: [u32; 4],
}

const MAPPED: u32 = 0xffff_u32.to_be();

impl Addr {
    /// `::`, which also stands for "any IPv6 node address" in NodePort keys.
    pub const ANY_V6: Self = Self { words: [0; 4] };
    /// `0.0.0.0`, which also stands for "any IPv4 node address" in NodePort keys.
    pub const ANY_V4: Self = Self::v4_be(0);

    /// From an IPv4 address in network byte order.
    #[inline(always)]
    pub const fn v4_be(address_be: u32) -> Self {
        Self { words: [0, 0, MAPPED, address_be] }
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// The IPv4 address in network byte order; meaningful only where [`Addr::is_v4`].
    #[inline(always)]
    pub const fn v4_word_be(&self) -> u32 {
        self.words[3]
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        let octets = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(octets.chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Self { words }
    }
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> Self {
        let mut octets = [0; 16];
        for (bytes, word) in octets.chunks_exact_mut(4).zip(addr.words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        if addr.is_v4() {
            Self::V4(Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]))
        } else {
            Self::V6(Ipv6Addr::from(octets))
        }
    }
}
