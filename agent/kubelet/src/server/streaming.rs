//! exec, attach, port-forward: the runtime gives a URL, and the client's streams are carried there.
//!
//! ```text
//! client asks for                         kubelet           runtime's streaming server
//! WebSocket v5.channel.k8s.io             channels ───────► SPDY, v4.channel.k8s.io
//! WebSocket SPDY/3.1+portforward.k8s.io   tunnel   ───────► SPDY, portforward.k8s.io
//! SPDY, older WebSocket subprotocols      byte by byte ───► the same
//! ```
//! Runtimes know neither of the first two; the API server passes on what `kubectl` asks for.

mod channels;
mod dial;
mod spdy;
mod tunnel;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderName, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::ServerState;
use super::pods::StreamRequest;
use super::route::{Answer, full, query_flag, query_values};
use channels::Wanted;

/// Arguments of one command together.
const MAX_COMMAND_BYTES: usize = 128 * 1024;
const RUN_LIMIT: Duration = Duration::from_secs(120);

pub(super) async fn exec(state: &Arc<ServerState>, target: &[&str], query: &str, request: Request<Incoming>) -> Answer {
    let stream = stream_request(state, target, query)?;
    if stream.command.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "you must specify at least one command to execute".to_owned()));
    }
    let wanted = Wanted::from(&stream);
    let url = state.runtime.exec_url(stream).await.map_err(internal)?;
    command_streams(state, &url, wanted, request).await
}

pub(super) async fn attach(
    state: &Arc<ServerState>,
    target: &[&str],
    query: &str,
    request: Request<Incoming>,
) -> Answer {
    let stream = StreamRequest { command: Vec::new(), ..stream_request(state, target, query)? };
    let wanted = Wanted::from(&stream);
    let url = state.runtime.attach_url(stream).await.map_err(internal)?;
    command_streams(state, &url, wanted, request).await
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
    let tunnelled = websocket::offers(request.headers(), tunnel::TUNNEL);
    carry(state, &url, request, if tunnelled { Carrier::Tunnel } else { Carrier::Bytes }).await
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

/// What the client asked to have its streams carried in.
#[derive(Clone, Copy)]
enum Carrier {
    /// WebSocket channels with a close signal: translated.
    Channels(Wanted),
    /// SPDY inside a WebSocket: unwrapped.
    Tunnel,
    /// SPDY itself or older WebSocket subprotocols: the runtime speaks them.
    Bytes,
}

/// Serves exec and attach.
async fn command_streams(state: &Arc<ServerState>, url: &str, wanted: Wanted, request: Request<Incoming>) -> Answer {
    let translated = websocket::offers(request.headers(), channels::CHANNELS);
    carry(state, url, request, if translated { Carrier::Channels(wanted) } else { Carrier::Bytes }).await
}

/// Connects the client's upgrade with the runtime's streaming server at `url`; both sides are then served in a task.
async fn carry(state: &Arc<ServerState>, url: &str, mut request: Request<Incoming>, carrier: Carrier) -> Answer {
    if !request.headers().contains_key(UPGRADE) {
        return Err((StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request".to_owned()));
    }
    let (response, runtime_side) = match carrier {
        Carrier::Channels(_) => {
            let response = websocket::accept(&request, channels::CHANNELS)?;
            (response, dial::spdy(url, channels::STREAMS).await?)
        }
        Carrier::Tunnel => {
            let response = websocket::accept(&request, tunnel::TUNNEL)?;
            (response, dial::spdy(url, tunnel::INNER).await?)
        }
        Carrier::Bytes => {
            let mut headers = HeaderMap::new();
            copy_headers(request.headers(), &mut headers);
            let mut answer = dial::upgrade(url, request.method(), headers).await?;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                return dial::refusal(answer).await;
            }
            let runtime_side = hyper::upgrade::on(&mut answer);
            let mut response = Response::new(full(bytes::Bytes::new()));
            *response.status_mut() = answer.status();
            *response.headers_mut() = std::mem::take(answer.headers_mut());
            (response, runtime_side)
        }
    };
    let client_side = hyper::upgrade::on(&mut request);
    let shutdown = state.shutdown.clone();
    state.tasks.spawn(async move {
        let both = tokio::try_join!(client_side, runtime_side);
        let (client, runtime) = match both {
            Ok((client, runtime)) => (TokioIo::new(client), TokioIo::new(runtime)),
            Err(error) => return debug!(%error, "an upgrade did not come about"),
        };
        match carrier {
            Carrier::Channels(wanted) => {
                channels::translate(websocket::server_side(client).await, runtime, wanted, &shutdown).await;
            }
            Carrier::Tunnel => tunnel::carry(websocket::server_side(client).await, runtime, &shutdown).await,
            Carrier::Bytes => copy(client, runtime, &shutdown).await,
        }
        debug!("a stream ended");
    });
    Ok(response)
}

/// Copies bytes both ways until either side ends.
async fn copy<C, R>(mut client: C, mut runtime: R, shutdown: &CancellationToken)
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    tokio::select! {
        () = shutdown.cancelled() => {}
        ended = tokio::io::copy_bidirectional(&mut client, &mut runtime) => {
            debug!(error = ended.err().map(|e| e.to_string()), "copied to the end");
        }
    }
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
