//! Strategic merge patch: a merge patch that knows which lists are keyed.
//!
//! Directives: `$patch: replace|delete` in objects and list items, `$retainKeys`, `$deleteFromPrimitiveList/FIELD`,
//! `$setElementOrder/FIELD`. Lists without a merge key are replaced. The order of a merged list is that of
//! `$setElementOrder` (or of the patch) for the items it names; the others keep their place relative to them.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::field::go_json;
use crate::schema::{FieldFacts, Struct, Type};
use crate::status::Status;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Why a patch can't be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    #[error("invalid patch format of primitive list")]
    PrimitiveListFormat,
    #[error("invalid patch format of retainKeys")]
    RetainKeysFormat,
    #[error("invalid patch format of setElementOrder list")]
    ElementOrderFormat,
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    ElementOrderMismatch { patch: String, order: String },
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey { map: String, key: String },
    #[error("unknown patch type: {directive} in map: {map}")]
    UnknownDirective { directive: String, map: String },
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirectiveInList,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("expected a list of objects, but found {0} in it")]
    MixedList(&'static str),
}

impl StrategicError {
    /// 400, and 422 for what is well-formed and yet impossible.
    pub fn status(&self) -> Status {
        match self {
            Self::ListOfLists => super::unprocessable(&self.to_string()),
            _ => Status::bad_request(self.to_string()),
        }
    }
}

