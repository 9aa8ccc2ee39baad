//! Passing a request on, and what comes back: an answer, or a tunnel.

use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use orlop_api::status::Status;
use tokio_util::sync::CancellationToken;

use super::guarded::Guarded;
use super::target::Target;
use crate::call::Call;
use crate::errors;
use crate::wire::{Request, Response, boxed, empty};

/// The kubelet explains itself in a sentence.
const MAX_REFUSAL: usize = 4 << 10;

/// Headers that concern one connection only (RFC 9110), `Upgrade` apart.
const HOP_BY_HOP: &[&str] = &[
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "proxy-connection",
];

pub(super) async fn forward(
    call: &Call,
    mut request: Request,
    target: Target,
    guard: impl Send + 'static,
) -> Result<Response, Status> {
    let dialer = call.app.kubelets.as_ref().ok_or_else(|| {
        Status::service_unavailable("this server has no kubelet client certificate: logs, exec and proxy are off")
    })?;
    let upgrading = is_upgrade(request.headers());
    let client_side = upgrading.then(|| hyper::upgrade::on(&mut request));
    let mut sender = dialer.connect(&target).await?;

    let (mut parts, body) = request.into_parts();
    parts.uri = target
        .path_and_query
        .parse()
        .map_err(|_| Status::bad_request(format!("{:?} is no path", target.path_and_query)))?;
    parts.version = http::Version::HTTP_11;
    parts.extensions.clear();
    strip(&mut parts.headers, upgrading);
    let host = std::net::SocketAddr::new(target.address, target.port).to_string();
    parts.headers.insert(HOST, HeaderValue::from_str(&host).unwrap_or(HeaderValue::from_static("node")));
    let body = if upgrading { empty() } else { body };

    let mut answer = sender
        .send_request(http::Request::from_parts(parts, body))
        .await
        .map_err(|e| errors::bad_gateway(format!("error sending request: {}", errors::with_sources(&e))))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client_side) = client_side else {
            return Err(errors::bad_gateway("the backend switched protocols unasked"));
        };
        let backend_side = hyper::upgrade::on(&mut answer);
        tokio::spawn(tunnel(client_side, backend_side, call.app.shutdown.clone(), guard));
        let (parts, _) = answer.into_parts();
        return Ok(Response::from_parts(parts, empty()));
    }
    if call.info.subresource == "log" && !answer.status().is_success() {
        return Err(refusal(call, answer.status(), answer.into_body()).await);
    }
    let (mut parts, body) = answer.into_parts();
    strip(&mut parts.headers, false);
    parts.extensions.clear();
    parts.version = http::Version::HTTP_11;
    // The sender keeps the connection open as long as the body lasts.
    Ok(Response::from_parts(parts, boxed(Guarded::new(body, Box::new((guard, sender))))))
}

/// What the kubelet says in plain text, as the status that clients print: `kubectl logs --previous` of a container
/// that never restarted.
async fn refusal(call: &Call, code: StatusCode, body: hyper::body::Incoming) -> Status {
    let text = match Limited::new(body, MAX_REFUSAL).collect().await {
        Ok(whole) => String::from_utf8_lossy(&whole.to_bytes()).trim_end().to_owned(),
        Err(error) => return Status::internal(error),
    };
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND if text.is_empty() => Status::not_found(call.row, &call.info.name),
        StatusCode::NOT_FOUND => Status::new(404, "NotFound", text),
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
        code => Status::new(code.as_u16(), "", format!("the kubelet answered {code}: {text}")),
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|v| v.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")))
}

fn strip(headers: &mut HeaderMap, upgrading: bool) {
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
    if upgrading {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
    headers.remove(UPGRADE);
}

/// Copies bytes until either side closes or the server stops.
async fn tunnel<G>(client: OnUpgrade, backend: OnUpgrade, shutdown: CancellationToken, guard: G) {
    let sides = tokio::try_join!(client, backend);
    match sides {
        Ok((client, backend)) => {
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            tokio::select! {
                copied = tokio::io::copy_bidirectional(&mut client, &mut backend) => {
                    tracing::debug!(?copied, "tunnel closed");
                }
                () = shutdown.cancelled() => {}
            }
        }
        Err(error) => tracing::debug!(%error, "upgrade failed"),
    }
    drop(guard);
}
