//! Requests and responses as bytes: paths, queries, media types, bodies.

pub(crate) mod body;
pub(crate) mod negotiate;
pub(crate) mod protobuf;
pub(crate) mod query;
pub(crate) mod request_info;
pub(crate) mod respond;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request or response body of any origin (socket, in-process client, kubelet).
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type Request = http::Request<Body>;
pub(crate) type Response = http::Response<Body>;

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

/// Any foreign body as ours.
pub(crate) fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}
