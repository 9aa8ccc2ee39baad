//! Frames against bytes written by hand, and against any bytes at all.

use super::*;
use proptest::prelude::*;

#[test]
fn frames_are_these_bytes() {
    assert_eq!(data(5, b"hi", false)[..], *b"\0\0\0\x05\0\0\0\x02hi");
    assert_eq!(data(5, b"", true)[..], *b"\0\0\0\x05\x01\0\0\0");
    assert_eq!(frame::ping(2)[..], *b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x02");
    let block = b"\0\0\0\x01\0\0\0\x0astreamtype\0\0\0\x05error";
    assert_eq!(block.len(), 27);
    let mut want = b"\x80\x03\0\x01\0\0\0\x34\0\0\0\x01\0\0\0\0\0\0\x78\x20\xe3\xc6\xa7\xc2\0\x1b\0\xe4\xff".to_vec();
    want.extend_from_slice(block);
    want.extend_from_slice(b"\0\0\0\xff\xff");
    // 10 of the frame, 6 of zlib's start, 5 before and 5 after the block, whose 27 make 53.
    want[7] = 53;
    assert_eq!(syn_stream(1, &[("streamtype", "error")], true)[..], want[..]);
    let second = syn_stream(3, &[("streamtype", "stdin")], false);
    assert_eq!((second[7], &second[18..21]), (47, &b"\0\x1b\0"[..]), "the zlib stream goes on");
    assert_eq!(u16::from_be_bytes([ZLIB[0], ZLIB[1]]) % 31, 0, "RFC 1950's check");
}

const ZLIB: [u8; 2] = [0x78, 0x20];

async fn frames(bytes: &[u8], step: usize) -> Result<Vec<Frame>, SpdyError> {
    let (mut far, near) = tokio::io::duplex(step.max(1));
    let bytes = bytes.to_vec();
    let writing = tokio::spawn(async move {
        let _ = far.write_all(&bytes).await;
    });
    let mut reader = FrameReader::new(near);
    let mut out: Vec<Frame> = Vec::new();
    while let Some(frame) = reader.next().await? {
        // Pieces of one frame count as one.
        match (out.last_mut(), frame) {
            (
                Some(Frame::Data { stream, payload, fin: fin @ false }),
                Frame::Data { stream: more_stream, payload: more, fin: more_fin },
            ) if *stream == more_stream => {
                *payload = [&payload[..], &more[..]].concat().into();
                *fin = more_fin;
            }
            (_, frame) => out.push(frame),
        }
    }
    writing.await.unwrap();
    Ok(out)
}

fn server_bytes() -> Vec<u8> {
    [
        &b"\x80\x03\0\x02\0\0\0\x06\0\0\0\x01\xff\xff"[..], // SYN_REPLY whose headers are not looked at
        b"\0\0\0\x05\0\0\0\x03abc",
        b"\x80\x03\0\x04\0\0\0\x04\0\0\0\0",             // SETTINGS
        b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x07",           // PING
        b"\0\0\0\x05\x01\0\0\x02de",                     // the last of stream 5
        b"\x80\x03\0\x03\0\0\0\x08\0\0\0\x03\0\0\0\x05", // RST_STREAM, cancel
        b"\x80\x03\0\x09\0\0\0\x08\0\0\0\x03\0\0\x40\0", // WINDOW_UPDATE
        b"\x80\x03\0\x07\0\0\0\x08\0\0\0\0\0\0\0\0",     // GOAWAY
    ]
    .concat()
}

#[tokio::test]
async fn frames_come_out_however_the_bytes_arrive() {
    for step in [1, 2, 7, 13, 4096] {
        let got = frames(&server_bytes(), step).await.unwrap();
        let want = [
            Frame::SynReply { stream: 1, fin: false },
            Frame::Data { stream: 5, payload: "abc".into(), fin: false },
            Frame::Other { kind: 4 },
            Frame::Ping { id: 7 },
            Frame::Data { stream: 5, payload: "de".into(), fin: true },
            Frame::RstStream { stream: 3, status: 5 },
            Frame::Other { kind: 9 },
            Frame::GoAway,
        ];
        assert_eq!(got, want, "in steps of {step}");
    }
}

#[tokio::test]
async fn a_large_frame_comes_in_pieces() {
    let (mut far, near) = tokio::io::duplex(1 << 20);
    let mut bytes = b"\0\0\0\x03\x01\x03\0\0".to_vec();
    bytes.resize(8 + 3 * 65536, 7);
    let writing = tokio::spawn(async move { far.write_all(&bytes).await });
    let mut reader = FrameReader::new(near);
    let (mut total, mut ended) = (0, 0);
    while let Some(Frame::Data { payload, fin, .. }) = reader.next().await.unwrap() {
        assert!(payload.len() <= PIECE);
        total += payload.len();
        ended += usize::from(fin);
    }
    assert_eq!((total, ended), (3 * 65536, 1));
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_not_spdy_ends_the_connection() {
    for (bytes, want) in [
        (&b"\x80\x02\0\x06\0\0\0\x04\0\0\0\x02"[..], "not SPDY/3: version 2"),
        (b"\x80\x03\0\x02\0\xff\xff\xff", "SPDY control frame of 16777215 bytes is longer than allowed"),
        (b"\x80\x03\0\x03\0\0\0\x04\0\0\0\x01", "SPDY control frame of type 3 is too short"),
        (b"\0\0\0\x01\0\0\0\x09abc", "SPDY connection ended inside a frame"),
        (b"\0\0\0", "SPDY connection ended inside a frame"),
    ] {
        assert_eq!(frames(bytes, 64).await.unwrap_err().to_string(), want);
    }
}

#[tokio::test]
async fn what_is_sent_is_cut_and_a_peer_that_is_gone_is_noticed() {
    let (near, far) = tokio::io::duplex(1024);
    let (outbound, writing) = Outbound::new(near);
    let writing = tokio::spawn(writing);
    let payload: Bytes = (0..100_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let sent = payload.clone();
    let sending = tokio::spawn(async move {
        outbound.pong(2);
        outbound.send_data(3, sent).await.unwrap();
        outbound.send(data(3, b"", true)).await.unwrap();
        outbound
    });
    let mut reader = FrameReader::new(far);
    assert_eq!(reader.next().await.unwrap(), Some(Frame::Ping { id: 2 }));
    let mut got = Vec::new();
    while let Some(Frame::Data { stream: 3, payload, fin }) = reader.next().await.unwrap() {
        got.extend_from_slice(&payload);
        if fin {
            break;
        }
    }
    assert!(got == payload);
    let outbound = sending.await.unwrap();
    drop(reader);
    while outbound.send(data(3, b"x", false)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(writing.await.unwrap().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..400), step in 1_usize..64) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(frames(&bytes, step));
    }
}
