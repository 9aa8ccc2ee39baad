//! The runtime's streaming server: one connection for one upgrade.

use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::super::route::{Answer, full};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The runtime's answer to an upgrade; upstream's stream creation time-out.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// A refusal's text, at most.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
const PROTOCOL: &str = "x-stream-protocol-version";

fn bad_gateway(message: String) -> (StatusCode, String) {
    (StatusCode::BAD_GATEWAY, message)
}

/// Sends an upgrade to `url`; the answer may be a refusal.
pub(super) async fn upgrade(
    url: &str,
    method: &Method,
    headers: HeaderMap,
) -> Result<Response<Incoming>, (StatusCode, String)> {
    let target: Uri = url.parse().map_err(|e| bad_gateway(format!("the runtime gave a bad streaming URL: {e}")))?;
    let host = target.host().unwrap_or_default();
    let port = target.port_u16().unwrap_or(80);
    if target.scheme_str() != Some("http") || host.is_empty() {
        return Err(bad_gateway("the runtime gave a streaming URL that is not http".to_owned()));
    }
    let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect((host, port))).await;
    let stream = connected
        .map_err(|_| bad_gateway("the runtime's streaming server did not answer".to_owned()))?
        .map_err(|e| bad_gateway(format!("cannot connect to the runtime's streaming server: {e}")))?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| bad_gateway(format!("the runtime's streaming server: {e}")))?;
    tokio::spawn(connection.with_upgrades());
    let path = target.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| bad_gateway(e.to_string()))?;
    *request.headers_mut() = headers;
    if let Ok(value) = format!("{host}:{port}").parse() {
        request.headers_mut().insert(HOST, value);
    }
    let answer = tokio::time::timeout(ANSWER_LIMIT, sender.send_request(request)).await;
    answer
        .map_err(|_| bad_gateway("the runtime's streaming server did not answer the upgrade".to_owned()))?
        .map_err(|e| bad_gateway(format!("the runtime's streaming server: {e}")))
}

/// Asks `url` for SPDY/3.1 with the given protocol on top; anything but that is an error with the runtime's own words.
pub(super) async fn spdy(url: &str, protocol: &'static str) -> Result<hyper::upgrade::OnUpgrade, (StatusCode, String)> {
    let headers = [
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("SPDY/3.1")),
        (http::header::CONTENT_LENGTH, HeaderValue::from_static("0")),
        (http::HeaderName::from_static(PROTOCOL), HeaderValue::from_static(protocol)),
    ];
    let mut answer = upgrade(url, &Method::POST, HeaderMap::from_iter(headers)).await?;
    let status = answer.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let text = refusal_text(answer.into_body()).await;
        let code = if status.is_client_error() || status.is_server_error() { status } else { StatusCode::BAD_GATEWAY };
        return Err((code, String::from_utf8_lossy(&text).trim_end().to_owned()));
    }
    if answer.headers().get(PROTOCOL).is_none_or(|chosen| chosen != protocol) {
        return Err(bad_gateway(format!("the runtime's streaming server does not speak {protocol}")));
    }
    Ok(hyper::upgrade::on(&mut answer))
}

/// A refusal as the runtime gave it.
pub(super) async fn refusal(answer: Response<Incoming>) -> Answer {
    let (mut head, body) = answer.into_parts();
    // The length is that of the text as it is sent on.
    for name in [http::header::TRANSFER_ENCODING, http::header::CONTENT_LENGTH, CONNECTION] {
        head.headers.remove(name);
    }
    Ok(Response::from_parts(head, full(refusal_text(body).await)))
}

async fn refusal_text(body: Incoming) -> bytes::Bytes {
    let text = Limited::new(body, MAX_REFUSAL_BYTES).collect().await;
    text.map(http_body_util::Collected::to_bytes).unwrap_or_default()
}
