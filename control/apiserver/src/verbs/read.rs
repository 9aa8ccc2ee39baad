//! get and list.

use bytes::Bytes;
use orlop_api::selector::{FieldSelector, LabelSelector, parse_field_selector, parse_label_selector};
use orlop_api::status::Status;
use serde_json::json;

use crate::call::Call;
use crate::storage::continuation::Position;
use crate::storage::key_prefix;
use crate::storage::object::Stored;
use crate::wire::query::{ListOptions, VersionMatch};
use crate::wire::{Response, respond};

/// Objects of a list or watch that the client wants.
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    /// `metadata.name` pinned by the field selector.
    pub(crate) everything: bool,
}

impl Selection {
    pub(crate) fn parse(call: &Call, label_selector: &str, field_selector: &str) -> Result<Self, Status> {
        let labels = parse_label_selector(label_selector).map_err(|e| Status::bad_request(e.to_string()))?;
        // Fields are looked up in the stored version.
        let row = call.storage()?.row;
        let fields = parse_field_selector(call.row.group, call.row.version, call.row.kind, field_selector)
            .or_else(|e| {
                // Views of another group know the stored kind's fields too.
                parse_field_selector(row.group, row.version, row.kind, field_selector).map_err(|_| e)
            })
            .map_err(|e| Status::bad_request(e.to_string()))?;
        let everything = labels.is_everything() && fields.is_everything();
        Ok(Self { labels, fields, everything })
    }

    pub(crate) fn matches(&self, object: &Stored) -> bool {
        if self.everything {
            return true;
        }
        let value = object.value();
        self.labels.matches(&value) && self.fields.matches(&value)
    }
}

pub(crate) async fn get(call: &Call) -> Result<Response, Status> {
    let storage = call.storage()?;
    let key = call.key();
    let version = call.query.int("resourceVersion")?;
    let found = match version {
        // Any version will do, or one that the cache may have already.
        Some(version) if version >= 0 => {
            storage.wait_fresh(version).await?;
            storage.cache.get(&key)
        }
        _ => storage.get(&key).await?,
    };
    match found {
        Some(object) => Ok(call.respond_object(200, &object)),
        None => Err(Status::not_found(call.row, &call.info.name)),
    }
}

/// A page of a list.
struct Page {
    objects: Vec<std::sync::Arc<Stored>>,
    revision: i64,
    /// Where the next page starts.
    next: Option<String>,
    remaining: Option<usize>,
}

pub(crate) async fn list(call: &Call) -> Result<Response, Status> {
    let options = ListOptions::parse(&call.query, false)?;
    let selection = Selection::parse(call, &options.label_selector, &options.field_selector)?;
    let scope = format!("{}/{}", call.row.storage_prefix, call.info.namespace);
    let page = page(call, &options, &selection, &scope).await?;

    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(start) = page.next {
        let position = Position { revision: page.revision, start };
        metadata["continue"] = json!(call.app.continuation.encode(&scope, &position));
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    let transform = call.transform();
    let mut pieces = Vec::with_capacity(page.objects.len() * 2 + 2);
    pieces.push(transform.list_head(&metadata));
    for (i, object) in page.objects.iter().enumerate() {
        if i > 0 {
            pieces.push(Bytes::from_static(b","));
        }
        pieces.push(transform.list_item(object));
    }
    pieces.push(Bytes::from_static(b"]}\n"));
    Ok(respond::json_pieces(call.accepted, pieces))
}

async fn page(call: &Call, options: &ListOptions, selection: &Selection, scope: &str) -> Result<Page, Status> {
    let storage = call.storage()?;
    let prefix = key_prefix(call.namespace());
    if let Some(token) = &options.continuation {
        let position = call.app.continuation.decode(scope, token)?;
        return from_store(call, &prefix, &position.start, position.revision, options.limit, selection).await;
    }
    if options.version_match == VersionMatch::Exact {
        let revision = options.resource_version.unwrap_or(0);
        return from_store(call, &prefix, "", revision, options.limit, selection).await;
    }
    match options.resource_version {
        None => storage.wait_current().await?,
        Some(version) => storage.wait_fresh(version).await?,
    }
    // Upstream ignores the limit for resourceVersion "0".
    let limit = if options.resource_version == Some(0) { 0 } else { options.limit };
    if selection.everything {
        let snapshot = storage.cache.list(&prefix, "", limit);
        let next = (snapshot.remaining > 0).then(|| after(snapshot.objects.last())).flatten();
        return Ok(Page {
            remaining: Some(snapshot.remaining),
            objects: snapshot.objects,
            revision: snapshot.revision,
            next,
        });
    }
    let snapshot = storage.cache.list(&prefix, "", 0);
    let (mut objects, mut next) = (Vec::new(), None);
    for object in snapshot.objects {
        if !selection.matches(&object) {
            continue;
        }
        if limit > 0 && objects.len() == limit {
            next = after(objects.last());
            break;
        }
        objects.push(object);
    }
    Ok(Page { objects, revision: snapshot.revision, next, remaining: None })
}

/// The first key that may follow.
fn after(last: Option<&std::sync::Arc<Stored>>) -> Option<String> {
    last.map(|object| format!("{}\0", object.key))
}

/// Pages at one past revision come from the store, in reads of bounded size.
async fn from_store(
    call: &Call,
    prefix: &str,
    start: &str,
    revision: i64,
    limit: usize,
    selection: &Selection,
) -> Result<Page, Status> {
    const READ: usize = 500;
    let storage = call.storage()?;
    let mut start = start.to_owned();
    let mut revision = revision;
    let mut objects: Vec<std::sync::Arc<Stored>> = Vec::new();
    loop {
        let room = if limit > 0 { (limit - objects.len()).min(READ) } else { READ };
        let page = storage.list_store(prefix, &start, room, revision).await?;
        revision = page.revision;
        let read = page.objects.len();
        let last = after(page.objects.last());
        objects.extend(page.objects.into_iter().filter(|o| selection.matches(o)));
        match last {
            Some(last) if page.more => {
                if limit > 0 && objects.len() >= limit {
                    let remaining = selection.everything.then(|| page.count.saturating_sub(read));
                    return Ok(Page { objects, revision, next: Some(last), remaining });
                }
                start = last;
            }
            _ => return Ok(Page { objects, revision, next: None, remaining: None }),
        }
    }
}
