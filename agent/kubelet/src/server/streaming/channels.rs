//! `v5.channel.k8s.io` of a client, translated to the runtime's SPDY streams.
//!
//! ```text
//! client                                  kubelet                                runtime (SPDY, v4.channel.k8s.io)
//! [0 stdin | 4 resize | 255 close]  ─► inbound ──────► Outbound queue ─► writing ─► streams stdin, resize
//! [1 stdout | 2 stderr]             ◄─────────────── outbound ◄──────────────────── streams stdout, stderr
//! [3 status], close 1000            ◄─ finish ◄─ Outcome ◄─┘                        stream  error
//! ```
//! The four parts run in one task; the first that ends decides. Older subprotocols are not translated: the runtime's
//! streaming server speaks them itself.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_util::sync::CancellationToken;

use super::super::pods::StreamRequest;
use super::dial::ANSWER_LIMIT;
use super::spdy::{Frame, FrameReader, Gone, Outbound, SpdyError, data, syn_stream};
use super::websocket::{Activity, IDLE_LIMIT, close};

/// The subprotocol of clients, and that of the runtime.
pub(super) const CHANNELS: &str = "v5.channel.k8s.io";
pub(super) const STREAMS: &str = "v4.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// The runtime's `Status`, at most.
const MAX_STATUS_BYTES: usize = 64 * 1024;

/// Which streams there are; the runtime waits for exactly these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl From<&StreamRequest> for Wanted {
    fn from(request: &StreamRequest) -> Self {
        Self { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.tty }
    }
}

impl Wanted {
    fn channels(self) -> impl Iterator<Item = u8> {
        let all =
            [(ERROR, true), (STDIN, self.stdin), (STDOUT, self.stdout), (STDERR, self.stderr), (RESIZE, self.tty)];
        all.into_iter().filter_map(|(channel, there)| there.then_some(channel))
    }

    /// Where an empty message tells the client that everything stands.
    fn first_output(self) -> u8 {
        match (self.stdout, self.stderr) {
            (true, _) => STDOUT,
            (false, true) => STDERR,
            (false, false) => ERROR,
        }
    }
}

/// A channel's stream: clients of SPDY count in odd numbers.
fn stream_of(channel: u8) -> u32 {
    u32::from(channel) * 2 + 1
}

fn name_of(channel: u8) -> &'static str {
    match channel {
        STDIN => "stdin",
        STDOUT => "stdout",
        STDERR => "stderr",
        RESIZE => "resize",
        _ => "error",
    }
}

/// How the runtime's side ended.
enum Outcome {
    /// The runtime's word about it, for the error channel.
    Ended(Bytes),
    /// No word; what went wrong instead.
    Failed(String),
    /// Nobody is there to be told.
    ClientGone,
}

/// Serves one client until the runtime's side or the client ends, or nothing passes for hours.
pub(super) async fn translate<S, R>(
    mut socket: WebSocketStream<S>,
    runtime: R,
    wanted: Wanted,
    shutdown: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let outcome = relay(&mut socket, runtime, wanted, shutdown).await;
    let status = match outcome {
        Outcome::Ended(status) => status,
        Outcome::Failed(message) => failure(&message),
        Outcome::ClientGone => return,
    };
    // A client that reads slowly gets its time; one that is gone is noticed by the write.
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(IDLE_LIMIT) => {}
        _ = socket.send(message(ERROR, &status)) => {}
    }
    close(&mut socket).await;
}

/// Returns with the runtime's connection closed, which ends the streams of whatever runs in the container.
async fn relay<S, R>(
    socket: &mut WebSocketStream<S>,
    runtime: R,
    wanted: Wanted,
    shutdown: &CancellationToken,
) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let (read, write) = tokio::io::split(runtime);
    let mut frames = FrameReader::new(read);
    let (queue, writing) = Outbound::new(write);
    let (mut sink, source) = socket.split();
    let activity = Activity::new();
    let inbound = async {
        if inbound(source, &queue, wanted, &activity).await == Err(Gone) {
            // The runtime closes its end; what it still has to say comes out of `frames`.
            std::future::pending::<()>().await;
        }
    };
    let outbound = async {
        match tokio::time::timeout(ANSWER_LIMIT, open_streams(&mut frames, &queue, wanted)).await {
            Ok(Ok(())) => {}
            Ok(Err(message)) => return Outcome::Failed(message),
            Err(_) => return Outcome::Failed("timed out waiting for the runtime's streams".to_owned()),
        }
        outbound(&mut frames, &queue, &mut sink, wanted, &activity).await
    };
    // A connection that cannot be written any more may still be read: its end decides, not the writer's.
    let writing = async {
        let _ = writing.await;
        std::future::pending::<Outcome>().await
    };
    tokio::select! {
        () = shutdown.cancelled() => Outcome::Failed("the kubelet shuts down".to_owned()),
        () = activity.idle() => Outcome::Failed("no data passed for too long".to_owned()),
        () = inbound => Outcome::ClientGone,
        outcome = writing => outcome,
        outcome = outbound => outcome,
    }
}

