//! Walks a value along its schema: wrong types are errors, unknown fields are named and dropped, nulls and empty
//! optional collections are left out (Go's `omitempty`), quantities and times are made canonical.

use std::fmt;

use base64::Engine as _;
use serde_json::Value;

use crate::quantity::Quantity;
use crate::schema::{Struct, Type};

/// `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`
#[derive(Debug)]
pub(super) enum TypeError {
    Mismatch {
        /// `string`, `number 1.5`, …
        got: String,
        want: String,
        /// The innermost struct.
        holder: Option<String>,
        /// Innermost first, without indexes and map keys, as Go builds it.
        path: Vec<String>,
    },
    /// A custom decoder's own words (quantities, times, base64).
    Custom(String),
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom(text) => f.write_str(text),
            Self::Mismatch { got, want, holder: None, .. } => {
                write!(f, "json: cannot unmarshal {got} into Go value of type {want}")
            }
            Self::Mismatch { got, want, holder: Some(holder), path } => {
                let path: Vec<&str> = path.iter().rev().map(String::as_str).collect();
                write!(
                    f,
                    "json: cannot unmarshal {got} into Go struct field {holder}.{} of type {want}",
                    path.join(".")
                )
            }
        }
    }
}

impl TypeError {
    fn in_field(mut self, in_struct: &Struct, field: &str) -> Self {
        if let Self::Mismatch { holder, path, .. } = &mut self {
            holder.get_or_insert_with(|| in_struct.go_name().to_owned());
            path.push(field.to_owned());
        }
        self
    }
}

/// Go's word for a JSON type.
pub(super) fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn mismatch(value: &Value, want: &Type) -> TypeError {
    let got = match (value, want) {
        // Go names the number where the type is a number that cannot hold it.
        (Value::Number(n), Type::Int32 | Type::Int64 | Type::IntOrString) => format!("number {n}"),
        _ => go_kind(value).to_owned(),
    };
    TypeError::Mismatch { got, want: want.go_name(), holder: None, path: Vec::new() }
}

/// Paths of unknown fields are pushed to `unknown`.
pub(super) fn object(value: &mut Value, schema: &Struct, unknown: &mut Vec<String>) -> Result<(), TypeError> {
    let Value::Object(map) = value else {
        return Err(TypeError::Mismatch {
            got: go_kind(value).to_owned(),
            want: format!("v1.{}", schema.go_name()),
            holder: None,
            path: Vec::new(),
        });
    };
    let mut result = Ok(());
    map.retain(|name, value| {
        if result.is_err() {
            return true;
        }
        let Some(field) = schema.field(name) else {
            unknown.push(name.clone());
            return false;
        };
        if value.is_null() {
            return false;
        }
        let first = unknown.len();
        if let Err(error) = self::value(value, &field.ty, unknown) {
            result = Err(error.in_field(schema, name));
            return true;
        }
        for path in &mut unknown[first..] {
            let joint = if path.starts_with('[') { "" } else { "." };
            *path = format!("{name}{joint}{path}");
        }
        field.required || !is_empty_collection(value, &field.ty)
    });
    result
}

fn is_empty_collection(value: &Value, ty: &Type) -> bool {
    match (value, ty) {
        (Value::Array(items), Type::List(_)) => items.is_empty(),
        (Value::Object(map), Type::Map(_)) => map.is_empty(),
        _ => false,
    }
}

fn value(value: &mut Value, ty: &Type, unknown: &mut Vec<String>) -> Result<(), TypeError> {
    match (ty, &mut *value) {
        (Type::Any, _) | (Type::String | Type::IntOrString, Value::String(_)) | (Type::Bool, Value::Bool(_)) => Ok(()),
        (Type::Int32 | Type::IntOrString, Value::Number(n)) => {
            match n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) {
                true => Ok(()),
                false => Err(mismatch(value, ty)),
            }
        }
        (Type::Int64, Value::Number(n)) if n.is_i64() => Ok(()),
        (Type::Double, Value::Number(_)) => Ok(()),
        (Type::Bytes, Value::String(text)) => base64(text),
        (Type::Time | Type::MicroTime, Value::String(text)) => time(text, *ty == Type::MicroTime),
        (Type::Quantity, Value::String(_) | Value::Number(_)) => quantity(value),
        (Type::Quantity, _) => Err(TypeError::Custom(crate::quantity::ParseQuantityError::Format.to_string())),
        (Type::Struct(id), Value::Object(_)) => object(value, id.get(), unknown),
        (Type::Map(values), Value::Object(map)) => {
            for (key, item) in map.iter_mut() {
                let first = unknown.len();
                null_to_zero(item, values);
                self::value(item, values, unknown)?;
                for path in &mut unknown[first..] {
                    let joint = if path.starts_with('[') { "" } else { "." };
                    *path = format!("{key}{joint}{path}");
                }
            }
            Ok(())
        }
        (Type::List(items), Value::Array(list)) => {
            for (i, item) in list.iter_mut().enumerate() {
                let first = unknown.len();
                null_to_zero(item, items);
                self::value(item, items, unknown)?;
                for path in &mut unknown[first..] {
                    let joint = if path.starts_with('[') { "" } else { "." };
                    *path = format!("[{i}]{joint}{path}");
                }
            }
            Ok(())
        }
        _ => Err(mismatch(value, ty)),
    }
}

/// A null item or map value is Go's zero value of the type.
fn null_to_zero(value: &mut Value, ty: &Type) {
    if !value.is_null() {
        return;
    }
    *value = match ty {
        Type::String | Type::Bytes => "".into(),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => 0.into(),
        Type::Bool => false.into(),
        Type::Quantity => "0".into(),
        Type::Struct(_) | Type::Map(_) => Value::Object(serde_json::Map::new()),
        Type::List(_) => Value::Array(Vec::new()),
        // A null time or raw value stays null.
        Type::Time | Type::MicroTime | Type::Any => return,
    };
}

fn quantity(value: &mut Value) -> Result<(), TypeError> {
    let parsed = Quantity::from_value(value).map_err(|e| TypeError::Custom(e.to_string()))?;
    *value = parsed.to_string().into();
    Ok(())
}

fn base64(text: &str) -> Result<(), TypeError> {
    use base64::DecodeError;
    // Go's decoder skips line breaks.
    let broken = text.contains(['\n', '\r']);
    let joined: String;
    let text = if broken {
        joined = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        &joined
    } else {
        text
    };
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let at = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len(),
            };
            Err(TypeError::Custom(format!("illegal base64 data at input byte {at}")))
        }
    }
}

/// Upstream writes times in UTC, cut to whole seconds, and micro times with six digits.
fn time(text: &mut String, micro: bool) -> Result<(), TypeError> {
    if !micro && is_canonical_time(text) {
        return Ok(());
    }
    let parsed: jiff::Timestamp = text.parse().map_err(|_| {
        let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
        let quoted = crate::field::quote(text);
        TypeError::Custom(format!("parsing time {quoted} as \"{layout}\": cannot parse {quoted} as \"2006\""))
    })?;
    *text = parsed.strftime(if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" }).to_string();
    Ok(())
}

/// `2026-01-02T03:04:05Z` with plausible digits: most times, and the ones that must stay cheap.
fn is_canonical_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 20
        && bytes.iter().zip(b"dddd-dd-ddTdd:dd:ddZ").all(|(b, p)| if *p == b'd' { b.is_ascii_digit() } else { b == p })
        && text.parse::<jiff::Timestamp>().is_ok()
}