/// What is known of the object that is being merged.
#[derive(Clone, Copy)]
enum Shape<'a> {
    Struct(&'a Struct),
    Map(&'a Type),
    Free,
}

impl<'a> Shape<'a> {
    fn of(ty: &'a Type) -> Self {
        match ty {
            Type::Struct(id) => Self::Struct(id.get()),
            Type::Map(values) => Self::Map(values),
            _ => Self::Free,
        }
    }

    fn field(self, name: &str) -> (Option<&'a Type>, Option<&'a FieldFacts>) {
        match self {
            Self::Struct(schema) => match schema.field(name) {
                Some(field) => (Some(&field.ty), Some(&field.facts)),
                None => (None, None),
            },
            Self::Map(values) => (Some(values), None),
            Self::Free => (None, None),
        }
    }
}

/// Merges `patch` into `original`, an object of the kind that `schema` describes.
///
/// # Errors
/// See [`StrategicError`].
pub fn apply(original: Value, patch: Value, schema: &Struct) -> Result<Value, StrategicError> {
    let original = if let Value::Object(map) = original { map } else { Map::new() };
    let Value::Object(patch) = patch else { return Ok(Value::Object(original)) };
    merge_map(original, patch, Shape::Struct(schema)).map(Value::Object)
}

type Object = Map<String, Value>;

fn merge_map(mut original: Object, mut patch: Object, shape: Shape<'_>) -> Result<Object, StrategicError> {
    if let Some(directive) = patch.get(PATCH) {
        return match directive.as_str() {
            Some("replace") => {
                patch.shift_remove(PATCH);
                Ok(clean_map(patch))
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(&patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order_lists(&mut original, &mut patch, shape)?;
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_PREFIX) {
            let Value::Array(gone) = value else { return Err(StrategicError::PrimitiveListFormat) };
            if let Some(Value::Array(items)) = original.get_mut(field) {
                let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
                items.retain(|item| !gone.contains(&item.to_string()));
            }
            continue;
        }
        if value.is_null() {
            original.shift_remove(&key);
            continue;
        }
        let (ty, facts) = shape.field(&key);
        let merged = match (original.get_mut(&key).map(Value::take), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                if facts.is_some_and(|f| f.replace) {
                    Some(Value::Object(clean_map(new)))
                } else {
                    Some(Value::Object(merge_map(old, new, ty.map_or(Shape::Free, Shape::of))?))
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => Some(Value::Array(merge_list(old, new, ty, facts)?)),
            (_, new) => clean(new),
        };
        match merged {
            Some(value) => original.insert(key, value),
            None => original.shift_remove(&key),
        };
    }
    Ok(original)
}

fn unknown_directive(map: &Object) -> StrategicError {
    let directive = map.get(PATCH).map(|d| d.as_str().map_or_else(|| d.to_string(), str::to_owned)).unwrap_or_default();
    StrategicError::UnknownDirective { directive, map: go_json(&Value::Object(map.clone())) }
}

/// `$retainKeys`: everything in the original that it doesn't name goes.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), StrategicError> {
    let Some(keys) = patch.shift_remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(StrategicError::RetainKeysFormat) };
    let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let named = |(key, value): (&String, &Value)| {
        value.is_null()
            || key.starts_with(DELETE_PREFIX)
            || key.starts_with(ORDER_PREFIX)
            || keys.contains(key.as_str())
    };
    if !patch.iter().all(named) {
        return Err(StrategicError::RetainKeysFormat);
    }
    original.retain(|key, _| keys.contains(key.as_str()));
    Ok(())
}

/// `$setElementOrder/FIELD`: merges the field's list here, in the order given.
fn order_lists(original: &mut Object, patch: &mut Object, shape: Shape<'_>) -> Result<(), StrategicError> {
    let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(ORDER_PREFIX)).cloned().collect();
    for directive in directives {
        let Some(Value::Array(order)) = patch.shift_remove(&directive) else {
            return Err(StrategicError::ElementOrderFormat);
        };
        let field = &directive[ORDER_PREFIX.len()..];
        let (ty, facts) = shape.field(field);
        let key = facts.and_then(|f| f.merge_key).unwrap_or_default();
        let new = match patch.get(field) {
            Some(Value::Array(_)) => match patch.shift_remove(field) {
                Some(Value::Array(items)) => Some(items),
                _ => None,
            },
            // Null removes the list; the loop over the patch does it.
            Some(Value::Null) => continue,
            Some(_) => return Err(StrategicError::ElementOrderFormat),
            None => None,
        };
        if let Some(new) = &new {
            check_order(new, &order, key)?;
        }
        let old = match original.get_mut(field) {
            Some(Value::Array(items)) => Some(std::mem::take(items)),
            _ => None,
        };
        let server_order = keys_of(old.as_deref().unwrap_or_default(), key);
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(clean).collect(),
            (Some(old), Some(new)) => merge_list(old, new, ty, facts)?,
        };
        let ordered = arrange(merged, &keys_of(&order, key), &server_order, key)?;
        original.insert(field.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

/// The patch's items must come in the order that `$setElementOrder` gives them.
fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), StrategicError> {
    if order.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let wanted = item_key(item, key)?;
        if !rest.any(|o| item_key(o, key).is_ok_and(|k| k == wanted)) {
            return Err(StrategicError::ElementOrderMismatch {
                patch: go_json(&Value::Array(patch.to_vec())),
                order: go_json(&Value::Array(order.to_vec())),
            });
        }
    }
    Ok(())
}

fn merge_list(
    old: Vec<Value>,
    new: Vec<Value>,
    ty: Option<&Type>,
    facts: Option<&FieldFacts>,
) -> Result<Vec<Value>, StrategicError> {
    let Some(key) = facts.and_then(|f| f.merge_key) else {
        return Ok(new.into_iter().filter_map(clean).collect());
    };
    if old.iter().chain(&new).any(Value::is_array) {
        return Err(StrategicError::ListOfLists);
    }
    if key.is_empty() {
        return merge_scalars(old, new);
    }
    merge_items(old, new, key, ty.and_then(Type::items).map_or(Shape::Free, Shape::of))
}

fn merge_scalars(old: Vec<Value>, new: Vec<Value>) -> Result<Vec<Value>, StrategicError> {
    let server_order = keys_of(&old, "");
    let patch_order = keys_of(&new, "");
    let mut seen = HashSet::new();
    let both: Vec<Value> = old.into_iter().chain(new).filter(|v| seen.insert(v.to_string())).collect();
    arrange(both, &patch_order, &server_order, "")
}

fn merge_items(
    mut items: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
    shape: Shape<'_>,
) -> Result<Vec<Value>, StrategicError> {
    let mut changes = Vec::with_capacity(patch.len());
    let mut gone = HashSet::new();
    let mut replace = false;
    for item in patch {
        let Value::Object(map) = item else { return Err(StrategicError::MixedList("a scalar")) };
        match map.get(PATCH).map(Value::as_str) {
            None => changes.push(map),
            Some(Some("delete")) => {
                gone.insert(map_key(&map, key)?);
            }
            Some(Some("replace")) => replace = true,
            Some(Some("merge")) => return Err(StrategicError::MergeDirectiveInList),
            Some(_) => return Err(unknown_directive(&map)),
        }
    }
    if replace {
        return Ok(changes.into_iter().map(|map| Value::Object(clean_map(map))).collect());
    }
    if !gone.is_empty() {
        items.retain(|item| !item_key(item, key).is_ok_and(|k| gone.contains(&k)));
    }
    let server_order = keys_of(&items, key);
    let mut at: HashMap<String, usize> = HashMap::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        // The first of several with one key is the one that is found.
        at.entry(item_key(item, key)?).or_insert(i);
    }
    let mut patch_order = HashMap::with_capacity(changes.len());
    for change in changes {
        let name = map_key(&change, key)?;
        let place = patch_order.len();
        patch_order.entry(name.clone()).or_insert(place);
        match at.get(&name) {
            Some(i) => {
                let Value::Object(old) = items[*i].take() else { return Err(StrategicError::MixedList("a scalar")) };
                items[*i] = Value::Object(merge_map(old, change, shape)?);
            }
            None => {
                at.insert(name, items.len());
                items.push(Value::Object(clean_map(change)));
            }
        }
    }
    arrange(items, &patch_order, &server_order, key)
}

