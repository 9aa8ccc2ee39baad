//! From a request to its handler, once its sender is admitted.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::auth::{Refusal, access_of};
use super::identity::User;
use super::{ServerState, handlers, logs, streaming};

/// Any response body.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A handler's answer; the error is a status with a line of text.
pub(super) type Answer = Result<Response<Body>, (StatusCode, String)>;

/// Answers one request.
pub(super) async fn handle(
    state: &Arc<ServerState>,
    certificate: Option<Arc<User>>,
    request: Request<Incoming>,
) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let access = access_of(&method, &path);
    let user = match state.gate.admit(certificate, request.headers(), &access).await {
        Ok(user) => user,
        Err(Refusal::Unauthorized) => return text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        Err(Refusal::Forbidden(message)) => return text(StatusCode::FORBIDDEN, &message),
        Err(Refusal::Unavailable(message)) => return text(StatusCode::INTERNAL_SERVER_ERROR, &message),
    };
    tracing::debug!(user = user.name, %method, path, "kubelet API");
    match dispatch(state, &method, &path, request).await {
        Ok(response) => response,
        Err((code, message)) => text(code, &message),
    }
}

async fn dispatch(state: &Arc<ServerState>, method: &Method, path: &str, request: Request<Incoming>) -> Answer {
    let parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(percent_decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let query = request.uri().query().unwrap_or_default().to_owned();
    if matches!(*method, Method::GET | Method::POST) {
        match parts.as_slice() {
            ["exec", target @ ..] => return streaming::exec(state, target, &query, request).await,
            ["attach", target @ ..] => return streaming::attach(state, target, &query, request).await,
            ["portForward", target @ ..] => return streaming::port_forward(state, target, &query, request).await,
            _ => {}
        }
    }
    match (method, parts.as_slice()) {
        (&Method::POST, ["run", target @ ..]) => streaming::run(state, target, &query).await,
        (&Method::GET | &Method::HEAD, ["healthz", ..]) => handlers::healthz(state),
        (&Method::GET, ["pods"]) => handlers::pods(state),
        (&Method::GET, ["runningpods"]) => handlers::running_pods(state),
        (&Method::GET, ["configz"]) => handlers::configz(state),
        (&Method::GET, ["metrics"]) => handlers::metrics(state),
        (&Method::GET, ["metrics", "resource"]) => handlers::resource_metrics(state).await,
        (&Method::GET, ["metrics", "cadvisor"]) => handlers::cadvisor_metrics(state).await,
        (&Method::GET, ["stats", "summary"]) => handlers::summary(state, &query).await,
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            logs::container_logs(state, namespace, pod, container, &query).await
        }
        (
            _,
            [
                "exec" | "attach" | "portForward" | "run" | "pods" | "metrics" | "stats" | "containerLogs" | "configz",
                ..,
            ],
        ) if !matches!(*method, Method::GET | Method::POST) => {
            Err((StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed".to_owned()))
        }
        _ => Err((StatusCode::NOT_FOUND, "404 page not found".to_owned())),
    }
}

/// `%2F` and the like; what is not valid UTF-8 afterwards is taken as it stands.
fn percent_decode(part: &str) -> String {
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        let hex = part.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
        match hex.filter(|_| byte == b'%') {
            Some(decoded) => {
                out.push(decoded);
                i += 3;
            }
            None => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| part.to_owned())
}

/// The values of a query parameter, in order.
pub(super) fn query_values(query: &str, name: &str) -> Vec<String> {
    url::form_urlencoded::parse(query.as_bytes()).filter(|(k, _)| k == name).map(|(_, v)| v.into_owned()).collect()
}

/// True for `1` and `true`.
pub(super) fn query_flag(query: &str, name: &str) -> bool {
    query_values(query, name).last().is_some_and(|v| v == "1" || v == "true")
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A plain-text answer with a newline.
pub(super) fn text(code: StatusCode, message: &str) -> Response<Body> {
    with_type(code, "text/plain; charset=utf-8", format!("{message}\n").into())
}

pub(super) fn with_type(code: StatusCode, content_type: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_decoded() {
        assert_eq!(percent_decode("a%20b%2"), "a b%2");
        assert_eq!(percent_decode("%ff"), "%ff");
        assert_eq!(query_values("command=ls&command=-l%20x&tty=1", "command"), ["ls", "-l x"]);
        assert!(query_flag("tty=1", "tty") && query_flag("tty=true", "tty") && !query_flag("tty=0", "tty"));
    }
}
