//! `/openapi/v2` and `/openapi/v3`.
//!
//! The documents weigh megabytes and are asked for seldom: they are built on a blocking thread for
//! one client at a time, and dropped.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, EXPIRES};
use http::{HeaderMap, HeaderValue};
use orlop_api::openapi;
use orlop_api::status::Status;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::documents::with_etag;
use crate::wire::negotiate::accepts_gzip;
use crate::wire::query::Query;
use crate::wire::{Response, respond};

/// gnostic's messages. Answers say it with a dot; client-go asks with an `@`, which is no valid media type.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V2_PROTOBUF_AT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Documents that are built at once.
static BUILDERS: Semaphore = Semaphore::const_new(1);

/// `path` begins with `openapi/`.
pub(crate) async fn serve(path: &str, query: &Query, headers: &HeaderMap) -> Result<Response, Status> {
    let path = path.trim_matches('/').to_owned();
    let form = Form::negotiate(headers, path == "openapi/v2")?;
    let _turn = BUILDERS.acquire().await.map_err(Status::internal)?;
    let built = tokio::task::spawn_blocking(move || build(&path, form)).await;
    let document = built.map_err(Status::internal)??;
    let content_type = match form {
        Form::Json { .. } => "application/json",
        Form::Protobuf { .. } => V2_PROTOBUF,
    };
    let (Form::Json { gzip } | Form::Protobuf { gzip }) = form;
    let mut response = with_etag(headers, &document, || respond::bytes(200, content_type, gzip, document.clone()));
    if query.get("hash").is_some() {
        // The URL names its content: it may be kept for good.
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000"));
        headers.remove(EXPIRES);
    }
    Ok(response)
}

/// What the document is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json { gzip: bool },
    Protobuf { gzip: bool },
}

impl Form {
    /// The first clause that we can serve. Of the v3 documents there is JSON only: clients of old that name
    /// only protobuf get 406, after which they ask for JSON.
    fn negotiate(headers: &HeaderMap, v2: bool) -> Result<Self, Status> {
        let gzip = accepts_gzip(headers);
        let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if accept.trim().is_empty() {
            return Ok(Self::Json { gzip });
        }
        accept
            .split(',')
            .map(|clause| clause.split(';').next().unwrap_or_default().trim())
            .find_map(|clause| match clause {
                "application/json" | "application/*" | "*/*" => Some(Self::Json { gzip }),
                V2_PROTOBUF | V2_PROTOBUF_AT if v2 => Some(Self::Protobuf { gzip }),
                _ => None,
            })
            .ok_or_else(|| {
                Status::not_acceptable(if v2 { &["application/json", V2_PROTOBUF] } else { &["application/json"] })
            })
    }
}

fn build(path: &str, form: Form) -> Result<Bytes, Status> {
    if matches!(form, Form::Protobuf { .. }) {
        return openapi::v2_protobuf().map(Bytes::from).map_err(Status::internal);
    }
    let document: Option<Value> = match path {
        "openapi/v2" => Some(openapi::v2()),
        "openapi/v3" => Some(openapi::v3_index()),
        other => other.strip_prefix("openapi/v3/").and_then(openapi::v3_document),
    };
    serde_json::to_vec(&document.ok_or_else(Status::path_not_found)?).map(Bytes::from).map_err(Status::internal)
}
