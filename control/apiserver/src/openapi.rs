//! `/openapi/v2` and `/openapi/v3`.
//!
//! The documents weigh megabytes and are asked for seldom: they are built on a blocking thread for
//! one client at a time, and dropped.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, EXPIRES};
use http::{HeaderMap, HeaderValue};
use orlop_api::openapi;
use orlop_api::status::Status;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::documents::with_etag;
use crate::wire::negotiate::Accepted;
use crate::wire::query::Query;
use crate::wire::{Response, respond};

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2";

/// Documents that are built at once.
static BUILDERS: Semaphore = Semaphore::const_new(1);

/// `path` begins with `openapi/`.
pub(crate) async fn serve(path: &str, query: &Query, headers: &HeaderMap) -> Result<Response, Status> {
    let accepted = accepted(headers, query)?;
    let path = path.trim_matches('/').to_owned();
    let _turn = BUILDERS.acquire().await.map_err(Status::internal)?;
    let built = tokio::task::spawn_blocking(move || build(&path)).await;
    let document = built.map_err(Status::internal)?.ok_or_else(Status::path_not_found)?;
    let mut response = with_etag(headers, &document, || respond::json(200, accepted, &document));
    if query.get("hash").is_some() {
        // The URL names its content: it may be kept for good.
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000"));
        headers.remove(EXPIRES);
    }
    if response.status().is_success() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(response)
}

/// JSON for everybody who takes it. The v3 clients of old name only protobuf, and get 406, after
/// which they ask for JSON.
fn accepted(headers: &HeaderMap, query: &Query) -> Result<Accepted, Status> {
    let accept = headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if accept.starts_with(V2_PROTOBUF) && !accept.contains("json") {
        return Err(Status::not_acceptable(&["application/json"]));
    }
    Ok(Accepted {
        pretty: false,
        ..Accepted::negotiate(headers, query).or_else(|status| {
            if accept.contains("json") { Ok(Accepted::lenient(headers, query)) } else { Err(status) }
        })?
    })
}

fn build(path: &str) -> Option<Bytes> {
    let document: Value = match path {
        "openapi/v2" => openapi::v2(),
        "openapi/v3" => openapi::v3_index(),
        other => openapi::v3_document(other.strip_prefix("openapi/v3/")?)?,
    };
    serde_json::to_vec(&document).ok().map(Bytes::from)
}
