//! Walks objects along their schema: which fields they have, what two of them differ in, how they merge.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};

use super::fields::{Element, FieldSet};
use crate::schema::{FieldFacts, ListType, Struct, Type};

/// How apply sees a value.
#[derive(Clone, Copy)]
pub(super) enum View<'a> {
    /// One thing: scalars, and what is atomic.
    Leaf,
    Struct(&'a Struct),
    Map(&'a Type),
    Set,
    Keyed(&'a [&'static str], &'a Type),
    /// Without a schema: objects are granular, lists atomic.
    Deduced,
}

impl<'a> View<'a> {
    fn of(ty: &'a Type, facts: Option<&'a FieldFacts>) -> Self {
        let atomic = facts.and_then(|f| f.atomic_map);
        match ty {
            Type::Struct(id) => {
                let schema = id.get();
                if atomic.unwrap_or(schema.atomic) { Self::Leaf } else { Self::Struct(schema) }
            }
            Type::Map(values) if atomic != Some(true) => Self::Map(values),
            Type::List(items) => match facts.map(|f| &f.list_type) {
                Some(ListType::Set) => Self::Set,
                Some(ListType::Map(keys)) => Self::Keyed(keys, items),
                _ => Self::Leaf,
            },
            _ => Self::Leaf,
        }
    }

    fn field(self, name: &str) -> View<'a> {
        match self {
            Self::Struct(schema) => schema.field(name).map_or(Self::Leaf, |f| Self::of(&f.ty, Some(&f.facts))),
            Self::Map(values) => Self::of(values, None),
            Self::Deduced => Self::Deduced,
            _ => Self::Leaf,
        }
    }

    fn item(self) -> View<'a> {
        match self {
            Self::Keyed(_, items) => Self::of(items, None),
            _ => Self::Leaf,
        }
    }
}

