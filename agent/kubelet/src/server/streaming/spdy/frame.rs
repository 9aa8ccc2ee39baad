//! SPDY/3 frames to bytes.
//!
//! ```text
//! control: 1|version=3|type(16) flags(8)|length(24) …      data: 0|stream(31) flags(8)|length(24) payload
//! ```

use bytes::{BufMut, Bytes, BytesMut};

pub(super) const VERSION: u16 = 3;
pub(super) const CONTROL: u16 = 0x8000;
pub(super) const FLAG_FIN: u8 = 1;

/// Types of control frames.
pub(super) const SYN_STREAM: u16 = 1;
pub(super) const SYN_REPLY: u16 = 2;
pub(super) const RST_STREAM: u16 = 3;
pub(super) const PING: u16 = 6;
pub(super) const GOAWAY: u16 = 7;

/// Begins the zlib stream of a connection's header blocks: deflate, and the checksum that names SPDY/3's dictionary.
const ZLIB_START: [u8; 6] = [0x78, 0x20, 0xe3, 0xc6, 0xa7, 0xc2];
/// An empty stored block: a reader hands out what came before.
const ZLIB_FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];

fn control(kind: u16, flags: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + payload.len());
    out.put_u16(CONTROL | VERSION);
    out.put_u16(kind);
    out.put_u8(flags);
    put_length(&mut out, payload.len());
    out.put_slice(payload);
    out.freeze()
}

fn put_length(out: &mut BytesMut, length: usize) {
    // Callers send pieces far below 2^24.
    let length = u32::try_from(length).unwrap_or(u32::MAX).min(0x00ff_ffff);
    out.put_slice(&length.to_be_bytes()[1..]);
}

/// Opens `stream` with `headers`; names must be lower-case. `first` is true for a connection's first header block.
pub(in super::super) fn syn_stream(stream: u32, headers: &[(&str, &str)], first: bool) -> Bytes {
    let mut payload = Vec::with_capacity(128);
    payload.put_u32(stream & 0x7fff_ffff);
    payload.put_u32(0); // associated with no stream
    payload.put_u16(0); // highest priority, no credential slot
    if first {
        payload.put_slice(&ZLIB_START);
    }
    stored_blocks(&header_block(headers), &mut payload);
    control(SYN_STREAM, 0, &payload)
}

/// One data frame; an empty one with `fin` closes our half of the stream.
pub(in super::super) fn data(stream: u32, payload: &[u8], fin: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + payload.len());
    out.put_u32(stream & 0x7fff_ffff);
    out.put_u8(if fin { FLAG_FIN } else { 0 });
    put_length(&mut out, payload.len());
    out.put_slice(payload);
    out.freeze()
}

pub(super) fn ping(id: u32) -> Bytes {
    control(PING, 0, &id.to_be_bytes())
}

fn header_block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::with_capacity(64);
    put_count(&mut block, headers.len());
    for (name, value) in headers {
        for text in [name, value] {
            put_count(&mut block, text.len());
            block.put_slice(text.as_bytes());
        }
    }
    block
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}

/// Deflate without compression: a handful of headers of 30 bytes are not worth a compressor's state, and any reader of
/// zlib takes stored blocks.
fn stored_blocks(bytes: &[u8], out: &mut Vec<u8>) {
    for piece in bytes.chunks(usize::from(u16::MAX)) {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        out.put_u8(0);
        out.put_u16_le(length);
        out.put_u16_le(!length);
        out.put_slice(piece);
    }
    out.put_slice(&ZLIB_FLUSH);
}
