//! Request bodies: bounded reading, media types, JSON and YAML.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use orlop_api::status::Status;
use orlop_api::strict::Format;

use super::{Body, protobuf};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const SUPPORTED: &[&str] = &["application/json", "application/yaml", PROTOBUF];

/// The whole body, 413 past `limit`.
pub(crate) async fn read(body: Body, headers: &HeaderMap, limit: usize) -> Result<Bytes, Status> {
    let too_large = || Status::request_entity_too_large(format!("limit is {limit}"));
    let announced =
        headers.get(http::header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|n| n > limit) {
        return Err(too_large());
    }
    let mut body = body;
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Status::bad_request(format!("unable to read the request body: {e}")))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

pub(crate) fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// A body and how it is written. JSON where nothing is said, as upstream; protobuf is turned into JSON.
pub(crate) fn document(headers: &HeaderMap, bytes: &Bytes) -> Result<(Bytes, Format), Status> {
    let media_type = media_type(headers);
    if media_type == PROTOBUF {
        let value = protobuf::decode(bytes).map_err(|e| Status::bad_request(e.to_string()))?;
        let json = serde_json::to_vec(&value).map_err(Status::internal)?;
        return Ok((Bytes::from(json), Format::Json));
    }
    let format = Format::of_content_type(&media_type).ok_or_else(|| Status::unsupported_media_type(SUPPORTED))?;
    Ok((bytes.clone(), format))
}
