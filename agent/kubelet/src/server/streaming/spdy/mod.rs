//! SPDY/3.1 as far as a client of a runtime's streaming server needs it: frames in and out, nothing of HTTP.
//!
//! ```text
//! FrameReader: bytes ─► Frame (data in pieces, header blocks skipped)      frame.rs: frames ─► bytes
//! Outbound:    frames ─► bounded queue ─► one task that writes
//! ```
//! The servers of the Kubernetes world (moby/spdystream) neither send WINDOW_UPDATE nor heed it: back-pressure is TCP's,
//! and so it is here. Both ends read no faster than they can write on, and every buffer has a bound.

mod frame;
mod reader;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

pub(super) use frame::{data, syn_stream};
pub(super) use reader::{Frame, FrameReader};

/// Payload of one data frame that is sent, at most; also the size of a piece that is received.
pub(super) const PIECE: usize = 32 * 1024;
/// Frames that wait to be written.
const QUEUE: usize = 4;

/// Why a SPDY connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpdyError {
    #[error("SPDY connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("SPDY connection ended inside a frame")]
    Truncated,
    #[error("not SPDY/3: version {0}")]
    Version(u16),
    #[error("SPDY control frame of {0} bytes is longer than allowed")]
    TooLong(usize),
    #[error("SPDY control frame of type {0} is too short")]
    TooShort(u16),
}

/// Where frames go; cheap to clone, and the writing ends with the last clone.
#[derive(Clone)]
pub(super) struct Outbound {
    queue: mpsc::Sender<Bytes>,
}

/// The peer does not take frames any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Outbound {
    /// The queue, and the future that writes it out; the future ends when the last `Outbound` does, or on an error.
    pub(super) fn new<W>(mut writer: W) -> (Self, impl Future<Output = std::io::Result<()>>)
    where
        W: AsyncWrite + Unpin,
    {
        let (queue, mut frames) = mpsc::channel::<Bytes>(QUEUE);
        let writing = async move {
            while let Some(frame) = frames.recv().await {
                writer.write_all(&frame).await?;
                if frames.is_empty() {
                    writer.flush().await?;
                }
            }
            writer.shutdown().await
        };
        (Self { queue }, writing)
    }

    /// Waits for room.
    pub(super) async fn send(&self, frame: Bytes) -> Result<(), Gone> {
        self.queue.send(frame).await.map_err(|_| Gone)
    }

    /// Sends all of `payload` in frames of bounded size.
    pub(super) async fn send_data(&self, stream: u32, mut payload: Bytes) -> Result<(), Gone> {
        while !payload.is_empty() {
            let piece = payload.split_to(payload.len().min(PIECE));
            self.send(data(stream, &piece, false)).await?;
        }
        Ok(())
    }

    /// Answers a ping, unless the queue is full: whoever reads must not wait for whoever writes.
    pub(super) fn pong(&self, id: u32) {
        let _ = self.queue.try_send(frame::ping(id));
    }
}

#[cfg(test)]
mod tests;
