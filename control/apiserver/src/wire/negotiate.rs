//! Which representation the client wants.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING};
use orlop_api::status::Status;

use super::query::Query;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

/// What the objects are turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Whole,
    Table,
    /// `PartialObjectMetadata`, or its list.
    Metadata,
    /// Aggregated discovery v2.
    Discovery,
}

/// The outcome of content negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) format: Format,
    pub(crate) shape: Shape,
    pub(crate) pretty: bool,
    pub(crate) gzip: bool,
}

const SUPPORTED: &[&str] = &["application/json", "application/yaml"];

impl Accepted {
    /// The first clause of `Accept` that we can serve. An upstream client lists its fallbacks.
    pub(crate) fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Self, Status> {
        let accept = joined(headers, &ACCEPT);
        let agent = headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        // Upstream prints for people: curl, wget and browsers get indented JSON.
        let human = ["curl", "Wget", "Mozilla/"].iter().any(|prefix| agent.starts_with(prefix));
        let pretty = query.flag("pretty").unwrap_or(human);
        let gzip = accepts_gzip(headers);
        if accept.trim().is_empty() {
            return Ok(Self { format: Format::Json, shape: Shape::Whole, pretty, gzip });
        }
        accept
            .split(',')
            .find_map(clause)
            .map(|(format, shape)| Self { format, shape, pretty, gzip })
            .ok_or_else(|| Status::not_acceptable(SUPPORTED))
    }

    /// For errors, where no negotiation may fail.
    pub(crate) fn lenient(headers: &HeaderMap, query: &Query) -> Self {
        Self::negotiate(headers, query).map(|a| Self { shape: Shape::Whole, ..a }).unwrap_or(Self {
            format: Format::Json,
            shape: Shape::Whole,
            pretty: false,
            gzip: false,
        })
    }
}

/// Whether the client unpacks gzip; `gzip;q=0` says that it does not.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    joined(headers, &ACCEPT_ENCODING).split(',').any(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|p| matches!(p, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn joined(headers: &HeaderMap, name: &http::HeaderName) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
    values.join(",")
}

fn clause(text: &str) -> Option<(Format, Shape)> {
    let mut parts = text.split(';').map(str::trim);
    let format = match parts.next()? {
        "application/json" | "*/*" | "application/*" => Format::Json,
        "application/yaml" | "text/yaml" => Format::Yaml,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", v)) => kind = v,
            Some(("g", v)) => group = v,
            Some(("v", v)) => version = v,
            _ => {}
        }
    }
    let shape = match (kind, group, version) {
        ("", _, _) => Shape::Whole,
        ("Table", "meta.k8s.io", "v1") => Shape::Table,
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Shape::Metadata,
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Shape::Discovery,
        _ => return None,
    };
    Some((format, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses() {
        for (accept, expect) in [
            ("application/json", Some((Format::Json, Shape::Whole))),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some((Format::Json, Shape::Table))),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Some((Format::Json, Shape::Whole))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Format::Json, Shape::Whole))),
            ("application/vnd.kubernetes.protobuf", None),
            ("*/*", Some((Format::Json, Shape::Whole))),
            ("application/yaml", Some((Format::Yaml, Shape::Whole))),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Some((Format::Json, Shape::Discovery)),
            ),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some((Format::Json, Shape::Metadata))),
        ] {
            assert_eq!(accept.split(',').find_map(clause), expect, "{accept}");
        }
    }
}
