//! patch: JSON, merge, strategic merge, and server-side apply.

use std::sync::{Mutex, PoisonError};

use orlop_api::patch::{self, PatchType};
use orlop_api::status::Status;
use orlop_api::strict;
use serde_json::Value;

use super::update::update_object;
use crate::call::Call;
use crate::wire::{Body, Response, body};

pub(crate) async fn patch(call: &Call, request_body: Body) -> Result<Response, Status> {
    let mut options = call.write_options()?;
    let patch_type = PatchType::of_content_type(&body::media_type(&call.headers))
        .ok_or_else(|| Status::unsupported_media_type(&PatchType::ACCEPTED))?;
    options.applies = patch_type == PatchType::Apply;
    let bytes = call.read_body(request_body).await?;
    if patch_type == PatchType::Apply && call.query.text("fieldManager").is_none() {
        return Err(Status::new(
            422,
            "Invalid",
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    }
    // `make` runs once per attempt; only the last attempt's warnings count.
    let warnings = Mutex::new(Vec::new());
    let keep = |found: Vec<String>| *warnings.lock().unwrap_or_else(PoisonError::into_inner) = found;
    let make = |current: Option<&Value>| -> Result<Option<Value>, Status> {
        if patch_type == PatchType::Apply {
            let decoded = strict::decode(&bytes, strict::Format::Yaml, call.row, options.field_validation)?;
            keep(decoded.warnings);
            return crate::managed::apply(call, current, &decoded.object, &options).map(Some);
        }
        let Some(current) = current else { return Ok(None) };
        let decoded = patch::apply(patch_type, current, &bytes, call.row, options.field_validation)?;
        keep(decoded.warnings);
        Ok(Some(decoded.object))
    };
    let options = &options;
    let mut outcome = update_object(call, options, make).await?;
    let warnings = warnings.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.warnings.splice(0..0, warnings);
    Ok(call.respond_written(&outcome))
}
