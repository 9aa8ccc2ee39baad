//! `metadata.managedFields` read and written.

use serde_json::{Map, Value, json};

use super::{FieldSet, Manager, Operation};
use crate::meta;

/// Entries of plain updates that are kept; the oldest beyond them are thrown together.
const MAX_UPDATE_ENTRIES: usize = 10;
/// Who owns the fields of the entries that were thrown together.
const ANCIENT: &str = "ancient-changes";

/// One manager's entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// RFC 3339; may be empty.
    pub(super) time: String,
    pub(super) fields: FieldSet,
}

impl Entry {
    /// An empty entry of a manager.
    pub(super) fn key(manager: Manager<'_>, operation: Operation) -> Self {
        Self {
            manager: manager.name.to_owned(),
            operation,
            api_version: manager.api_version.to_owned(),
            subresource: manager.subresource.to_owned(),
            time: String::new(),
            fields: FieldSet::default(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        // An applier is one manager, whatever version it speaks.
        (self.operation, &self.manager, &self.subresource) == (other.operation, &other.manager, &other.subresource)
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    fn decode(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match value.get("operation")?.as_str()? {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        Some(Self {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields: FieldSet::decode(value.get("fieldsV1")?),
        })
    }

    fn encode(&self) -> Value {
        let mut out = Map::new();
        out.insert("manager".into(), self.manager.as_str().into());
        out.insert("operation".into(), self.operation.text().into());
        out.insert("apiVersion".into(), self.api_version.as_str().into());
        if !self.time.is_empty() {
            out.insert("time".into(), self.time.as_str().into());
        }
        out.insert("fieldsType".into(), json!("FieldsV1"));
        out.insert("fieldsV1".into(), self.fields.encode());
        if !self.subresource.is_empty() {
            out.insert("subresource".into(), self.subresource.as_str().into());
        }
        Value::Object(out)
    }
}

/// All entries of an object.
#[derive(Debug, Default)]
pub(super) struct Managers(Vec<Entry>);

impl Managers {
    pub(super) fn of(object: &Value) -> Self {
        let list = object.get("metadata").and_then(|m| m.get("managedFields")).and_then(Value::as_array);
        Self(list.into_iter().flatten().filter_map(Entry::decode).collect())
    }

    pub(super) fn take(&mut self, key: &Entry) -> Option<Entry> {
        let at = self.0.iter().position(|e| e.is(key))?;
        Some(self.0.remove(at))
    }

    pub(super) fn put(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.iter_mut()
    }

    /// Sorts, bounds and stores the entries; empty ones go.
    pub(super) fn write(mut self, object: &mut Value) {
        self.0.retain(|e| !e.fields.is_empty());
        self.0.sort_by(|a, b| {
            let key = |e: &Entry| {
                (e.operation, e.time.clone(), e.manager.clone(), e.api_version.clone(), e.subresource.clone())
            };
            key(a).cmp(&key(b))
        });
        self.bound();
        if self.0.is_empty() {
            meta::remove(object, "managedFields");
        } else {
            let entries: Vec<Value> = self.0.iter().map(Entry::encode).collect();
            meta::set(object, "managedFields", entries);
        }
    }

    /// Entries are sorted by time: the first updates are the oldest.
    fn bound(&mut self) {
        let updates = self.0.iter().filter(|e| e.operation == Operation::Update).count();
        let Some(excess) = updates.checked_sub(MAX_UPDATE_ENTRIES).filter(|n| *n > 0) else { return };
        let first = self.0.len() - updates;
        let old: Vec<Entry> = self.0.drain(first..=first + excess).collect();
        let mut merged: Option<Entry> = None;
        for entry in old {
            let ancient = merged.get_or_insert_with(|| Entry {
                manager: ANCIENT.to_owned(),
                subresource: String::new(),
                fields: FieldSet::default(),
                ..entry.clone()
            });
            ancient.fields.unite(&entry.fields);
            ancient.time = entry.time;
        }
        if let Some(ancient) = merged {
            self.0.insert(first, ancient);
        }
    }
}
