//! Kubernetes' protobuf request bodies as JSON values.
//!
//! Typed clients of client-go write `application/vnd.kubernetes.protobuf` (kubectl does for `auth
//! can-i`, `create namespace`, `create token`, …) and read JSON just as well. `messages.txt` tells the
//! fields: numbers and types are those of upstream's `generated.proto` files, JSON names, inlining (`>`)
//! and pointers (`?`) those of its `types.go`, Kubernetes 1.36.2. One line is one message:
//!
//! ```text
//! PACKAGE.Message NUMBER[>?]jsonName:TYPE …     TYPE: s b i d y (string bool int double bytes), *T list, @T map
//! ```

mod table;
mod wire_format;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use table::{Field, Kind, Scalar};
use wire_format::{Payload, Reader};

const MAGIC: &[u8] = b"k8s\0";
/// Nesting that is followed; nothing in Kubernetes comes near.
const MAX_DEPTH: usize = 64;

/// Why a body can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix {MAGIC:?}")]
    Magic,
    #[error("unexpected end of the protobuf message")]
    Truncated,
    #[error("malformed protobuf message")]
    Malformed,
    #[error("messages are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("no protobuf form of {0} is known")]
    UnknownKind(String),
    #[error("a part of the message is not valid JSON")]
    Json,
}

