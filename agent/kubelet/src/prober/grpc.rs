//! gRPC probes: `grpc.health.v1.Health/Check`, plaintext, by hand: the two messages have one field each.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::action::Outcome;

const MAX_ANSWER_BYTES: usize = 4096;
const SERVING: u8 = 1;

/// SERVING is success; anything else, and a server without the service, is failure.
pub(super) async fn check(host: &str, port: u16, service: &str, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, ask(host, port, service)).await {
        Ok(Ok(SERVING)) => Outcome::Success("service healthy".to_owned()),
        Ok(Ok(status)) => Outcome::Failure(format!("service unhealthy (responded with {:?})", name(status))),
        Ok(Err(message)) => Outcome::Failure(message),
        Err(_) => Outcome::Failure(format!(
            "timeout: failed to connect service \"{host}:{port}\" within {}: context deadline exceeded",
            crate::backoff::go_duration(limit)
        )),
    }
}

fn name(status: u8) -> &'static str {
    match status {
        0 => "UNKNOWN",
        1 => "SERVING",
        2 => "NOT_SERVING",
        _ => "SERVICE_UNKNOWN",
    }
}

fn encode(service: &str) -> Bytes {
    let service = &service.as_bytes()[..service.len().min(usize::from(u8::MAX / 2))];
    let mut message = BytesMut::new();
    if let Ok(length) = u8::try_from(service.len())
        && length > 0
    {
        // Field 1, length-delimited.
        message.put_u8(0x0a);
        message.put_u8(length);
        message.put_slice(service);
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(0));
    frame.put_slice(&message);
    frame.freeze()
}

/// Field 1, varint, of the framed answer; absent means 0.
fn decode(frame: &[u8]) -> u8 {
    match frame.get(5..) {
        Some([0x08, status, ..]) => *status,
        _ => 0,
    }
}

async fn ask(host: &str, port: u16, service: &str) -> Result<u8, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let stream = TcpStream::connect((host, port)).await.map_err(|e| text(&e))?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| text(&e))?;
    let request = http::Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(encode(service)))
        .map_err(|e| text(&e))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| text(&e))?;
        let head = grpc_status(response.headers());
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|e| e.to_string())?;
        let status = body.trailers().and_then(grpc_status).or(head).unwrap_or_default();
        match status.as_str() {
            "0" | "" => Ok(decode(&body.to_bytes())),
            "12" => {
                Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned())
            }
            code => Err(format!("error: health rpc probe failed with code {code}")),
        }
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => Err(ended.err().map_or_else(|| "connection closed".to_owned(), |e| text(&e))),
    }
}

fn grpc_status(headers: &http::HeaderMap) -> Option<String> {
    headers.get("grpc-status")?.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        assert_eq!(encode("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(encode("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(decode(&[0, 0, 0, 0, 2, 8, 1]), 1);
        assert_eq!(decode(&[0, 0, 0, 0, 0]), 0);
    }
}
