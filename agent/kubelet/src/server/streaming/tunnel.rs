//! `SPDY/3.1+portforward.k8s.io`: SPDY's bytes inside binary WebSocket messages, unwrapped here for the runtime.

use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::websocket::{Activity, close};

/// The WebSocket subprotocol, and what is spoken inside.
pub(super) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
pub(super) const INNER: &str = "portforward.k8s.io";
/// One message to the client.
const PIECE: usize = 32 * 1024;

/// Carries bytes both ways until either side ends, or nothing passes for hours.
pub(super) async fn carry<S, R>(mut socket: WebSocketStream<S>, runtime: R, shutdown: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Activity::new();
    let (mut read, mut write) = tokio::io::split(runtime);
    {
        let (mut sink, mut source) = (&mut socket).split();
        let inbound = async {
            while let Some(Ok(message)) = source.next().await {
                let payload = match message {
                    Message::Binary(payload) => payload,
                    Message::Ping(_) | Message::Pong(_) => continue,
                    // Text is no part of this protocol.
                    _ => break,
                };
                activity.mark();
                if write.write_all(&payload).await.is_err() || write.flush().await.is_err() {
                    break;
                }
            }
        };
        let outbound = async {
            loop {
                let mut piece = BytesMut::with_capacity(PIECE);
                match read.read_buf(&mut piece).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => activity.mark(),
                }
                if sink.send(Message::Binary(piece.freeze())).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = activity.idle() => {}
            () = inbound => {}
            () = outbound => {}
        }
    }
    close(&mut socket).await;
}

#[cfg(test)]
mod tests {
    use super::super::websocket::server_side;
    use super::*;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[tokio::test]
    async fn bytes_pass_both_ways_and_the_runtimes_end_closes() {
        let (client, near) = tokio::io::duplex(4096);
        let (runtime, mut far) = tokio::io::duplex(4096);
        let carried =
            tokio::spawn(async move { carry(server_side(near).await, runtime, &CancellationToken::new()).await });
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        client.send(Message::Ping("x".into())).await.unwrap();
        let sent: Vec<u8> = (0..100_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut got = vec![0; sent.len()];
        let (written, read) = tokio::join!(client.send(Message::Binary(sent.clone().into())), far.read_exact(&mut got));
        written.unwrap();
        read.unwrap();
        assert!(got == sent);
        let answering = tokio::spawn(async move { far.write_all(&got).await });
        let (mut back, mut pongs) = (Vec::new(), 0);
        loop {
            match client.next().await.unwrap().unwrap() {
                Message::Binary(piece) => back.extend_from_slice(&piece),
                Message::Pong(_) => pongs += 1,
                Message::Close(frame) => break assert_eq!(u16::from(frame.unwrap().code), 1000),
                other => panic!("{other:?}"),
            }
        }
        answering.await.unwrap().unwrap();
        assert!(back == sent && pongs == 1, "{} bytes, {pongs} pongs", back.len());
        let _ = client.next().await;
        carried.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_the_runtimes_connection() {
        let (client, near) = tokio::io::duplex(64);
        let (runtime, mut far) = tokio::io::duplex(64);
        let carried =
            tokio::spawn(async move { carry(server_side(near).await, runtime, &CancellationToken::new()).await });
        drop(client);
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
        carried.await.unwrap();
    }
}