/// A body of `application/vnd.kubernetes.protobuf`: the envelope (`runtime.Unknown`) and the object in it.
pub(crate) fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(envelope);
    while let Some((number, payload)) = reader.next()? {
        match (number, payload) {
            (1, Payload::Bytes(meta)) => {
                let mut meta = Reader::new(meta);
                while let Some((number, payload)) = meta.next()? {
                    match (number, payload) {
                        (1, Payload::Bytes(text)) => api_version = utf8(text)?.to_owned(),
                        (2, Payload::Bytes(text)) => kind = utf8(text)?.to_owned(),
                        _ => {}
                    }
                }
            }
            (2, Payload::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (group, version) = orlop_api::registry::split_api_version(&api_version);
    let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or_default() };
    let name = format!("{package}.{version}.{kind}");
    // DeleteOptions and their like travel under the group of what they are about.
    let name = if table::is_known(&name) { name } else { format!("meta.v1.{kind}") };
    if !table::is_known(&name) {
        return Err(ProtobufError::UnknownKind(format!("{api_version}, Kind={kind}")));
    }
    let mut object = Map::new();
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    message(&name, raw, &mut object, 0)?;
    Ok(Value::Object(object))
}

fn utf8(bytes: &[u8]) -> Result<&str, ProtobufError> {
    std::str::from_utf8(bytes).map_err(|_| ProtobufError::Malformed)
}

/// The fields of one message into `out`.
fn message(name: &str, bytes: &[u8], out: &mut Map<String, Value>, depth: usize) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        // Fields of newer clients are skipped, as protobuf has it.
        let Some(field) = table::field(name, number) else { continue };
        match field.kind {
            Kind::List(of) => {
                let Some(value) = single(of, &field, payload, depth)? else { continue };
                let list = out.entry(field.json_name).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    list.push(value);
                }
            }
            Kind::Map(of) => {
                let Payload::Bytes(entry) = payload else { return Err(ProtobufError::Malformed) };
                let (key, value) = map_entry(of, &field, entry, depth)?;
                let map = out.entry(field.json_name).or_insert_with(|| json!({}));
                if let Value::Object(map) = map {
                    map.insert(key, value);
                }
            }
            Kind::One(Scalar::Message(inner)) if field.inline => {
                let Payload::Bytes(bytes) = payload else { return Err(ProtobufError::Malformed) };
                message(&table::resolve(name, inner), bytes, out, depth + 1)?;
            }
            Kind::One(of) => {
                let Some(value) = single(of, &field, payload, depth)? else { continue };
                // Go's zero values of what is no pointer are what JSON leaves out.
                if field.pointer || !is_zero(&value, of) {
                    out.insert(field.json_name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value, of: Scalar<'_>) -> bool {
    match value {
        Value::String(text) => text.is_empty() && !matches!(of, Scalar::Message(_)),
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

fn map_entry(of: Scalar<'_>, field: &Field<'_>, entry: &[u8], depth: usize) -> Result<(String, Value), ProtobufError> {
    let (mut key, mut value) = (String::new(), None);
    let mut reader = Reader::new(entry);
    while let Some((number, payload)) = reader.next()? {
        match (number, payload) {
            (1, Payload::Bytes(text)) => key = utf8(text)?.to_owned(),
            (2, payload) => value = single(of, field, payload, depth)?,
            _ => {}
        }
    }
    let empty = || match of {
        Scalar::Text | Scalar::Bytes => json!(""),
        _ => json!({}),
    };
    Ok((key, value.unwrap_or_else(empty)))
}

/// One value; `None` for a time that is not set.
fn single(
    of: Scalar<'_>,
    field: &Field<'_>,
    payload: Payload<'_>,
    depth: usize,
) -> Result<Option<Value>, ProtobufError> {
    Ok(Some(match (of, payload) {
        (Scalar::Text, Payload::Bytes(bytes)) => json!(utf8(bytes)?),
        (Scalar::Bytes, Payload::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        (Scalar::Bool, Payload::Varint(n)) => json!(n != 0),
        (Scalar::Int, Payload::Varint(n)) => json!(n.cast_signed()),
        (Scalar::Double, Payload::Fixed64(bits)) => json!(f64::from_bits(bits)),
        (Scalar::Message(inner), Payload::Bytes(bytes)) => {
            return nested(&table::resolve(field.message, inner), bytes, field, depth + 1);
        }
        _ => return Err(ProtobufError::Malformed),
    }))
}

/// Messages that are something else in JSON than their fields.
fn nested(name: &str, bytes: &[u8], field: &Field<'_>, depth: usize) -> Result<Option<Value>, ProtobufError> {
    let text = |number| wire_format::bytes_of(bytes, number);
    Ok(match name {
        "api.resource.Quantity" => Some(json!(utf8(text(1)?.unwrap_or_default())?)),
        "util.intstr.IntOrString" => {
            let value = if wire_format::varint_of(bytes, 1)? == 1 {
                json!(utf8(text(3)?.unwrap_or_default())?)
            } else {
                json!(wire_format::varint_of(bytes, 2)?)
            };
            let unset = !field.pointer && (value == json!(0) || value == json!(""));
            (!unset).then_some(value)
        }
        "meta.v1.Time" | "meta.v1.MicroTime" => time(bytes, name.ends_with("MicroTime"))?,
        "meta.v1.Duration" => Some(json!(go_duration(wire_format::varint_of(bytes, 1)?))),
        "runtime.RawExtension" | "meta.v1.FieldsV1" | "apiextensions.v1.JSON" => match text(1)? {
            Some(raw) if !raw.is_empty() => Some(serde_json::from_slice(raw).map_err(|_| ProtobufError::Json)?),
            _ => None,
        },
        "apiextensions.v1.JSONSchemaPropsOrBool" => match text(2)? {
            Some(schema) => Some(plain("apiextensions.v1.JSONSchemaProps", schema, depth)?),
            None => Some(json!(wire_format::varint_of(bytes, 1)? != 0)),
        },
        "apiextensions.v1.JSONSchemaPropsOrArray" | "apiextensions.v1.JSONSchemaPropsOrStringArray" => {
            let whole = plain(name, bytes, depth)?;
            let alternatives = ["schema", "jSONSchemas", "property"];
            alternatives.iter().find_map(|key| whole.get(*key).cloned())
        }
        _ => {
            let value = plain(name, bytes, depth)?;
            Some(if table::is_list_wrapper(name) {
                value.get("items").cloned().unwrap_or_else(|| json!([]))
            } else {
                value
            })
        }
    })
}

fn plain(name: &str, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let mut out = Map::new();
    message(name, bytes, &mut out, depth)?;
    Ok(Value::Object(out))
}

fn time(bytes: &[u8], micro: bool) -> Result<Option<Value>, ProtobufError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let seconds = wire_format::varint_of(bytes, 1)?;
    let nanos = i32::try_from(wire_format::varint_of(bytes, 2)?).map_err(|_| ProtobufError::Malformed)?;
    let at = jiff::Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Malformed)?;
    Ok(Some(json!(if micro { crate::meta::micro_time(at) } else { crate::meta::time(at) })))
}

/// `time.Duration` as Go prints it.
fn go_duration(nanos: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let (seconds, rest) = (total / SECOND, total % SECOND);
    if seconds == 0 && rest > 0 {
        let (unit, scale) = match rest {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{}{unit}", rest / scale, fraction(rest % scale, scale));
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let head = match (hours, minutes) {
        (0, 0) => String::new(),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    };
    format!("{sign}{head}{}{}s", seconds % 60, fraction(rest, SECOND))
}

fn fraction(rest: u64, scale: u64) -> String {
    if rest == 0 {
        return String::new();
    }
    let digits = scale.ilog10() as usize;
    format!(".{rest:0digits$}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests;
