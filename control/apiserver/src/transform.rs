//! Stored objects as the client asked for them: another version, a table, metadata only.

use bytes::Bytes;
use orlop_api::registry::ResourceInfo;
use serde_json::{Value, json};

use crate::convert;
use crate::scheme;
use crate::storage::object::Stored;
use crate::wire::negotiate::Shape;

/// `includeObject` of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        match text {
            Some("None") => Self::None,
            Some("Object") => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// How the objects of one request are turned into what the client sees.
#[derive(Clone, Copy)]
pub(crate) struct Transform {
    pub(crate) row: &'static ResourceInfo,
    pub(crate) stored_row: &'static ResourceInfo,
    pub(crate) shape: Shape,
    pub(crate) include: IncludeObject,
    pub(crate) now: jiff::Timestamp,
}

impl Transform {
    /// Clients get the stored bytes as they are.
    pub(crate) fn is_identity(&self) -> bool {
        matches!(self.shape, Shape::Whole | Shape::Discovery) && std::ptr::eq(self.row, self.stored_row)
    }

    /// The object in the client's version.
    fn converted(&self, stored: &Stored) -> std::sync::Arc<Value> {
        let value = stored.value();
        if std::ptr::eq(self.row, self.stored_row) {
            return value;
        }
        std::sync::Arc::new(convert::from_storage(self.row, value.as_ref()))
    }

    /// One object alone, as JSON.
    pub(crate) fn one(&self, stored: &Stored) -> Bytes {
        if self.is_identity() {
            return stored.json.clone();
        }
        let value = self.converted(stored);
        let out = self.one_value(&value, true);
        Bytes::from(serde_json::to_vec(&out).unwrap_or_default())
    }

    /// One object in the client's version as the client wants it; tables with their columns or without.
    pub(crate) fn one_value(&self, value: &Value, columns: bool) -> Value {
        match self.shape {
            Shape::Whole | Shape::Discovery => value.clone(),
            Shape::Metadata => partial(value),
            Shape::Table => {
                let definitions =
                    if columns { scheme::columns((self.row.group, self.row.kind)) } else { Value::Array(Vec::new()) };
                let version = crate::meta::text(value, "resourceVersion");
                json!({
                    "kind": "Table",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"resourceVersion": version},
                    "columnDefinitions": definitions,
                    "rows": [self.table_row(value)],
                })
            }
        }
    }

    /// The object of a watch event.
    pub(crate) fn event_object(&self, stored: &Stored, first: bool) -> Bytes {
        if self.is_identity() {
            return stored.json.clone();
        }
        let out = self.one_value(&self.converted(stored), first);
        Bytes::from(serde_json::to_vec(&out).unwrap_or_default())
    }

    /// Head of a list document, up to and with the opening bracket of its items.
    pub(crate) fn list_head(&self, metadata: &Value) -> Bytes {
        let (kind, version, items) = match self.shape {
            Shape::Whole | Shape::Discovery => (self.row.list_kind(), self.row.api_version(), "items"),
            Shape::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned(), "items"),
            Shape::Table => ("Table".to_owned(), "meta.k8s.io/v1".to_owned(), "rows"),
        };
        let columns = match self.shape {
            Shape::Table => format!("\"columnDefinitions\":{},", scheme::columns((self.row.group, self.row.kind))),
            _ => String::new(),
        };
        Bytes::from(format!(
            "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},{columns}\"{items}\":["
        ))
    }

    /// One item of a list document.
    pub(crate) fn list_item(&self, stored: &Stored) -> Bytes {
        if self.is_identity() {
            return stored.json.clone();
        }
        let value = self.converted(stored);
        let out = match self.shape {
            Shape::Whole | Shape::Discovery => return Bytes::from(serde_json::to_vec(&*value).unwrap_or_default()),
            Shape::Metadata => partial(&value),
            Shape::Table => self.table_row(&value),
        };
        Bytes::from(serde_json::to_vec(&out).unwrap_or_default())
    }

    /// Objects of another kind than the resource's, or that are never stored, as one object or as a list.
    pub(crate) fn made(&self, kind: (&str, &str), value: &Value) -> Value {
        let items = value.get("items").and_then(Value::as_array);
        match (self.shape, items) {
            (Shape::Whole | Shape::Discovery, _) => value.clone(),
            (Shape::Metadata, None) => partial(value),
            (Shape::Metadata, Some(items)) => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": value["metadata"],
                "items": items.iter().map(partial).collect::<Vec<_>>(),
            }),
            (Shape::Table, items) => {
                let rows = items.map_or(std::slice::from_ref(value), Vec::as_slice);
                json!({
                    "kind": "Table",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"resourceVersion": crate::meta::text(value, "resourceVersion")},
                    "columnDefinitions": scheme::columns(kind),
                    "rows": rows.iter().map(|item| self.row_of(kind, item)).collect::<Vec<_>>(),
                })
            }
        }
    }

    fn table_row(&self, value: &Value) -> Value {
        self.row_of((self.row.group, self.row.kind), value)
    }

    fn row_of(&self, kind: (&str, &str), value: &Value) -> Value {
        let mut row = scheme::table_row(kind, value, self.now);
        match self.include {
            IncludeObject::None => {}
            IncludeObject::Metadata => row["object"] = partial(value),
            IncludeObject::Object => row["object"] = value.clone(),
        }
        row
    }
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn partial(value: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": value.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}
