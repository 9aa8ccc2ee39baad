//! Responses: one object, a streamed list, an error; JSON, YAML, indented, compressed.

use std::io::Write as _;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use orlop_api::status::Status;
use serde_json::Value;

use super::negotiate::{Accepted, Format};
use super::{Body, BoxError, Response, full};

/// Upstream compresses what is larger.
const GZIP_FROM: usize = 128 << 10;
/// Pieces of streamed bodies.
const CHUNK: usize = 32 << 10;

fn base(code: u16, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Bytes of a known type, compressed where it pays.
pub(crate) fn bytes(code: u16, content_type: &'static str, gzip: bool, body: Bytes) -> Response {
    if !gzip || body.len() < GZIP_FROM {
        return base(code, content_type, full(body));
    }
    pieces(code, content_type, true, body.len(), std::iter::once(body))
}

pub(crate) fn text(code: u16, body: impl Into<Bytes>) -> Response {
    base(code, "text/plain; charset=utf-8", full(body))
}

/// A JSON document.
pub(crate) fn value(code: u16, accepted: Accepted, value: &Value) -> Response {
    let body = match accepted.format {
        Format::Yaml => yaml(value),
        Format::Json if accepted.pretty => indented(value),
        Format::Json => serde_json::to_vec(value).unwrap_or_default(),
    };
    bytes(code, accepted.format.content_type(), accepted.gzip, Bytes::from(body))
}

/// A JSON document that is serialized already.
pub(crate) fn json(code: u16, accepted: Accepted, json: &Bytes) -> Response {
    if accepted.format == Format::Json && !accepted.pretty {
        return bytes(code, "application/json", accepted.gzip, json.clone());
    }
    value(code, accepted, &serde_json::from_slice(json).unwrap_or_default())
}

/// A JSON document in pieces that are serialized already; at most [`CHUNK`] bytes of it are copied at once.
pub(crate) fn json_pieces(accepted: Accepted, pieces_: Vec<Bytes>) -> Response {
    let total = pieces_.iter().map(Bytes::len).sum();
    if accepted.format == Format::Json && !accepted.pretty {
        return pieces(200, "application/json", accepted.gzip, total, pieces_.into_iter());
    }
    let mut whole = Vec::with_capacity(total);
    for piece in pieces_ {
        whole.extend_from_slice(&piece);
    }
    value(200, accepted, &serde_json::from_slice(&whole).unwrap_or_default())
}

fn pieces(
    code: u16,
    content_type: &'static str,
    gzip: bool,
    total: usize,
    source: impl Iterator<Item = Bytes> + Send + 'static,
) -> Response {
    let gzip = gzip && total >= GZIP_FROM;
    let body = if gzip { streamed(Gzip::new(source)) } else { streamed(Gather { source, over: Bytes::new() }) };
    let mut response = base(code, content_type, body);
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn streamed(chunks: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(stream::iter(chunks.map(|chunk| Ok::<_, BoxError>(Frame::data(chunk))))).boxed_unsync()
}

/// Joins small pieces, passes large ones on as they are.
struct Gather<I> {
    source: I,
    over: Bytes,
}

impl<I: Iterator<Item = Bytes>> Iterator for Gather<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if !self.over.is_empty() {
            return Some(std::mem::take(&mut self.over));
        }
        let mut out = BytesMut::new();
        for piece in self.source.by_ref() {
            if piece.len() >= CHUNK / 2 {
                if out.is_empty() {
                    return Some(piece);
                }
                self.over = piece;
                break;
            }
            out.extend_from_slice(&piece);
            if out.len() >= CHUNK {
                break;
            }
        }
        (!out.is_empty()).then(|| out.freeze())
    }
}

struct Gzip<I> {
    source: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Gzip<I> {
    fn new(source: I) -> Self {
        // Level 1 as upstream: the network is seldom that slow.
        Self { source, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Gzip<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut encoder = self.encoder.take()?;
        for piece in self.source.by_ref() {
            // Writing to memory has no way to fail.
            let _ = encoder.write_all(&piece);
            if encoder.get_ref().len() >= CHUNK {
                let chunk = std::mem::take(encoder.get_mut());
                self.encoder = Some(encoder);
                return Some(Bytes::from(chunk));
            }
        }
        encoder.finish().ok().filter(|rest| !rest.is_empty()).map(Bytes::from)
    }
}

fn indented(value: &Value) -> Vec<u8> {
    let mut out = serde_json::to_vec_pretty(value).unwrap_or_default();
    out.push(b'\n');
    out
}

fn yaml(value: &Value) -> Vec<u8> {
    serde_saphyr::to_string(value).unwrap_or_default().into_bytes()
}

/// An error as `metav1.Status`.
pub(crate) fn status(accepted: Accepted, status: &Status) -> Response {
    let mut response = value(status.code, accepted, &status.to_value());
    let seconds = status.details.as_ref().and_then(|d| d.retry_after_seconds).filter(|s| *s > 0);
    if let Some(seconds) = seconds {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// `Warning: 299 - "TEXT"` headers, deduplicated and bounded as upstream (4096 characters in all).
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    let mut budget = 4096usize;
    let mut seen: Vec<&str> = Vec::new();
    for warning in warnings {
        if seen.contains(&warning.as_str()) {
            continue;
        }
        seen.push(warning);
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).take(256).collect();
        if text.len() > budget {
            return;
        }
        budget -= text.len();
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(header) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            response.headers_mut().append(http::header::WARNING, header);
        }
    }
}