/// The parts of a value that the view takes apart; `None` where it is one thing.
enum Parts<'v> {
    Fields(&'v Map<String, Value>),
    Items(Vec<(Element, &'v Value)>),
}

fn parts<'v>(value: &'v Value, view: View<'_>) -> Option<Parts<'v>> {
    match (view, value) {
        (View::Struct(_) | View::Map(_) | View::Deduced, Value::Object(map)) => Some(Parts::Fields(map)),
        (View::Set | View::Keyed(..), Value::Array(items)) => {
            items.iter().map(|item| Some((element(item, view)?, item))).collect::<Option<_>>().map(Parts::Items)
        }
        _ => None,
    }
}

/// The element that names an item; `None` for one without any of its keys.
fn element(item: &Value, view: View<'_>) -> Option<Element> {
    match view {
        View::Set => Some(Element::Value(item.to_string())),
        View::Keyed(keys, _) => {
            let mut found: BTreeMap<String, Value> = BTreeMap::new();
            for key in keys {
                match item.get(*key) {
                    Some(value) => {
                        found.insert((*key).to_owned(), value.clone());
                    }
                    // The one key with a default in upstream's types.
                    None if *key == "protocol" => {
                        found.insert("protocol".to_owned(), "TCP".into());
                    }
                    None => {}
                }
            }
            let named = keys.iter().any(|key| item.get(*key).is_some());
            named.then(|| Element::key(found))
        }
        _ => None,
    }
}

/// The fields that a value has. `containers` also takes in maps that hold others, as upstream does for updates.
pub(super) fn owned(value: &Value, view: View<'_>, containers: bool) -> FieldSet {
    let mut set = FieldSet::default();
    match parts(value, view) {
        None => set.member = true,
        Some(Parts::Fields(map)) => {
            set.member = containers && matches!(view, View::Map(_));
            for (name, value) in map {
                let mut below = owned(value, view.field(name), containers);
                let empty = value.as_object().is_some_and(Map::is_empty);
                below.member |= empty || value.is_null() || matches!(view, View::Map(_));
                set.insert(Element::Field(name.clone()), &below);
            }
        }
        Some(Parts::Items(items)) => {
            set.member = containers;
            for (element, item) in items {
                let mut below = owned(item, view.item(), containers);
                below.member = true;
                set.insert(element, &below);
            }
        }
    }
    set
}

/// Every node of a value, inner ones too.
fn everything(value: &Value, view: View<'_>) -> FieldSet {
    let mut set = FieldSet::leaf();
    match parts(value, view) {
        None => {}
        Some(Parts::Fields(map)) => {
            for (name, value) in map {
                set.insert(Element::Field(name.clone()), &everything(value, view.field(name)));
            }
        }
        Some(Parts::Items(items)) => {
            for (element, item) in items {
                set.insert(element, &everything(item, view.item()));
            }
        }
    }
    set
}

/// (added or modified, removed)
pub(super) fn compared(old: &Value, new: &Value, view: View<'_>) -> (FieldSet, FieldSet) {
    let mut changed = FieldSet::default();
    let mut removed = FieldSet::default();
    match (parts(old, view), parts(new, view)) {
        (Some(Parts::Fields(old)), Some(Parts::Fields(new))) => {
            for (name, value) in new {
                let element = Element::Field(name.clone());
                let below = view.field(name);
                match old.get(name) {
                    Some(before) => {
                        let (c, r) = compared(before, value, below);
                        changed.insert(element.clone(), &c);
                        removed.insert(element, &r);
                    }
                    None => {
                        let mut set = owned(value, below, true);
                        set.member |= matches!(view, View::Map(_)) || value.as_object().is_some_and(Map::is_empty);
                        changed.insert(element, &set);
                    }
                }
            }
            for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                removed.insert(Element::Field(name.clone()), &everything(value, view.field(name)));
            }
        }
        (Some(Parts::Items(old)), Some(Parts::Items(new))) => {
            let before: HashMap<Element, &Value> = old.iter().map(|(e, v)| (e.clone(), *v)).collect();
            let after: HashSet<Element> = new.iter().map(|(e, _)| e.clone()).collect();
            for (element, item) in new {
                match before.get(&element) {
                    Some(was) => {
                        let (c, r) = compared(was, item, view.item());
                        changed.insert(element.clone(), &c);
                        removed.insert(element, &r);
                    }
                    None => {
                        let mut set = owned(item, view.item(), true);
                        set.member = true;
                        changed.insert(element, &set);
                    }
                }
            }
            for (element, item) in old {
                if !after.contains(&element) {
                    removed.insert(element, &everything(item, view.item()));
                }
            }
        }
        _ if old == new => {}
        _ => {
            changed = owned(new, view, true);
            removed = everything(old, view);
            removed.subtract(&changed);
        }
    }
    (changed, removed)
}

/// `config` laid over `live`.
pub(super) fn merged(live: &Value, config: &Value, view: View<'_>) -> Value {
    match (parts(live, view), parts(config, view)) {
        (Some(Parts::Fields(live)), Some(Parts::Fields(config))) => {
            let mut out = live.clone();
            for (name, value) in config {
                let below = match live.get(name) {
                    Some(before) => merged(before, value, view.field(name)),
                    None => value.clone(),
                };
                out.insert(name.clone(), below);
            }
            Value::Object(out)
        }
        (Some(Parts::Items(live)), Some(Parts::Items(config))) => merged_items(&live, &config, view),
        _ => config.clone(),
    }
}

/// The configuration's items in its order; the others stay where they were relative to them.
fn merged_items(live: &[(Element, &Value)], config: &[(Element, &Value)], view: View<'_>) -> Value {
    let mut wanted: BTreeMap<&Element, (usize, &Value)> = BTreeMap::new();
    for (place, (element, item)) in config.iter().enumerate() {
        wanted.entry(element).or_insert((place, *item));
    }
    let mut out: Vec<Value> = Vec::with_capacity(live.len() + config.len());
    let mut next = 0;
    for (element, item) in live {
        let Some((place, _)) = wanted.get(element) else {
            out.push((*item).clone());
            continue;
        };
        // All configured items up to this one, so that the configured order holds.
        while next <= *place {
            push_configured(&mut out, &config[next], live, view);
            next += 1;
        }
    }
    for entry in &config[next.min(config.len())..] {
        push_configured(&mut out, entry, live, view);
    }
    Value::Array(out)
}

fn push_configured(out: &mut Vec<Value>, entry: &(Element, &Value), live: &[(Element, &Value)], view: View<'_>) {
    let (element, item) = entry;
    out.push(match live.iter().find(|(e, _)| e == element) {
        Some((_, before)) => merged(before, item, view.item()),
        None => (*item).clone(),
    });
}

/// Takes out of `value` what `last` has, `config` lacks and none of `others` holds.
pub(super) fn prune(value: &mut Value, last: &FieldSet, config: Option<&Value>, others: &[&FieldSet], view: View<'_>) {
    for (element, before) in &last.children {
        let now = match element {
            Element::Field(name) => config.and_then(|c| c.get(name)),
            _ => config.and_then(|c| find(c, element, view)),
        };
        let held: Vec<&FieldSet> = others.iter().filter_map(|o| o.child(element)).collect();
        let keep = now.is_some() || !held.is_empty();
        match (element, &mut *value) {
            (Element::Field(name), Value::Object(map)) => {
                if !keep {
                    map.shift_remove(name);
                } else if let Some(below) = map.get_mut(name) {
                    prune(below, before, now, &held, view.field(name));
                }
            }
            (_, Value::Array(items)) => {
                let at = items.iter().position(|item| self::element(item, view).as_ref() == Some(element));
                match at {
                    Some(at) if !keep => {
                        items.remove(at);
                    }
                    Some(at) => prune(&mut items[at], before, now, &held, view.item()),
                    None => {}
                }
            }
            _ => {}
        }
    }
}

/// Members of both sets whose value is not the same before and after.
pub(super) fn conflicts(
    live: &Value,
    new: &Value,
    config: &FieldSet,
    theirs: &FieldSet,
    view: View<'_>,
    out: &mut FieldSet,
) {
    if config.member && theirs.member && (parts(live, view).is_none() || parts(new, view).is_none()) && live != new {
        out.member = true;
        return;
    }
    for (element, config) in &config.children {
        let Some(theirs) = theirs.child(element) else { continue };
        let (before, after, below) = match element {
            Element::Field(name) => (live.get(name), new.get(name), view.field(name)),
            _ => (find(live, element, view), find(new, element, view), view.item()),
        };
        let null = Value::Null;
        let mut found = FieldSet::default();
        conflicts(before.unwrap_or(&null), after.unwrap_or(&null), config, theirs, below, &mut found);
        out.insert(element.clone(), &found);
    }
}

fn find<'v>(list: &'v Value, wanted: &Element, view: View<'_>) -> Option<&'v Value> {
    list.as_array()?.iter().find(|item| element(item, view).as_ref() == Some(wanted))
}

/// Says which list of a configuration holds one key twice, or an item without its keys.
pub(super) fn repeated_item(value: &Value, view: View<'_>, path: &str) -> Option<String> {
    match (view, value) {
        (View::Struct(_) | View::Map(_) | View::Deduced, Value::Object(map)) => {
            map.iter().find_map(|(name, value)| repeated_item(value, view.field(name), &format!("{path}.{name}")))
        }
        (View::Set | View::Keyed(..), Value::Array(items)) => {
            let mut seen = HashSet::new();
            for item in items {
                let Some(element) = element(item, view) else {
                    return Some(format!("{path}: element has none of the key fields of its associative list"));
                };
                let mut one = FieldSet::default();
                one.insert(element, &FieldSet::leaf());
                let text = one.paths().concat();
                if let Some(why) = repeated_item(item, view.item(), &format!("{path}{text}")) {
                    return Some(why);
                }
                if !seen.insert(text.clone()) {
                    return Some(format!("{path}: duplicate entries for key {text}"));
                }
            }
            None
        }
        _ => None,
    }
}
