//! A set of fields as a tree, and its `FieldsV1` form.
//!
//! `f:NAME` is a field or map key, `k:{KEYS}` an item of a keyed list, `v:VALUE` an item of a set, `i:N` an index, and
//! `.` the thing itself where the set holds more below it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::field::quote;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    Field(String),
    /// The key fields with their values, as compact JSON with sorted names.
    Key(String),
    /// The value, as compact JSON.
    Value(String),
    Index(usize),
}

impl Element {
    fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(i) => format!("i:{i}"),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        Some(match kind {
            "f" => Self::Field(rest.to_owned()),
            "k" => match serde_json::from_str::<BTreeMap<String, Value>>(rest) {
                Ok(keys) => Self::key(keys),
                Err(_) => return None,
            },
            "v" => Self::Value(serde_json::from_str::<Value>(rest).ok()?.to_string()),
            "i" => Self::Index(rest.parse().ok()?),
            _ => return None,
        })
    }

    pub(super) fn key(keys: BTreeMap<String, Value>) -> Self {
        Self::Key(keys.into_iter().collect::<Value>().to_string())
    }

    /// `.spec`, `[name="a"]`, `[="x"]`, `[0]`
    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Key(keys) => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys
                    .iter()
                    .map(|(k, v)| match v {
                        Value::String(s) => format!("{k}={}", quote(s)),
                        other => format!("{k}={other}"),
                    })
                    .collect();
                format!("[{}]", keys.join(","))
            }
            Self::Value(value) => format!("[={value}]"),
            Self::Index(i) => format!("[{i}]"),
        }
    }
}

/// A set of paths. A node may be a member itself, have members below it, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub(super) member: bool,
    pub(super) children: BTreeMap<Element, FieldSet>,
}

impl FieldSet {
    pub(super) fn leaf() -> Self {
        Self { member: true, children: BTreeMap::new() }
    }

    /// Nothing in it, neither itself nor below.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    pub(super) fn child(&self, element: &Element) -> Option<&FieldSet> {
        self.children.get(element)
    }

    pub(super) fn insert(&mut self, element: Element, set: &FieldSet) {
        if !set.is_empty() {
            self.children.entry(element).or_default().unite(set);
        }
    }

    pub(super) fn unite(&mut self, other: &FieldSet) {
        self.member |= other.member;
        for (element, set) in &other.children {
            self.children.entry(element.clone()).or_default().unite(set);
        }
    }

    /// Takes out the members of `other`.
    pub(super) fn subtract(&mut self, other: &FieldSet) {
        self.member &= !other.member;
        self.children.retain(|element, set| {
            if let Some(other) = other.children.get(element) {
                set.subtract(other);
            }
            !set.is_empty()
        });
    }

    /// Takes out a field with all below it.
    pub(super) fn remove_field(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else { return };
        let element = Element::Field((*first).to_owned());
        if rest.is_empty() {
            self.children.remove(&element);
        } else if let Some(set) = self.children.get_mut(&element) {
            set.remove_field(rest);
            if set.is_empty() {
                self.children.remove(&element);
            }
        }
    }

    /// Takes out a field, but not what is below it.
    pub(super) fn unmark_field(&mut self, name: &str) {
        let element = Element::Field(name.to_owned());
        if let Some(set) = self.children.get_mut(&element) {
            set.member = false;
            if set.is_empty() {
                self.children.remove(&element);
            }
        }
    }

    /// Every member's path: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        fn walk(set: &FieldSet, path: &str, out: &mut Vec<String>) {
            if set.member {
                out.push(path.to_owned());
            }
            for (element, child) in &set.children {
                walk(child, &format!("{path}{}", element.text()), out);
            }
        }
        let mut out = Vec::new();
        walk(self, "", &mut out);
        out
    }

    /// The `fieldsV1` of a managed fields entry.
    pub fn encode(&self) -> Value {
        let mut out = Map::new();
        if self.member && !self.children.is_empty() {
            out.insert(".".into(), Value::Object(Map::new()));
        }
        for (element, set) in &self.children {
            out.insert(element.encode(), set.encode());
        }
        Value::Object(out)
    }

    /// Reads a `fieldsV1`; what is malformed in it is left out.
    pub fn decode(fields: &Value) -> Self {
        fn node(value: &Value) -> FieldSet {
            let Some(map) = value.as_object() else { return FieldSet::default() };
            let mut set = FieldSet::default();
            for (name, below) in map {
                if name == "." {
                    set.member = true;
                } else if let Some(element) = Element::decode(name) {
                    set.children.insert(element, node(below));
                }
            }
            // An empty object is a leaf.
            set.member |= set.children.is_empty();
            set
        }
        let mut set = node(fields);
        // The root is the object, which nobody owns.
        set.member = false;
        set
    }
}