/// Opens the streams and waits until the runtime has taken each.
async fn open_streams<R: AsyncRead + Unpin>(
    frames: &mut FrameReader<R>,
    queue: &Outbound,
    wanted: Wanted,
) -> Result<(), String> {
    let mut waiting = Vec::new();
    let mut channels: Vec<u8> = wanted.channels().collect();
    // Numbers of streams must rise.
    channels.sort_unstable();
    for channel in channels {
        let frame = syn_stream(stream_of(channel), &[("streamtype", name_of(channel))], waiting.is_empty());
        queue.send(frame).await.map_err(|Gone| lost(None))?;
        waiting.push(stream_of(channel));
    }
    while !waiting.is_empty() {
        match frames.next().await.map_err(|e| lost(Some(e)))? {
            None => return Err(lost(None)),
            Some(Frame::SynReply { stream, .. }) => waiting.retain(|s| *s != stream),
            Some(Frame::Ping { id }) => queue.pong(id),
            Some(Frame::GoAway | Frame::Other { .. }) => {}
            Some(Frame::RstStream { stream, status }) => {
                return Err(format!("the runtime refused stream {stream} with status {status}"));
            }
            Some(Frame::Data { .. }) => return Err("the runtime sent data before it took all streams".to_owned()),
        }
    }
    Ok(())
}

fn lost(error: Option<SpdyError>) -> String {
    match error {
        Some(error) => format!("lost the connection to the container runtime: {error}"),
        None => "lost the connection to the container runtime".to_owned(),
    }
}

/// The client's messages, until it closes or is gone.
async fn inbound<M>(mut source: M, queue: &Outbound, wanted: Wanted, activity: &Activity) -> Result<(), Gone>
where
    M: Stream<Item = Result<Message, SocketError>> + Unpin,
{
    let mut stdin_open = wanted.stdin;
    while let Some(Ok(message)) = source.next().await {
        let mut payload: Bytes = match message {
            Message::Binary(payload) => payload,
            Message::Text(text) => text.into(),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            Message::Close(_) => break,
        };
        activity.mark();
        if payload.is_empty() {
            continue;
        }
        let channel = payload.split_to(1)[0];
        match channel {
            STDIN if stdin_open => queue.send_data(stream_of(STDIN), payload).await?,
            RESIZE if wanted.tty => queue.send_data(stream_of(RESIZE), payload).await?,
            CLOSE if payload[..] == [STDIN] && stdin_open => {
                stdin_open = false;
                queue.send(data(stream_of(STDIN), &[], true)).await?;
            }
            // Not a channel to write to: upstream logs it and goes on.
            _ => tracing::debug!(channel, "a message for a channel that is not open"),
        }
    }
    Ok(())
}

/// The runtime's frames, until the outputs and the error stream have ended.
async fn outbound<R, K>(
    frames: &mut FrameReader<R>,
    queue: &Outbound,
    sink: &mut K,
    wanted: Wanted,
    activity: &Activity,
) -> Outcome
where
    R: AsyncRead + Unpin,
    K: Sink<Message, Error = SocketError> + Unpin,
{
    if sink.send(message(wanted.first_output(), &[])).await.is_err() {
        return Outcome::ClientGone;
    }
    let mut open: Vec<u32> =
        wanted.channels().filter(|c| matches!(*c, STDOUT | STDERR | ERROR)).map(stream_of).collect();
    let mut status = BytesMut::new();
    // Whether the error stream was closed, as opposed to lost.
    let mut concluded = false;
    while !open.is_empty() {
        let (stream, fin) = match frames.next().await {
            Ok(Some(Frame::Data { stream, payload, fin })) => {
                activity.mark();
                if stream == stream_of(ERROR) {
                    if status.len() + payload.len() > MAX_STATUS_BYTES {
                        return Outcome::Failed("the runtime's status is too long".to_owned());
                    }
                    status.put_slice(&payload);
                    concluded |= fin;
                } else if !payload.is_empty() && open.contains(&stream) {
                    let channel = if stream == stream_of(STDOUT) { STDOUT } else { STDERR };
                    if sink.send(message(channel, &payload)).await.is_err() {
                        return Outcome::ClientGone;
                    }
                }
                (stream, fin)
            }
            Ok(Some(Frame::RstStream { stream, .. })) => (stream, true),
            Ok(Some(Frame::SynReply { stream, fin })) => (stream, fin),
            Ok(Some(Frame::Ping { id })) => {
                queue.pong(id);
                continue;
            }
            Ok(Some(Frame::GoAway | Frame::Other { .. })) => continue,
            Ok(None) => break,
            // A reset after the last word takes nothing from it.
            Err(_) if !status.is_empty() => break,
            Err(error) => return Outcome::Failed(lost(Some(error))),
        };
        if fin {
            open.retain(|s| *s != stream);
        }
    }
    match (status.is_empty(), concluded) {
        (false, _) => Outcome::Ended(status.freeze()),
        (true, true) => Outcome::Ended(json!({ "metadata": {}, "status": "Success" }).to_string().into()),
        (true, false) => Outcome::Failed(lost(None)),
    }
}

fn message(channel: u8, payload: &[u8]) -> Message {
    let mut out = BytesMut::with_capacity(1 + payload.len());
    out.put_u8(channel);
    out.put_slice(payload);
    Message::Binary(out.freeze())
}

/// A `Status` as the API server's internal errors look.
fn failure(message: &str) -> Bytes {
    let status = json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": { "causes": [{ "message": message }] },
        "code": 500,
    });
    status.to_string().into()
}

#[cfg(test)]
mod tests;
