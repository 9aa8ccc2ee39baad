//! What clients read about the server itself: version, discovery, OpenAPI, token keys, the index of paths.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use orlop_api::status::Status;
use orlop_api::{discovery, registry};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::wire::negotiate::{Accepted, Shape};
use crate::wire::query::Query;
use crate::wire::{Response, empty, respond};

/// The Kubernetes version that is served.
pub const GIT_VERSION: &str = "v1.36.2+orlop";
const MAJOR: &str = "1";
const MINOR: &str = "36";
const MIN_COMPATIBILITY_MINOR: &str = "35";

pub(crate) fn serve(app: &Arc<App>, path: &str, query: &Query, headers: &HeaderMap) -> Result<Response, Status> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let accepted = Accepted::negotiate(headers, query)?;
    let document = match segments.as_slice() {
        [""] => json!({"paths": index()}),
        ["version"] => version(),
        ["api"] if accepted.shape == Shape::Discovery => return Ok(aggregated(true, accepted, headers)),
        ["apis"] if accepted.shape == Shape::Discovery => return Ok(aggregated(false, accepted, headers)),
        ["api"] => discovery::api_versions(&server_address(app)),
        ["apis"] => discovery::api_group_list(&[]),
        ["api", version] => discovery::api_resource_list("", version, &[]).ok_or_else(Status::path_not_found)?,
        ["apis", group] => discovery::api_group(group, &[]).ok_or_else(Status::path_not_found)?,
        ["apis", group, version] => {
            discovery::api_resource_list(group, version, &[]).ok_or_else(Status::path_not_found)?
        }
        [".well-known", "openid-configuration"] => app.tokens.openid_configuration(),
        ["openid", "v1", "jwks"] => app.tokens.jwks(),
        _ => return Err(Status::path_not_found()),
    };
    Ok(respond::value(200, accepted, &document))
}

fn server_address(app: &App) -> String {
    std::net::SocketAddr::new(app.config.advertise_address, app.local_addr.port()).to_string()
}

fn aggregated(core: bool, accepted: Accepted, headers: &HeaderMap) -> Response {
    let document = discovery::aggregated(core, "v2", &[]);
    let bytes = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    let mut response = with_etag(headers, &bytes, || respond::json(200, accepted, &bytes));
    let content_type = HeaderValue::from_static(discovery::AGGREGATED_V2);
    if response.status() == StatusCode::OK {
        response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// 304 where the client has the document already, else `make` with the tag that says what it got.
pub(crate) fn with_etag(headers: &HeaderMap, document: &[u8], make: impl FnOnce() -> Response) -> Response {
    let tag = format!("\"{}\"", hex(document));
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|t| t.trim().trim_start_matches("W/") == tag));
    let mut response = if known {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        make()
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// Upper-case SHA-512-like tag of a document, as upstream writes them.
pub(crate) fn hex(document: &[u8]) -> String {
    Sha256::digest(document).iter().map(|byte| format!("{byte:02X}")).collect()
}

fn version() -> Value {
    json!({
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": MIN_COMPATIBILITY_MINOR,
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", go_arch()),
    })
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn index() -> Vec<String> {
    let mut paths: Vec<String> =
        [".well-known/openid-configuration", "api", "api/v1", "apis"].iter().map(|p| format!("/{p}")).collect();
    for group in registry::groups().iter().filter(|g| !g.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        for version in &group.versions {
            paths.push(format!("/apis/{}/{version}", group.name));
        }
    }
    for path in ["healthz", "livez", "metrics", "openapi/v2", "openapi/v3", "openid/v1/jwks", "readyz", "version"] {
        paths.push(format!("/{path}"));
    }
    paths
}
