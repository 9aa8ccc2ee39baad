//! watch: from the cache's ring, in frames of one JSON document per event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use orlop_api::status::Status;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::read::Selection;
use crate::call::Call;
use crate::errors;
use crate::storage::cache::{Cursor, CursorError};
use crate::storage::key_prefix;
use crate::storage::object::{Event, EventKind, FRAME_END, Stored, frame};
use crate::transform::Transform;
use crate::wire::query::ListOptions;
use crate::wire::{BoxError, Response};

const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// A last bookmark goes out this long before the watch ends.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// Frames joined into one piece of the body, in bytes.
const PIECE: usize = 64 << 10;

pub(crate) async fn watch(call: &Call, guard: impl Send + 'static) -> Result<Response, Status> {
    let options = ListOptions::parse(&call.query, true)?;
    let selection = Selection::parse(call, &options.label_selector, &options.field_selector)?;
    let prefix = key_prefix(call.namespace());
    let start = begin(call, &options, &prefix).await?;
    let timeout = options.timeout_s.map_or_else(|| default_timeout(call), Duration::from_secs);
    let deadline = Instant::now() + timeout;
    let watcher = Watcher {
        transform: call.transform(),
        selection,
        prefix,
        bookmarks: options.bookmarks,
        next_bookmark: bookmark_time(deadline),
        deadline,
        shutdown: call.app.shutdown.clone(),
        clock: call.app.config.clock.clone(),
        first_object: true,
        revision: start.revision,
        initial: start.initial.into_iter(),
        announce_initial_end: start.announce_end && options.bookmarks,
        cursor: start.cursor,
        error: start.error,
        ended: false,
        sent: call.app.metrics.watch_events(call.row),
        _guard: Box::new(guard),
    };
    let body = StreamBody::new(stream::unfold(watcher, |mut watcher| async move {
        let piece = watcher.next_piece().await?;
        Some((Ok::<_, BoxError>(Frame::data(piece)), watcher))
    }));
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

/// Spread over a range, so that clients that connected together don't all come back together.
fn default_timeout(call: &Call) -> Duration {
    call.app.config.limits.min_watch.mul_f64(1.0 + rand::random::<f64>())
}

fn bookmark_time(deadline: Instant) -> Instant {
    let regular = Instant::now() + BOOKMARK_EVERY;
    let last = deadline.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(deadline);
    if last > Instant::now() { regular.min(last) } else { regular }
}

/// Where a watch starts.
struct Start {
    initial: Vec<Arc<Stored>>,
    announce_end: bool,
    cursor: Option<Cursor>,
    /// Sent instead of events.
    error: Option<Status>,
    revision: i64,
}

async fn begin(call: &Call, options: &ListOptions, prefix: &str) -> Result<Start, Status> {
    let storage = call.storage()?;
    let with_state = options.send_initial_events.unwrap_or(matches!(options.resource_version, None | Some(0)));
    match options.resource_version {
        None => storage.wait_current().await?,
        Some(0) => storage.wait_fresh(0).await?,
        // A revision of the future is waited for, as upstream's cache does.
        Some(version) => storage.wait_fresh(version).await?,
    }
    if with_state {
        let (snapshot, cursor) = storage.cache.list_and_watch(prefix);
        return Ok(Start {
            initial: snapshot.objects,
            announce_end: options.send_initial_events == Some(true),
            cursor: Some(cursor),
            error: None,
            revision: snapshot.revision,
        });
    }
    let from = match options.resource_version {
        None | Some(0) => storage.cache.revision(),
        Some(version) => version,
    };
    let (cursor, error) = match storage.cache.watch_after(from) {
        Ok(cursor) => (Some(cursor), None),
        Err(CursorError::TooOld { oldest }) => (None, Some(errors::too_old(from, oldest))),
        Err(CursorError::Lagged) => (None, None),
    };
    Ok(Start { initial: Vec::new(), announce_end: false, cursor, error, revision: from })
}

struct Watcher {
    transform: Transform,
    selection: Selection,
    prefix: String,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    shutdown: CancellationToken,
    clock: crate::authn::Clock,
    /// Tables carry their columns once.
    first_object: bool,
    /// Everything up to here was sent or was none of the client's business.
    revision: i64,
    initial: std::vec::IntoIter<Arc<Stored>>,
    announce_initial_end: bool,
    cursor: Option<Cursor>,
    error: Option<Status>,
    ended: bool,
    sent: crate::metrics::WatchEvents,
    /// Released with the watch: its share of the limits, its gauge.
    _guard: Box<dyn Send>,
}

impl Watcher {
    /// The next bytes of the body; `None` ends it.
    async fn next_piece(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if let Some(piece) = self.initial_piece() {
            return Some(piece);
        }
        if let Some(error) = self.error.take() {
            self.ended = true;
            return Some(line(&json!({"type": "ERROR", "object": error.to_value()})));
        }
        loop {
            match self.ready_events() {
                Ok(piece) if !piece.is_empty() => return Some(piece),
                Ok(_) => {}
                Err(()) => {
                    self.ended = true;
                    return None;
                }
            }
            let cursor = self.cursor.as_mut()?;
            tokio::select! {
                more = cursor.changed() => if !more { return None },
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = bookmark_time(self.deadline);
                    return Some(self.bookmark(false));
                }
                () = tokio::time::sleep_until(self.deadline) => return None,
                () = self.shutdown.cancelled() => return None,
            }
        }
    }

    /// Objects that were there when the watch began, then the bookmark that says so.
    fn initial_piece(&mut self) -> Option<Bytes> {
        let mut out = Pieces::default();
        while let Some(object) = self.initial.next() {
            if self.selection.matches(&object) {
                out.push(&self.frame(EventKind::Added, &object));
                if out.is_full() {
                    break;
                }
            }
        }
        if self.initial.as_slice().is_empty() && self.announce_initial_end {
            self.announce_initial_end = false;
            out.push(&self.bookmark(true));
        }
        (!out.is_empty()).then(|| out.finish())
    }

    /// Frames of the events since the last look; empty when none concerns this client.
    fn ready_events(&mut self) -> Result<Bytes, ()> {
        let mut out = Pieces::default();
        loop {
            let batch = self.cursor.as_mut().ok_or(())?.poll().map_err(|error| {
                tracing::debug!(?error, resource = self.transform.row.plural, "watcher cut");
            })?;
            for event in &batch.events {
                if let Some(frame) = self.event_frame(event) {
                    out.push(&frame);
                }
            }
            self.revision = self.revision.max(batch.revision);
            if batch.events.is_empty() || out.is_full() {
                return Ok(out.finish());
            }
        }
    }

    fn event_frame(&mut self, event: &Event) -> Option<Bytes> {
        if !event.object.key.starts_with(self.prefix.as_str()) {
            return None;
        }
        let kind = self.kind_for_client(event)?;
        self.sent.inc();
        if kind == event.kind && self.transform.is_identity() {
            return Some(event.frame.clone());
        }
        if kind == EventKind::Deleted
            && let Some(previous) = event.previous.as_ref().filter(|_| event.kind == EventKind::Modified)
        {
            // It left the selection: the client gets what it knew, at the revision of the change.
            let mut last = previous.value().as_ref().clone();
            crate::meta::set(&mut last, "resourceVersion", event.revision.to_string());
            let json = serde_json::to_vec(&last).unwrap_or_default();
            let last = Stored::new(previous.key.clone(), event.revision, previous.lease, json.into());
            return Some(self.frame(kind, &last));
        }
        Some(self.frame(kind, &event.object))
    }

    /// A change may move an object into or out of the selection.
    fn kind_for_client(&self, event: &Event) -> Option<EventKind> {
        if self.selection.everything {
            return Some(event.kind);
        }
        let before = event.previous.as_ref().is_some_and(|p| self.selection.matches(p));
        let now = event.kind != EventKind::Deleted && self.selection.matches(&event.object);
        match (before, now) {
            (false, true) => Some(EventKind::Added),
            (true, true) => Some(EventKind::Modified),
            (true, false) => Some(EventKind::Deleted),
            (false, false) => None,
        }
    }

    fn frame(&mut self, kind: EventKind, object: &Stored) -> Bytes {
        self.transform.now = (self.clock)();
        let json = self.transform.event_object(object, self.first_object);
        self.first_object = false;
        frame(kind, &json)
    }

    fn bookmark(&mut self, initial_end: bool) -> Bytes {
        use crate::wire::negotiate::Shape;
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let row = self.transform.row;
        let bare = json!({"kind": row.kind, "apiVersion": row.api_version(), "metadata": metadata});
        let object: Value = match self.transform.shape {
            Shape::Whole | Shape::Discovery => bare,
            Shape::Metadata | Shape::Table => {
                let first = std::mem::take(&mut self.first_object);
                self.transform.one_value(&bare, first)
            }
        };
        line(&json!({"type": "BOOKMARK", "object": object}))
    }
}

fn line(value: &Value) -> Bytes {
    let mut out = serde_json::to_vec(value).unwrap_or_default();
    out.push(b'\n');
    Bytes::from(out)
}

/// Joins frames; a single one is passed on without copying, shared with all other watchers.
#[derive(Default)]
struct Pieces {
    first: Option<Bytes>,
    joined: Vec<u8>,
}

impl Pieces {
    fn push(&mut self, frame: &Bytes) {
        debug_assert!(frame.ends_with(&FRAME_END[1..]));
        match (&self.first, self.joined.is_empty()) {
            (None, true) => self.first = Some(frame.clone()),
            (Some(first), true) => {
                self.joined.extend_from_slice(first);
                self.joined.extend_from_slice(frame);
            }
            _ => self.joined.extend_from_slice(frame),
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn is_full(&self) -> bool {
        self.joined.len().max(self.first.as_ref().map_or(0, Bytes::len)) >= PIECE
    }

    fn finish(self) -> Bytes {
        if self.joined.is_empty() { self.first.unwrap_or_default() } else { Bytes::from(self.joined) }
    }
}