/// Items that `patch_order` names come in its order; the others in the server's, each before the first patched item
/// that it preceded on the server.
fn arrange(
    items: Vec<Value>,
    patch_order: &HashMap<String, usize>,
    server_order: &HashMap<String, usize>,
    key: &str,
) -> Result<Vec<Value>, StrategicError> {
    let mut patched = Vec::new();
    let mut others = Vec::new();
    for item in items {
        let name = item_key(&item, key)?;
        let on_server = server_order.get(&name).copied();
        match patch_order.get(&name) {
            Some(place) => patched.push((*place, on_server, item)),
            None => others.push((on_server, item)),
        }
    }
    patched.sort_by_key(|(place, ..)| *place);
    others.sort_by_key(|(on_server, _)| on_server.unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(patched.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, on_server, item) in patched {
        while let (Some(mine), Some((Some(theirs), _))) = (on_server, others.peek()) {
            if *theirs >= mine {
                break;
            }
            out.extend(others.next().map(|(_, item)| item));
        }
        out.push(item);
    }
    out.extend(others.map(|(_, item)| item));
    Ok(out)
}

/// Key of each item to its place; items without the key are left out.
fn keys_of(items: &[Value], key: &str) -> HashMap<String, usize> {
    let mut out = HashMap::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        if let Ok(name) = item_key(item, key) {
            out.entry(name).or_insert(i);
        }
    }
    out
}

/// The value that tells the item from others; the item itself in lists of scalars (`key` empty).
fn item_key(item: &Value, key: &str) -> Result<String, StrategicError> {
    match item {
        _ if key.is_empty() => Ok(item.to_string()),
        Value::Object(map) => map_key(map, key),
        _ => Err(StrategicError::MixedList("a scalar")),
    }
}

fn map_key(map: &Object, key: &str) -> Result<String, StrategicError> {
    match map.get(key) {
        Some(value) => Ok(value.to_string()),
        None => Err(StrategicError::NoMergeKey { map: go_json(&Value::Object(map.clone())), key: key.to_owned() }),
    }
}

/// What of a patch becomes a new value: no nulls, no directives; `None` for what a directive took away.
fn clean(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => Some(Value::Object(clean_map(map))),
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(clean).collect())),
        scalar => Some(scalar),
    }
}

fn clean_map(map: Object) -> Object {
    map.into_iter()
        .filter(|(key, value)| {
            !value.is_null() && key != RETAIN_KEYS && !key.starts_with(DELETE_PREFIX) && !key.starts_with(ORDER_PREFIX)
        })
        .filter_map(|(key, value)| clean(value).map(|value| (key, value)))
        .collect()
}
