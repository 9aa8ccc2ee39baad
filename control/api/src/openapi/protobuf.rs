//! The v2 document in the protobuf form that kubectl asks for: gnostic's `openapi.v2` messages.
//!
//! The walk is driven by tables, one for each message, that hold the field numbers of gnostic's `OpenAPIv2.proto`: only what our own
//! document uses. A key without a row is an error and never dropped in silence. Values of extensions are JSON text, which
//! stands in for the YAML that the format asks for.

use serde_json::Value;

/// The document holds something that the tables have no row for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no protobuf form of {key:?} in {message}")]
pub struct EncodeError {
    message: &'static str,
    key: String,
}

/// One message type.
struct Message {
    name: &'static str,
    fields: &'static [(&'static str, u32, Kind)],
    /// `vendor_extension`, for keys that begin with `x-`.
    extensions: Option<u32>,
    /// A map: what other keys are entries of, and the form of their values.
    entries: Option<(u32, Kind)>,
}

/// How a JSON value is written.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    /// A list of strings; one string is a list too.
    Texts,
    Message(&'static Message),
    Messages(&'static Message),
    /// As the given field of a message that holds nothing else.
    Within(u32, &'static Self),
    /// A list of parameters, each in the wrappers that its place asks for.
    Parameters,
}

const NO_FIELDS: &[(&str, u32, Kind)] = &[];

static DOCUMENT: Message = Message {
    name: "Document",
    fields: &[
        ("swagger", 1, Kind::Text),
        ("info", 2, Kind::Message(&INFO)),
        ("paths", 8, Kind::Message(&PATHS)),
        ("definitions", 9, Kind::Message(&SCHEMAS)),
        ("security", 12, Kind::Messages(&SECURITY_REQUIREMENT)),
        ("securityDefinitions", 13, Kind::Message(&SECURITY_DEFINITIONS)),
    ],
    extensions: Some(16),
    entries: None,
};
static INFO: Message = Message {
    name: "Info",
    fields: &[("title", 1, Kind::Text), ("version", 2, Kind::Text), ("description", 3, Kind::Text)],
    extensions: Some(7),
    entries: None,
};
static PATHS: Message =
    Message { name: "Paths", fields: NO_FIELDS, extensions: Some(1), entries: Some((2, Kind::Message(&PATH_ITEM))) };
static PATH_ITEM: Message = Message {
    name: "PathItem",
    fields: &[
        ("get", 2, Kind::Message(&OPERATION)),
        ("put", 3, Kind::Message(&OPERATION)),
        ("post", 4, Kind::Message(&OPERATION)),
        ("delete", 5, Kind::Message(&OPERATION)),
        ("options", 6, Kind::Message(&OPERATION)),
        ("head", 7, Kind::Message(&OPERATION)),
        ("patch", 8, Kind::Message(&OPERATION)),
        ("parameters", 9, Kind::Parameters),
    ],
    extensions: Some(10),
    entries: None,
};
static OPERATION: Message = Message {
    name: "Operation",
    fields: &[
        ("tags", 1, Kind::Texts),
        ("summary", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("produces", 6, Kind::Texts),
        ("consumes", 7, Kind::Texts),
        ("parameters", 8, Kind::Parameters),
        ("responses", 9, Kind::Message(&RESPONSES)),
        ("schemes", 10, Kind::Texts),
    ],
    extensions: Some(13),
    entries: None,
};
static RESPONSES: Message = Message {
    name: "Responses",
    fields: NO_FIELDS,
    extensions: Some(2),
    entries: Some((1, Kind::Within(1, &Kind::Message(&RESPONSE)))),
};
static RESPONSE: Message = Message {
    name: "Response",
    fields: &[("description", 1, Kind::Text), ("schema", 2, Kind::Within(1, &Kind::Message(&SCHEMA)))],
    extensions: Some(5),
    entries: None,
};
static BODY_PARAMETER: Message = Message {
    name: "BodyParameter",
    fields: &[
        ("description", 1, Kind::Text),
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 5, Kind::Message(&SCHEMA)),
    ],
    extensions: Some(6),
    entries: None,
};
static QUERY_PARAMETER: Message = Message {
    name: "QueryParameterSubSchema",
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 6, Kind::Text),
        ("uniqueItems", 20, Kind::Flag),
    ],
    extensions: Some(23),
    entries: None,
};
static PATH_PARAMETER: Message = Message {
    name: "PathParameterSubSchema",
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 5, Kind::Text),
        ("uniqueItems", 19, Kind::Flag),
    ],
    extensions: Some(22),
    entries: None,
};
/// `Definitions` and `Properties`.
static SCHEMAS: Message =
    Message { name: "Definitions", fields: NO_FIELDS, extensions: None, entries: Some((1, Kind::Message(&SCHEMA))) };
