//! Bytes to a JSON value, with repeated keys noted and nesting bounded.

use std::fmt::Write as _;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Repeated keys that are noted at most.
const MAX_DUPLICATES: usize = super::MAX_STRICT_ERRORS;

/// `serde_json` itself refuses nesting deeper than 128.
pub(super) fn json(body: &[u8]) -> Result<(Value, Vec<String>), String> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let mut notes = Notes::default();
    let value = Node(&mut notes).deserialize(&mut deserializer).map_err(|e| e.to_string())?;
    deserializer.end().map_err(|e| e.to_string())?;
    Ok((value, notes.duplicates))
}

/// The YAML reader's own budgets bound aliases, nesting and size; it refuses repeated keys by itself.
pub(super) fn yaml(body: &[u8]) -> Result<(Value, Vec<String>), String> {
    let value: Value =
        serde_saphyr::from_slice(body).map_err(|e| format!("error converting YAML to JSON: yaml: {e}"))?;
    Ok((value, Vec::new()))
}

enum Step {
    Key(String),
    Index(usize),
}

/// Where the reader is, and the keys that it saw twice.
#[derive(Default)]
struct Notes {
    path: Vec<Step>,
    duplicates: Vec<String>,
}

impl Notes {
    fn duplicate(&mut self, key: &str) {
        if self.duplicates.len() >= MAX_DUPLICATES {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => {
                    path.push('.');
                    path.push_str(key);
                }
                Step::Index(i) => {
                    // Writing to a String cannot fail.
                    let _ = write!(path, "[{i}]");
                }
            }
        }
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
        self.duplicates.push(format!("duplicate field {}", crate::field::quote(&path)));
    }
}

struct Node<'a>(&'a mut Notes);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            self.0.path.push(Step::Index(items.len()));
            let item = seq.next_element_seed(Node(self.0))?;
            self.0.path.pop();
            match item {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.contains_key(&key) {
                self.0.duplicate(&key);
            }
            self.0.path.push(Step::Key(key));
            let value = map.next_value_seed(Node(self.0))?;
            match self.0.path.pop() {
                // The last one wins, as in Go.
                Some(Step::Key(key)) => out.insert(key, value),
                _ => return Err(A::Error::custom("unbalanced path")),
            };
        }
        Ok(Value::Object(out))
    }
}
