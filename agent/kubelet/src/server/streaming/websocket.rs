//! The WebSocket handshake with a client, and what both kinds of sockets (channels, tunnel) share.

use std::sync::Mutex;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::super::route::{Body, full};

/// One message of a client; upstream's limit (`DefaultMaxPayloadBytes`).
const MAX_MESSAGE_BYTES: usize = 32 << 20;
/// What may wait to be written to a client: a message and pongs.
const MAX_WRITE_BUFFER_BYTES: usize = 1 << 20;
/// A stream without data for so long is ended (upstream's `streamingConnectionIdleTimeout`).
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(4 * 3600);
/// The client's answer to our close.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// True if the client asks for a WebSocket and offers `protocol`.
pub(super) fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, "websocket")
        && tokens(headers, &SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == protocol)
}

fn has_token(headers: &HeaderMap, name: &http::HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|t| t.eq_ignore_ascii_case(token))
}

fn tokens<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> impl Iterator<Item = &'h str> {
    headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim)
}

/// The answer that accepts `request`, with `protocol` chosen.
pub(super) fn accept(
    request: &Request<Incoming>,
    protocol: &'static str,
) -> Result<Response<Body>, (StatusCode, String)> {
    let key =
        accept_key(request.method(), request.headers()).map_err(|why| (StatusCode::BAD_REQUEST, why.to_owned()))?;
    let mut response = Response::new(full(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    Ok(response)
}

fn accept_key(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, &'static str> {
    if *method != Method::GET {
        return Err("a WebSocket begins with GET");
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err("unsupported WebSocket version: not 13");
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or("missing Sec-WebSocket-Key")?;
    derive_accept_key(key.as_bytes()).parse().map_err(|_| "bad Sec-WebSocket-Key")
}

/// Our end of an upgraded connection.
pub(super) async fn server_side<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .read_buffer_size(64 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

/// Says goodbye and waits shortly for the client's; then the connection is dropped.
pub(super) async fn close<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) {
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let closing = async {
        if socket.send(Message::Close(Some(goodbye))).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = tokio::time::timeout(CLOSE_LIMIT, closing).await;
}

/// When data last passed.
pub(super) struct Activity(Mutex<Instant>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(super) fn mark(&self) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
    }

    /// Returns once nothing has passed for [`IDLE_LIMIT`].
    pub(super) async fn idle(&self) {
        loop {
            let until = *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) + IDLE_LIMIT;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_is_offered() {
        let protocol = ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io");
        let both = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), protocol];
        for (pairs, wanted, want) in [
            (&both[..], "v5.channel.k8s.io", true),
            (&both[..], "v3.channel.k8s.io", false),
            (&both[1..], "v5.channel.k8s.io", false),
            (&[both[0], ("upgrade", "SPDY/3.1"), protocol][..], "v5.channel.k8s.io", false),
            (&both[..2], "v5.channel.k8s.io", false),
        ] {
            assert_eq!(offers(&headers(pairs), wanted), want, "{pairs:?}");
        }
    }

    #[test]
    fn the_handshake_is_rfc_6455s() {
        let good = headers(&[("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]);
        assert_eq!(accept_key(&Method::GET, &good).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accept_key(&Method::POST, &good).is_err());
        assert!(accept_key(&Method::GET, &headers(&[("sec-websocket-version", "13")])).is_err());
        assert!(accept_key(&Method::GET, &headers(&[("sec-websocket-version", "8")])).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_is_counted_from_the_last_data() {
        let activity = Activity::new();
        let begin = Instant::now();
        tokio::join!(activity.idle(), async {
            tokio::time::sleep(IDLE_LIMIT / 2).await;
            activity.mark();
        });
        assert_eq!(begin.elapsed().as_secs(), IDLE_LIMIT.as_secs() * 3 / 2);
    }
}
