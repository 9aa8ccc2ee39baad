//! Bytes to SPDY/3 frames, with bounded memory: a data frame of 16 MiB comes out in pieces.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::frame::{CONTROL, FLAG_FIN, GOAWAY, PING, RST_STREAM, SYN_REPLY, VERSION};
use super::{PIECE, SpdyError};

/// A control frame; header blocks of answers are a few bytes.
const MAX_CONTROL: usize = 64 * 1024;
const HEAD: usize = 8;

/// What a server sends, as far as it matters to a client that opened all streams itself.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Frame {
    /// A piece of a data frame; `fin` comes with the last piece.
    Data {
        stream: u32,
        payload: Bytes,
        fin: bool,
    },
    /// Its headers say nothing and are not unpacked.
    SynReply {
        stream: u32,
        fin: bool,
    },
    RstStream {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// SETTINGS, WINDOW_UPDATE, HEADERS, a stream of the server's: read and left alone.
    Other {
        kind: u16,
    },
}

/// Reads frames; dropping a pending `next` loses nothing.
pub(in super::super) struct FrameReader<R> {
    source: R,
    buffer: BytesMut,
    /// The data frame that is being read: its stream, what is left of it, and whether it ends the stream.
    open: Option<(u32, usize, bool)>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(in super::super) fn new(source: R) -> Self {
        Self { source, buffer: BytesMut::with_capacity(PIECE), open: None }
    }

    /// The next frame, or none at the end of the connection.
    pub(in super::super) async fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(PIECE);
            // Reserving rounds up; the limit keeps one read to a piece.
            let mut limited = (&mut self.source).take(u64::try_from(PIECE).unwrap_or(u64::MAX));
            if limited.read_buf(&mut self.buffer).await? == 0 {
                let inside = self.open.is_some() || !self.buffer.is_empty();
                return if inside { Err(SpdyError::Truncated) } else { Ok(None) };
            }
        }
    }

    /// A frame, or a piece of one, out of what was read.
    fn take(&mut self) -> Result<Option<Frame>, SpdyError> {
        if let Some((stream, left, fin)) = self.open {
            return Ok(self.piece(stream, left, fin));
        }
        let Some(head) = self.buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let [a, b, c, d, flags, l1, l2, l3] = *head;
        let first = u16::from_be_bytes([a, b]);
        let length = usize::try_from(u32::from_be_bytes([0, l1, l2, l3])).unwrap_or(usize::MAX);
        let fin = flags & FLAG_FIN != 0;
        if first & CONTROL == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            self.buffer.advance(HEAD);
            if length == 0 {
                return Ok(Some(Frame::Data { stream, payload: Bytes::new(), fin }));
            }
            self.open = Some((stream, length, fin));
            return Ok(self.piece(stream, length, fin));
        }
        let version = first & !CONTROL;
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(SpdyError::TooLong(length));
        }
        if self.buffer.len() < HEAD + length {
            return Ok(None);
        }
        let mut payload = self.buffer.split_to(HEAD + length).freeze();
        payload.advance(HEAD);
        let kind = u16::from_be_bytes([c, d]);
        control(kind, fin, payload).map(Some)
    }

    fn piece(&mut self, stream: u32, left: usize, fin: bool) -> Option<Frame> {
        let size = left.min(self.buffer.len());
        if size == 0 {
            return None;
        }
        let payload = self.buffer.split_to(size).freeze();
        let left = left - size;
        self.open = (left > 0).then_some((stream, left, fin));
        Some(Frame::Data { stream, payload, fin: fin && left == 0 })
    }
}

fn control(kind: u16, fin: bool, mut payload: Bytes) -> Result<Frame, SpdyError> {
    let mut word = || payload.try_get_u32().map_err(|_| SpdyError::TooShort(kind));
    Ok(match kind {
        SYN_REPLY => Frame::SynReply { stream: word()? & 0x7fff_ffff, fin },
        RST_STREAM => Frame::RstStream { stream: word()? & 0x7fff_ffff, status: word()? },
        PING => Frame::Ping { id: word()? },
        GOAWAY => Frame::GoAway,
        kind => Frame::Other { kind },
    })
}
