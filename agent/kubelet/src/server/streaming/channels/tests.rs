//! A client's WebSocket on one side, a runtime's SPDY server by hand on the other.

use super::super::websocket::server_side;
use super::*;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::tungstenite::protocol::Role;

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };

/// The runtime's end of a connection.
struct Runtime {
    stream: DuplexStream,
}

impl Runtime {
    /// Head and payload of the next frame.
    async fn frame(&mut self) -> Option<([u8; 8], Vec<u8>)> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((head, payload))
    }

    /// Takes `count` streams; their names by number.
    async fn take_streams(&mut self, count: usize) -> Vec<(u32, String)> {
        let mut streams = Vec::new();
        for n in 0..count {
            let (head, payload) = self.frame().await.unwrap();
            assert_eq!(head[..4], [0x80, 3, 0, 1], "SYN_STREAM");
            let number = u32::from_be_bytes(payload[..4].try_into().unwrap());
            // 10 bytes of the frame, zlib's start once, 5 of a stored block; then one header, `streamtype`.
            let block = &payload[10 + if n == 0 { 6 } else { 0 } + 5..payload.len() - 5];
            assert_eq!(block[..18], *b"\0\0\0\x01\0\0\0\x0astreamtype");
            streams.push((number, String::from_utf8(block[22..].to_vec()).unwrap()));
        }
        for (number, _) in &streams {
            let mut reply = b"\x80\x03\0\x02\0\0\0\x04".to_vec();
            reply.extend_from_slice(&number.to_be_bytes());
            self.stream.write_all(&reply).await.unwrap();
        }
        streams
    }

    async fn send(&mut self, channel: u8, payload: &[u8], fin: bool) {
        self.stream.write_all(&data(stream_of(channel), payload, fin)).await.unwrap();
    }

    async fn reset(&mut self, channel: u8) {
        let mut frame = b"\x80\x03\0\x03\0\0\0\x08".to_vec();
        frame.extend_from_slice(&stream_of(channel).to_be_bytes());
        frame.extend_from_slice(&5_u32.to_be_bytes());
        self.stream.write_all(&frame).await.unwrap();
    }

    /// What the client writes to a stream, until it closes it.
    async fn read_all(&mut self, channel: u8) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let (head, payload) = self.frame().await.unwrap();
            assert_eq!(u32::from_be_bytes(head[..4].try_into().unwrap()), stream_of(channel));
            all.extend_from_slice(&payload);
            if head[4] == 1 {
                return all;
            }
        }
    }
}

type Client = WebSocketStream<DuplexStream>;

async fn start(wanted: Wanted) -> (Client, Runtime, tokio::task::JoinHandle<()>) {
    let (client, near) = tokio::io::duplex(8192);
    let (runtime, far) = tokio::io::duplex(8192);
    let served = tokio::spawn(async move {
        translate(server_side(near).await, runtime, wanted, &CancellationToken::new()).await;
    });
    let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    (client, Runtime { stream: far }, served)
}