static SCHEMA: Message = Message {
    name: "Schema",
    fields: &[
        ("$ref", 1, Kind::Text),
        ("format", 2, Kind::Text),
        ("title", 3, Kind::Text),
        ("description", 4, Kind::Text),
        ("required", 19, Kind::Texts),
        // Of a schema or a boolean, ours is always the former.
        ("additionalProperties", 21, Kind::Within(1, &Kind::Message(&SCHEMA))),
        ("type", 22, Kind::Within(1, &Kind::Texts)),
        ("items", 23, Kind::Within(1, &Kind::Message(&SCHEMA))),
        ("properties", 25, Kind::Message(&SCHEMAS)),
    ],
    extensions: Some(31),
    entries: None,
};
static SECURITY_REQUIREMENT: Message = Message {
    name: "SecurityRequirement",
    fields: NO_FIELDS,
    extensions: None,
    entries: Some((1, Kind::Within(1, &Kind::Texts))),
};
static SECURITY_DEFINITIONS: Message = Message {
    name: "SecurityDefinitions",
    fields: NO_FIELDS,
    extensions: None,
    entries: Some((1, Kind::Within(2, &Kind::Message(&API_KEY)))),
};
static API_KEY: Message = Message {
    name: "ApiKeySecurity",
    fields: &[("type", 1, Kind::Text), ("name", 2, Kind::Text), ("in", 3, Kind::Text), ("description", 4, Kind::Text)],
    extensions: Some(5),
    entries: None,
};

/// A document of [`super::v2`] as `openapi.v2.Document`.
///
/// # Errors
/// Where the document holds what the tables don't know.
pub(super) fn encode(document: &Value) -> Result<Vec<u8>, EncodeError> {
    message(&DOCUMENT, document)
}

fn message(form: &Message, value: &Value) -> Result<Vec<u8>, EncodeError> {
    let unknown = |key: &str| EncodeError { message: form.name, key: key.to_owned() };
    let map = value.as_object().ok_or_else(|| unknown("not an object"))?;
    let mut out = Vec::new();
    for (key, value) in map {
        let known = form.fields.iter().find(|(name, ..)| name == key);
        if let Some((_, number, kind)) = known {
            field(&mut out, *number, *kind, value).ok_or_else(|| unknown(key))??;
        } else if let Some(number) = form.extensions.filter(|_| key.starts_with("x-")) {
            let (mut any, mut entry) = (Vec::new(), Vec::new());
            bytes(&mut any, 2, value.to_string().as_bytes());
            bytes(&mut entry, 1, key.as_bytes());
            bytes(&mut entry, 2, &any);
            bytes(&mut out, number, &entry);
        } else if let Some((number, kind)) = form.entries {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, key.as_bytes());
            field(&mut entry, 2, kind, value).ok_or_else(|| unknown(key))??;
            bytes(&mut out, number, &entry);
        } else {
            return Err(unknown(key));
        }
    }
    Ok(out)
}

/// `None` where the value is not of that kind.
fn field(out: &mut Vec<u8>, number: u32, kind: Kind, value: &Value) -> Option<Result<(), EncodeError>> {
    let nested =
        |out: &mut Vec<u8>, form: &Message, value: &Value| message(form, value).map(|inner| bytes(out, number, &inner));
    match kind {
        Kind::Text => bytes(out, number, value.as_str()?.as_bytes()),
        Kind::Flag => {
            if value.as_bool()? {
                varint(out, u64::from(number) << 3);
                out.push(1);
            }
        }
        Kind::Texts => match value {
            Value::Array(items) => {
                for item in items {
                    bytes(out, number, item.as_str()?.as_bytes());
                }
            }
            one => bytes(out, number, one.as_str()?.as_bytes()),
        },
        Kind::Message(form) => return Some(nested(out, form, value)),
        Kind::Messages(form) => {
            for item in value.as_array()? {
                if let Err(error) = nested(out, form, item) {
                    return Some(Err(error));
                }
            }
        }
        Kind::Within(step, inner) => {
            let mut wrapped = Vec::new();
            if let Err(error) = field(&mut wrapped, step, *inner, value)? {
                return Some(Err(error));
            }
            bytes(out, number, &wrapped);
        }
        Kind::Parameters => {
            for item in value.as_array()? {
                // ParametersItem.parameter, then Parameter.body_parameter or the alternatives of non_body_parameter.
                let (path, form): (&'static [u32], _) = match item.get("in")?.as_str()? {
                    "body" => (&[1, 1], &BODY_PARAMETER),
                    "query" => (&[1, 2, 3], &QUERY_PARAMETER),
                    "path" => (&[1, 2, 4], &PATH_PARAMETER),
                    _ => return None,
                };
                let mut wrapped = match message(form, item) {
                    Ok(inner) => inner,
                    Err(error) => return Some(Err(error)),
                };
                for step in path.iter().rev() {
                    let inside = std::mem::take(&mut wrapped);
                    bytes(&mut wrapped, *step, &inside);
                }
                bytes(out, number, &wrapped);
            }
        }
    }
    Some(Ok(()))
}

fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    varint(out, (u64::from(number) << 3) | 2);
    varint(out, u64::try_from(value.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
