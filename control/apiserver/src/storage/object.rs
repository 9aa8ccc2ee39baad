//! One version of one object, and the event that brought it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use super::encoding;
use crate::reader::Object;

/// One version of one object. The bytes are what clients get; the parsed form is made when somebody
/// first asks for it, and dropped when a newer version takes its place.
pub(crate) struct Stored {
    /// `NAMESPACE/NAME`, or `NAME` for cluster-scoped objects.
    pub(crate) key: Arc<str>,
    pub(crate) revision: i64,
    pub(crate) lease: i64,
    pub(crate) json: Bytes,
    parsed: Mutex<Parsed>,
}

#[derive(Default)]
struct Parsed {
    value: Option<Object>,
    retired: bool,
}

impl Stored {
    pub(crate) fn new(key: Arc<str>, revision: i64, lease: i64, json: Bytes) -> Self {
        Self { key, revision, lease, json, parsed: Mutex::default() }
    }

    /// From the bytes of the store.
    pub(crate) fn from_store(key: Arc<str>, revision: i64, lease: i64, stored: &[u8]) -> Self {
        Self::new(key, revision, lease, encoding::with_revision(stored, revision))
    }

    /// The decoded object.
    pub(crate) fn value(&self) -> Object {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &parsed.value {
            return value.clone();
        }
        let value: Object = Arc::new(serde_json::from_slice(&self.json).unwrap_or(Value::Null));
        if !parsed.retired {
            parsed.value = Some(value.clone());
        }
        value
    }

    /// A newer version took its place: only the bytes stay, for watches that resume.
    pub(crate) fn retire(&self) {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        parsed.retired = true;
        parsed.value = None;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    /// Beginning of the frame, up to the object.
    pub(crate) fn prefix(self) -> &'static [u8] {
        match self {
            Self::Added => b"{\"type\":\"ADDED\",\"object\":",
            Self::Modified => b"{\"type\":\"MODIFIED\",\"object\":",
            Self::Deleted => b"{\"type\":\"DELETED\",\"object\":",
        }
    }
}

/// End of every frame.
pub(crate) const FRAME_END: &[u8] = b"}\n";

/// One change, shared by all watchers.
pub(crate) struct Event {
    pub(crate) revision: i64,
    pub(crate) kind: EventKind,
    /// For deletions the last state, at the deletion's revision.
    pub(crate) object: Arc<Stored>,
    pub(crate) previous: Option<Arc<Stored>>,
    /// The serialized watch event; `object.json` is a slice of it.
    pub(crate) frame: Bytes,
}

impl Event {
    /// An event from store bytes: one copy makes both the frame and the object's bytes.
    pub(crate) fn new(
        kind: EventKind,
        key: Arc<str>,
        revision: i64,
        lease: i64,
        stored: &[u8],
        previous: Option<Arc<Stored>>,
    ) -> Self {
        let prefix = kind.prefix();
        let mut frame = BytesMut::with_capacity(stored.len() + prefix.len() + 64);
        frame.put_slice(prefix);
        encoding::put_with_revision(&mut frame, stored, revision);
        frame.put_slice(FRAME_END);
        let frame = frame.freeze();
        let json = frame.slice(prefix.len()..frame.len() - FRAME_END.len());
        Self { revision, kind, object: Arc::new(Stored::new(key, revision, lease, json)), previous, frame }
    }

    /// A deletion where the store no longer told the last state: the cache's version at the new revision.
    pub(crate) fn deleted_from_cache(revision: i64, last: &Arc<Stored>) -> Self {
        let mut value = last.value().as_ref().clone();
        crate::meta::remove(&mut value, "resourceVersion");
        let stored = encoding::encode(&value);
        Self::new(EventKind::Deleted, last.key.clone(), revision, last.lease, &stored, Some(last.clone()))
    }
}

/// The frame of an object under another event type than it came with (selectors turn
/// modifications into additions and deletions).
pub(crate) fn frame(kind: EventKind, json: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(json.len() + 40);
    out.put_slice(kind.prefix());
    out.put_slice(json);
    out.put_slice(FRAME_END);
    out.freeze()
}
