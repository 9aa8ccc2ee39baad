//! exec, attach, port-forward: the runtime gives a URL, and the client's upgrade is carried there byte by byte.
//!
//! The runtime decides which protocols it speaks. containerd 1.6 refuses WebSocket v5 with 403; the refusal is passed
//! through as it is, and `kubectl` then falls back to SPDY by itself.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;
use tracing::debug;

use super::ServerState;
use super::pods::StreamRequest;
use super::route::{Answer, full, query_flag, query_values};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The runtime's answer to an upgrade; upstream's stream creation time-out.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// A refusal's text, at most.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
/// Arguments of one command together.
const MAX_COMMAND_BYTES: usize = 128 * 1024;
const RUN_LIMIT: Duration = Duration::from_secs(120);

pub(super) async fn exec(state: &Arc<ServerState>, target: &[&str], query: &str, request: Request<Incoming>) -> Answer {
    let stream = stream_request(state, target, query)?;
    if stream.command.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "you must specify at least one command to execute".to_owned()));
    }
    let url = state.runtime.exec_url(stream).await.map_err(internal)?;
    proxy(state, &url, request).await
}

pub(super) async fn attach(
    state: &Arc<ServerState>,
    target: &[&str],
    query: &str,
    request: Request<Incoming>,
) -> Answer {
    let stream = StreamRequest { command: Vec::new(), ..stream_request(state, target, query)? };
    let url = state.runtime.attach_url(stream).await.map_err(internal)?;
    proxy(state, &url, request).await
}

pub(super) async fn port_forward(
    state: &Arc<ServerState>,
    target: &[&str],
    query: &str,
    request: Request<Incoming>,
) -> Answer {
    let (namespace, name, uid) = match target {
        [namespace, name] => (*namespace, *name, None),
        [namespace, name, uid] => (*namespace, *name, Some(*uid)),
        _ => return Err(not_found()),
    };
    let pod = find_pod(state, namespace, name, uid)?;
    // WebSockets name their ports here; SPDY names them per stream.
    let ports: Result<Vec<u16>, _> = query_values(query, "port").iter().map(|p| p.parse()).collect();
    let ports = ports.map_err(|_| (StatusCode::BAD_REQUEST, "port must be a number from 1 to 65535".to_owned()))?;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let sandbox = state
        .pods
        .sandbox_id(uid)
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("pod {name:?} has no running sandbox")))?;
    let ports = ports.into_iter().map(i32::from).collect();
    let url = state.runtime.port_forward_url(&sandbox, ports).await.map_err(internal)?;
    proxy(state, &url, request).await
}

/// `/run`: a command without streams; its output is the answer.
pub(super) async fn run(state: &Arc<ServerState>, target: &[&str], query: &str) -> Answer {
    let stream = stream_request(state, target, query)?;
    let command = query_values(query, "cmd").iter().flat_map(|c| c.split_whitespace().map(str::to_owned)).collect();
    let (code, output) = state.runtime.exec_sync(&stream.container_id, command, RUN_LIMIT).await.map_err(internal)?;
    if code != 0 {
        let output = String::from_utf8_lossy(&output).into_owned();
        return Err((StatusCode::INTERNAL_SERVER_ERROR, format!("command terminated with exit code {code}: {output}")));
    }
    Ok(Response::new(full(output)))
}

/// `{namespace}/{pod}[/{uid}]/{container}`, and what the query asks for.
fn stream_request(
    state: &Arc<ServerState>,
    target: &[&str],
    query: &str,
) -> Result<StreamRequest, (StatusCode, String)> {
    let (namespace, name, uid, container) = match target {
        [namespace, name, container] => (*namespace, *name, None, *container),
        [namespace, name, uid, container] => (*namespace, *name, Some(*uid), *container),
        _ => return Err(not_found()),
    };
    let pod = find_pod(state, namespace, name, uid)?;
    let container_id = state
        .pods
        .container_id(pod.metadata.uid.as_deref().unwrap_or_default(), container, false)
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("container not found ({container:?})")))?;
    let command = query_values(query, "command");
    if command.iter().map(String::len).sum::<usize>() > MAX_COMMAND_BYTES {
        return Err((StatusCode::BAD_REQUEST, "the command is too long".to_owned()));
    }
    let tty = query_flag(query, "tty");
    Ok(StreamRequest {
        container_id,
        command,
        stdin: query_flag(query, "input") || query_flag(query, "stdin"),
        stdout: query_flag(query, "output") || query_flag(query, "stdout"),
        // A terminal has one output stream; CRI refuses stderr beside it.
        stderr: !tty && (query_flag(query, "error") || query_flag(query, "stderr")),
        tty,
    })
}

