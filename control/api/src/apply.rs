//! Server-side apply: who owns which field, and what happens when two want the same one.
//!
//! The model is upstream's (KEP-555): every manager has a set of fields in `metadata.managedFields`. [`apply`] merges a
//! configuration into the live object, takes away what the manager no longer lists and nobody else owns, and refuses
//! (or, forced, takes over) fields that others own with another value. [`track_update`] does the book-keeping of every
//! other write: whoever changes a field owns it.

mod fields;
mod managers;
mod walk;

use serde_json::Value;

use crate::field::{FieldError, quote};
use crate::meta;
use crate::schema::Struct;
use crate::status::{Status, StatusCause};

pub use fields::{Element, FieldSet};
use managers::{Entry, Managers};
use walk::View;

/// What kind of write made the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who writes, as `managedFields` records it.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The `fieldManager` parameter; for other writes than apply by default the user agent up to its first slash.
    pub name: &'a str,
    /// `v1`, `apps/v1`: the version that the request speaks.
    pub api_version: &'a str,
    /// `""`, `status`, `scale`
    pub subresource: &'a str,
    /// RFC 3339.
    pub now: &'a str,
}

/// The longest name that a manager may have.
const MAX_MANAGER_NAME: usize = 128;

/// What upstream never tracks: every writer has them.
const UNTRACKED_META: [&str; 8] =
    ["name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion"];

/// The manager's name of a write that gave none: the user agent up to its first slash.
pub fn manager_of_user_agent(user_agent: &str) -> &str {
    let name = user_agent.split('/').next().unwrap_or_default();
    let mut end = name.len().min(MAX_MANAGER_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// Applies `config` (decoded and conformed) over `live` and returns the new object with its managed fields.
///
/// # Errors
/// 409 with a cause per field that another manager owns with another value, unless `force`; 422 without a manager's
/// name; 400 for a configuration that carries managed fields or repeats an item of a keyed list.
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    schema: Option<&Struct>,
    manager: Manager<'_>,
    force: bool,
) -> Result<Value, Status> {
    check_manager(manager.name)?;
    if config.get("metadata").and_then(|m| m.get("managedFields")).is_some() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let view = schema.map_or(View::Deduced, View::Struct);
    if let Some(why) = walk::repeated_item(config, view, "") {
        let (namespace, name) = (meta::namespace(config), meta::name(config));
        return Err(Status::bad_request(format!(
            "failed to create typed patch object ({namespace}/{name}; {}, Kind={}): {why}",
            meta::api_version(config),
            meta::kind(config)
        )));
    }
    let mut config_set = walk::owned(config, view, false);
    strip(&mut config_set);
    let mut managers = live.map(Managers::of).unwrap_or_default();
    let mine = Entry::key(manager, Operation::Apply);
    let last = managers.take(&mine);

    let mut object = match live {
        Some(live) => walk::merged(live, config, view),
        None => config.clone(),
    };
    if let Some(last) = &last {
        let others: Vec<&FieldSet> = managers.entries().map(|e| &e.fields).collect();
        walk::prune(&mut object, &last.fields, Some(config), &others, view);
    }
    if let Some(live) = live {
        let mut conflicts = Vec::new();
        for entry in managers.entries_mut() {
            let mut lost = FieldSet::default();
            walk::conflicts(live, &object, &config_set, &entry.fields, view, &mut lost);
            if force {
                entry.fields.subtract(&lost);
            } else {
                conflicts.extend(lost.paths().into_iter().map(|path| (entry.title(), path)));
            }
        }
        if !conflicts.is_empty() {
            return Err(conflict(conflicts));
        }
    }
    let unchanged = last.as_ref().is_some_and(|last| last.fields == config_set);
    let time = match &last {
        Some(last) if unchanged => last.time.clone(),
        _ => manager.now.to_owned(),
    };
    managers.put(Entry { fields: config_set, time, ..mine });
    managers.write(&mut object);
    Ok(object)
}

/// Records in `new` that the manager changed what differs from `old` (`None` for a create).
pub fn track_update(old: Option<&Value>, new: &mut Value, schema: Option<&Struct>, manager: Manager<'_>) {
    let view = schema.map_or(View::Deduced, View::Struct);
    let reset = new
        .get("metadata")
        .and_then(|m| m.get("managedFields"))
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(|entry| entry.as_object().is_some_and(serde_json::Map::is_empty)));
    // A writer may empty the list, to start over; what else it says of it doesn't count.
    let mut managers = match old {
        Some(old) if !reset => Managers::of(old),
        _ => Managers::default(),
    };
    let (mut changed, mut removed) = match old {
        Some(old) => walk::compared(old, new, view),
        None => (walk::owned(new, view, true), FieldSet::default()),
    };
    strip(&mut changed);
    strip(&mut removed);
    for entry in managers.entries_mut() {
        entry.fields.subtract(&removed);
        entry.fields.subtract(&changed);
    }
    if !changed.is_empty() {
        let key = Entry::key(manager, Operation::Update);
        let mut mine = managers.take(&key).unwrap_or(key);
        mine.fields.unite(&changed);
        manager.now.clone_into(&mut mine.time);
        managers.put(mine);
    }
    managers.write(new);
}

fn check_manager(name: &str) -> Result<(), Status> {
    let error = if name.is_empty() {
        FieldError::required("fieldManager", "is required for apply patch")
    } else if name.len() > MAX_MANAGER_NAME {
        FieldError::too_long("fieldManager", MAX_MANAGER_NAME)
    } else if name.chars().any(char::is_control) {
        FieldError::invalid("fieldManager", name, "should only contain printable characters")
    } else {
        return Ok(());
    };
    Err(Status::invalid("PatchOptions", "meta.k8s.io", "", &[error]))
}

fn strip(set: &mut FieldSet) {
    for top in ["apiVersion", "kind"] {
        set.remove_field(&[top]);
    }
    for field in UNTRACKED_META {
        set.remove_field(&["metadata", field]);
    }
    set.unmark_field("metadata");
}

fn conflict(mut conflicts: Vec<(String, String)>) -> Status {
    conflicts.sort();
    let causes = conflicts
        .iter()
        .map(|(manager, path)| StatusCause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with {manager}"),
            field: path.clone(),
        })
        .collect();
    let message = if let [(manager, path)] = conflicts.as_slice() {
        format!("Apply failed with 1 conflict: conflict with {manager}: {path}")
    } else {
        let mut lines = Vec::new();
        let mut last = "";
        for (manager, path) in &conflicts {
            if manager != last {
                lines.push(format!("conflicts with {manager}:"));
                last = manager;
            }
            lines.push(format!("- {path}"));
        }
        format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
    };
    Status::apply_conflict(causes, message)
}

impl Entry {
    /// `"kubectl" with subresource "scale" using apps/v1 at 2026-01-02T03:04:05Z`
    fn title(&self) -> String {
        let mut title = quote(&self.manager);
        if !self.subresource.is_empty() {
            title.push_str(&format!(" with subresource {}", quote(&self.subresource)));
        }
        if self.operation == Operation::Update {
            title.push_str(&format!(" using {}", self.api_version));
            if !self.time.is_empty() {
                title.push_str(&format!(" at {}", self.time));
            }
        }
        title
    }
}

#[cfg(test)]
mod tests;
