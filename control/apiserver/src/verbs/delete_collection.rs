//! deletecollection: everything that a list would show.

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use orlop_api::status::Status;
use serde_json::json;

use super::delete::{DeleteOptions, Deleted, delete_object};
use super::read::Selection;
use crate::call::Call;
use crate::meta;
use crate::storage::key_prefix;
use crate::wire::query::ListOptions;
use crate::wire::{Body, Response, respond};

/// Deletes that run at once (upstream `--delete-collection-workers`, 1 there; the store commits in groups).
const WORKERS: usize = 8;

pub(crate) async fn delete_collection(call: &Call, request_body: Body) -> Result<Response, Status> {
    let bytes = call.read_body(request_body).await?;
    let options = DeleteOptions::parse(call, &bytes)?;
    let list = ListOptions::parse(&call.query, false)?;
    let selection = Selection::parse(call, &list.label_selector, &list.field_selector)?;
    let storage = call.storage()?;
    storage.wait_current().await?;
    let snapshot = storage.cache.list(&key_prefix(call.namespace()), "", 0);
    let doomed: Vec<_> = snapshot.objects.into_iter().filter(|o| selection.matches(o)).collect();

    let options = &options;
    let results: Vec<_> = stream::iter(doomed)
        .map(|object| async move {
            let value = object.value();
            delete_object(call, &object.key, meta::name(&value), options).await
        })
        .buffered(WORKERS)
        .collect()
        .await;

    let transform = call.transform();
    let mut pieces = vec![transform.list_head(&json!({"resourceVersion": snapshot.revision.to_string()}))];
    for result in results {
        let object = match result {
            Ok((Deleted::Now(object) | Deleted::Later(object), _)) => object,
            // Somebody else was quicker.
            Err(status) if status.is_not_found() => continue,
            Err(status) => return Err(status),
        };
        if pieces.len() > 1 {
            pieces.push(Bytes::from_static(b","));
        }
        pieces.push(transform.list_item(&object));
    }
    pieces.push(Bytes::from_static(b"]}\n"));
    Ok(respond::json_pieces(call.accepted, pieces))
}