fn find_pod(
    state: &Arc<ServerState>,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Arc<Pod>, (StatusCode, String)> {
    state
        .pods
        .pod(namespace, name)
        .filter(|pod| uid.is_none_or(|uid| pod.metadata.uid.as_deref() == Some(uid)))
        .ok_or_else(|| (StatusCode::NOT_FOUND, "pod does not exist".to_owned()))
}

fn not_found() -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, "404 page not found".to_owned())
}

fn internal(message: String) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// Sends the client's upgrade to `url` and, if it is accepted, copies bytes both ways until either side ends.
async fn proxy(state: &Arc<ServerState>, url: &str, mut request: Request<Incoming>) -> Answer {
    let bad_gateway = |message: String| (StatusCode::BAD_GATEWAY, message);
    if !request.headers().contains_key(UPGRADE) {
        return Err((StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request".to_owned()));
    }
    let target: Uri = url.parse().map_err(|e| bad_gateway(format!("the runtime gave a bad streaming URL: {e}")))?;
    let host = target.host().unwrap_or_default().to_owned();
    let port = target.port_u16().unwrap_or(80);
    if target.scheme_str() != Some("http") || host.is_empty() {
        return Err(bad_gateway("the runtime gave a streaming URL that is not http".to_owned()));
    }
    let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect((host.as_str(), port))).await;
    let stream = connected
        .map_err(|_| bad_gateway("the runtime's streaming server did not answer".to_owned()))?
        .map_err(|e| bad_gateway(format!("cannot connect to the runtime's streaming server: {e}")))?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| bad_gateway(format!("the runtime's streaming server: {e}")))?;
    tokio::spawn(connection.with_upgrades());
    let path = target.path_and_query().map_or("/", |p| p.as_str());
    let mut upstream = Request::builder()
        .method(request.method())
        .uri(path)
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| bad_gateway(e.to_string()))?;
    copy_headers(request.headers(), upstream.headers_mut());
    if let Ok(value) = format!("{host}:{port}").parse() {
        upstream.headers_mut().insert(HOST, value);
    }
    let answer = tokio::time::timeout(ANSWER_LIMIT, sender.send_request(upstream)).await;
    let mut answer = answer
        .map_err(|_| bad_gateway("the runtime's streaming server did not answer the upgrade".to_owned()))?
        .map_err(|e| bad_gateway(format!("the runtime's streaming server: {e}")))?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        headers.extend(answer.headers().iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let text = Limited::new(answer.into_body(), MAX_REFUSAL_BYTES).collect().await;
        let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        // The length is that of the text as it is sent on.
        let mut response = response.body(full(text)).map_err(|e| bad_gateway(e.to_string()))?;
        for name in [http::header::TRANSFER_ENCODING, http::header::CONTENT_LENGTH, CONNECTION] {
            response.headers_mut().remove(name);
        }
        return Ok(response);
    }
    let runtime_side = hyper::upgrade::on(&mut answer);
    let client_side = hyper::upgrade::on(&mut request);
    let shutdown = state.shutdown.clone();
    state.tasks.spawn(async move {
        let both = tokio::try_join!(client_side, runtime_side);
        let (client, runtime) = match both {
            Ok(both) => both,
            Err(error) => return debug!(%error, "an upgrade did not come about"),
        };
        let (mut client, mut runtime) = (TokioIo::new(client), TokioIo::new(runtime));
        tokio::select! {
            () = shutdown.cancelled() => {}
            ended = tokio::io::copy_bidirectional(&mut client, &mut runtime) => {
                debug!(error = ended.err().map(|e| e.to_string()), "a stream ended");
            }
        }
    });
    response.body(full(bytes::Bytes::new())).map_err(|e| bad_gateway(e.to_string()))
}

/// Everything but what names the client to us: its credentials are none of the runtime's business.
fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    let dropped: [HeaderName; 4] =
        [HOST, http::header::AUTHORIZATION, http::header::COOKIE, http::header::CONTENT_LENGTH];
    for (name, value) in from {
        if !dropped.contains(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_here() {
        let mut from = HeaderMap::new();
        for (name, value) in
            [("authorization", "Bearer x"), ("host", "n"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v4")]
        {
            from.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let mut to = HeaderMap::new();
        copy_headers(&from, &mut to);
        assert_eq!(to.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["upgrade", "x-stream-protocol-version"]);
    }
}
