//! What new Jobs get: a selector that can only match their own Pods, and the labels that it selects by. Without it
//! `kubectl logs job/NAME` would look at every Pod of the namespace.

use serde_json::{Value, json};

use crate::meta;

const NAMES: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const UID: &str = "batch.kubernetes.io/controller-uid";
const UIDS: [&str; 2] = ["controller-uid", UID];

/// The Job has its name and its UID already. What the user wrote stays: where it contradicts, it is the user's mistake
/// and not for us to hide.
pub(super) fn select_own_pods(job: &mut Value) {
    if job.pointer("/spec/manualSelector").and_then(Value::as_bool) == Some(true) {
        return;
    }
    let (name, uid) = (meta::name(job).to_owned(), meta::text(job, "uid").to_owned());
    let spec = meta::child_mut(job, "spec");
    let metadata = meta::object_in(meta::object_in(spec, "template"), "metadata");
    let labels = meta::object_in(metadata, "labels");
    for label in NAMES {
        labels.entry(label).or_insert_with(|| json!(name));
    }
    for label in UIDS {
        labels.entry(label).or_insert_with(|| json!(uid));
    }
    meta::object_in(meta::object_in(spec, "selector"), "matchLabels").entry(UID).or_insert_with(|| json!(uid));
}