/// Everything until the close frame: bytes of each channel by its number.
async fn rest(client: &mut Client) -> Vec<Vec<u8>> {
    let mut channels = vec![Vec::new(); 5];
    loop {
        match client.next().await.unwrap().unwrap() {
            Message::Binary(message) => channels[usize::from(message[0])].extend_from_slice(&message[1..]),
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                let _ = client.next().await;
                return channels;
            }
            Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn streams_are_opened_as_wanted() {
    for (wanted, names) in [
        (ALL, vec!["stdin", "stdout", "stderr", "error"]),
        (Wanted { stdin: true, stdout: true, stderr: false, tty: true }, vec!["stdin", "stdout", "error", "resize"]),
        (Wanted { stdin: false, stdout: false, stderr: true, tty: false }, vec!["stderr", "error"]),
    ] {
        let (mut client, mut runtime, served) = start(wanted).await;
        let streams = runtime.take_streams(names.len()).await;
        assert_eq!(streams.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), names);
        assert!(streams.iter().all(|(number, _)| number % 2 == 1));
        let hello = client.next().await.unwrap().unwrap();
        assert_eq!(hello, Message::Binary(vec![if wanted.stdout { 1 } else { 2 }].into()), "it stands");
        drop(client);
        served.await.unwrap();
    }
}

#[tokio::test]
async fn input_is_closed_by_its_signal_and_output_and_status_follow() {
    let (mut client, mut runtime, served) = start(ALL).await;
    runtime.take_streams(4).await;
    let sent: Vec<u8> = (0..300_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let stdin = [&[STDIN][..], &sent].concat();
    let (_, got) = tokio::join!(
        async {
            client.send(Message::Binary(stdin.into())).await.unwrap();
            client.send(Message::Binary(vec![RESIZE, b'{'].into())).await.unwrap(); // no terminal: dropped
            client.send(Message::Binary(vec![9, 9].into())).await.unwrap(); // no such channel: dropped
            client.send(Message::Binary(Bytes::new())).await.unwrap();
            client.send(Message::Binary(vec![CLOSE, STDIN].into())).await.unwrap();
            client.send(Message::Binary(vec![STDIN, 1].into())).await.unwrap(); // after its end: dropped
        },
        runtime.read_all(STDIN)
    );
    assert!(got == sent);
    let status = br#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode"}"#;
    let (channels, ()) = tokio::join!(rest(&mut client), async {
        runtime.stream.write_all(b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x02").await.unwrap();
        for piece in got.chunks(10_000) {
            runtime.send(STDOUT, piece, false).await;
        }
        runtime.send(STDERR, b"oh", true).await;
        runtime.send(ERROR, &status[..20], false).await;
        runtime.send(ERROR, &status[20..], false).await;
        for channel in [ERROR, STDIN, STDOUT, STDERR] {
            runtime.reset(channel).await;
        }
    });
    assert!(channels[1] == sent && channels[2] == b"oh" && channels[3] == status);
    let (head, id) = runtime.frame().await.unwrap();
    assert_eq!((&head[..4], &id[..]), (&[0x80, 3, 0, 6][..], &[0, 0, 0, 2][..]), "pings are answered");
    assert!(runtime.frame().await.is_none(), "the connection is closed");
    served.await.unwrap();
}

#[tokio::test]
async fn the_end_without_a_word_is_a_failure_and_with_an_empty_one_a_success() {
    for (fin, status, message) in [
        (true, "Success", Value::Null),
        (false, "Failure", json!("Internal error occurred: lost the connection to the container runtime")),
    ] {
        let (mut client, mut runtime, served) = start(ALL).await;
        runtime.take_streams(4).await;
        runtime.send(STDOUT, b"x", true).await;
        if fin {
            runtime.send(ERROR, b"", true).await;
        }
        drop(runtime);
        let channels = rest(&mut client).await;
        let got: Value = serde_json::from_slice(&channels[3]).unwrap();
        assert_eq!((&channels[1][..], &got["status"], &got["message"]), (&b"x"[..], &json!(status), &message));
        served.await.unwrap();
    }
}

#[tokio::test]
async fn a_runtime_that_breaks_the_protocol_is_named() {
    for (bytes, want) in [
        (&b"\x80\x03\0\x03\0\0\0\x08\0\0\0\x01\0\0\0\x03"[..], "the runtime refused stream 1 with status 3"),
        (b"\0\0\0\x03\0\0\0\x01x", "data before it took all streams"),
        (b"\x80\x02\0\x06\0\0\0\x04\0\0\0\x02", "not SPDY/3: version 2"),
        (b"\x80\x03\0\x02\0\0", "ended inside a frame"),
    ] {
        let (mut client, mut runtime, served) = start(ALL).await;
        for _ in 0..4 {
            runtime.frame().await.unwrap();
        }
        runtime.stream.write_all(bytes).await.unwrap();
        drop(runtime);
        let status: Value = serde_json::from_slice(&rest(&mut client).await[3]).unwrap();
        assert!(status["message"].as_str().unwrap().contains(want), "{status}");
        served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_runtime_is_given_up() {
    let (mut client, mut runtime, served) = start(ALL).await;
    let status: Value = serde_json::from_slice(&rest(&mut client).await[3]).unwrap();
    assert!(status["message"].as_str().unwrap().contains("timed out waiting"), "{status}");
    while runtime.frame().await.is_some() {}
    served.await.unwrap();
}

#[tokio::test]
async fn input_that_stands_fills_bounded_buffers_and_does_not_stop_output() {
    let (mut client, mut runtime, served) = start(ALL).await;
    runtime.take_streams(4).await;
    // More than all buffers hold, while the runtime reads nothing.
    let mut sent = 0;
    let stdin: Bytes = vec![STDIN; 8192].into();
    while sent < 1 << 20
        && tokio::time::timeout(std::time::Duration::from_millis(50), client.send(Message::Binary(stdin.clone())))
            .await
            .is_ok()
    {
        sent += stdin.len();
    }
    assert!(sent < 1 << 20, "buffers are bounded");
    // Output still comes.
    runtime.send(STDOUT, b"out", false).await;
    while client.next().await.unwrap().unwrap() != Message::Binary(b"\x01out"[..].into()) {}
    // The queue hangs on the runtime's end; the client's alone is not seen behind input that stands.
    drop(client);
    drop(runtime);
    served.await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_ends_the_runtimes_connection() {
    let (client, mut runtime, served) = start(ALL).await;
    runtime.take_streams(4).await;
    drop(client);
    assert!(runtime.frame().await.is_none());
    served.await.unwrap();
}
