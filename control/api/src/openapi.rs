//! The OpenAPI documents: `/openapi/v3` with one document per group and version, and `/openapi/v2`.
//!
//! They are built on demand from the registry and `k8s-openapi`'s schemas and then dropped: they weigh megabytes, and
//! clients ask for them seldom (`kubectl explain`, and `kubectl apply` for the fields' merge keys). Only the hashes of
//! the v3 documents, which clients cache by, are kept.

mod definitions;
mod paths;
mod protobuf;

use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::registry::{self, ResourceInfo};

pub use protobuf::EncodeError;

/// Which of the two dialects is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, definition: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{definition}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{definition}")}),
        }
    }
}

/// `/openapi/v3`: where each document is, with its hash.
///
/// The first call builds every document once, one after the other, to hash it.
pub fn v3_index() -> Value {
    static HASHES: OnceLock<Vec<(String, String)>> = OnceLock::new();
    let hashes = HASHES.get_or_init(|| {
        group_versions()
            .map(|(group, version)| {
                let path = document_path(group, version);
                let text = v3_of(group, version).to_string();
                let hash: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02X}")).collect();
                (path, hash)
            })
            .collect()
    });
    let paths: Map<String, Value> = hashes
        .iter()
        .map(|(path, hash)| (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")})))
        .collect();
    json!({"paths": paths})
}

/// `/openapi/v3/PATH` with PATH `api/v1` or `apis/GROUP/VERSION`; `None` where nothing built in serves it.
pub fn v3_document(path: &str) -> Option<Value> {
    let (group, version) = group_versions().find(|(group, version)| document_path(group, version) == path)?;
    Some(v3_of(group, version))
}

/// `/openapi/v2`: everything in one Swagger 2.0 document.
pub fn v2() -> Value {
    let mut all_paths = Map::new();
    let mut definitions = Map::new();
    for (group, version) in group_versions() {
        let rows: Vec<&ResourceInfo> = registry::resources_of(group, version).collect();
        all_paths.append(&mut paths::of(Dialect::V2, group, version, &rows));
        definitions.append(&mut definitions::of(Dialect::V2, group, version, &rows));
    }
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": all_paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization"}},
        "security": [{"BearerToken": []}],
    })
}

/// [`v2`] as gnostic's `openapi.v2.Document`, which kubectl takes it in.
///
/// # Errors
/// Where the document holds what has no protobuf form, which tests rule out.
pub fn v2_protobuf() -> Result<Vec<u8>, EncodeError> {
    protobuf::encode(&v2())
}

fn v3_of(group: &str, version: &str) -> Value {
    let rows: Vec<&ResourceInfo> = registry::resources_of(group, version).collect();
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths::of(Dialect::V3, group, version, &rows),
        "components": {
            "schemas": definitions::of(Dialect::V3, group, version, &rows),
            "securitySchemes": {"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization"}},
        },
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.36.2"})
}

fn group_versions() -> impl Iterator<Item = (&'static str, &'static str)> {
    registry::groups().into_iter().flat_map(|g| g.versions.into_iter().map(move |v| (g.name, v)))
}

/// `api/v1`, `apis/apps/v1`
fn document_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

#[cfg(test)]
mod tests;
