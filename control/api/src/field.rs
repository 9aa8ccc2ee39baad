//! `field.Error`: one thing wrong with one field of an object, in upstream's words.

use std::fmt::{self, Write as _};

use serde_json::Value;

/// What is wrong; the wire name is the `reason` of a [`crate::status::StatusCause`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    TypeInvalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooShort,
    TooMany,
    TooFew,
    Internal,
}

impl ErrorType {
    /// The machine-readable name (upstream `ErrorType`).
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooShort => "FieldValueTooShort",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
        }
    }

    /// The words a user reads.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooShort => "Too short",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        }
    }

    /// Whether the text form shows the offending value.
    fn shows_value(self) -> bool {
        matches!(
            self,
            Self::Invalid
                | Self::TypeInvalid
                | Self::NotSupported
                | Self::NotFound
                | Self::Duplicate
                | Self::TooMany
                | Self::TooFew
        )
    }
}

/// One validation error: `spec.replicas: Invalid value: -1: must be greater than or equal to 0`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub error_type: ErrorType,
    /// `spec.containers[0].name`; build it with [`Path`].
    pub field: String,
    /// The offending value; `None` leaves it out of the text.
    pub value: Option<Value>,
    pub detail: String,
}

impl FieldError {
    fn new(error_type: ErrorType, field: impl Into<String>, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { error_type, field: field.into(), value, detail: detail.into() }
    }

    /// `F: Required value: DETAIL`
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, field, None, detail)
    }

    /// `F: Invalid value: "x": DETAIL`
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, field, Some(value.into()), detail)
    }

    /// As [`Self::invalid`], with the reason `FieldValueTypeInvalid`.
    pub fn type_invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::TypeInvalid, field, Some(value.into()), detail)
    }

    /// `F: Forbidden: DETAIL`
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, field, None, detail)
    }

    /// `F: Not found: "x"`
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::NotFound, field, Some(value.into()), "")
    }

    /// `F: Duplicate value: "x"`
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::Duplicate, field, Some(value.into()), "")
    }

    /// `F: Unsupported value: "x": supported values: "A", "B"`; give `supported` in the order to print.
    pub fn not_supported(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| quote(s)).collect();
        let detail = if quoted.is_empty() { String::new() } else { format!("supported values: {}", quoted.join(", ")) };
        Self::new(ErrorType::NotSupported, field, Some(value.into()), detail)
    }

    /// `F: Too long: may not be more than N bytes`
    pub fn too_long(field: impl Into<String>, max_bytes: usize) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        Self::new(ErrorType::TooLong, field, None, format!("may not be more than {max_bytes} {unit}"))
    }

    /// `F: Too long: may not be more than N characters`
    pub fn too_long_characters(field: impl Into<String>, max: usize) -> Self {
        let unit = if max == 1 { "character" } else { "characters" };
        Self::new(ErrorType::TooLong, field, None, format!("may not be more than {max} {unit}"))
    }

    /// `F: Too many: 7: must have at most N items`
    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(ErrorType::TooMany, field, Some(Value::from(actual)), format!("must have at most {max} {unit}"))
    }

    /// `F: Internal error: DETAIL`
    pub fn internal(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Internal, field, None, detail)
    }

    /// The text without the field name (upstream `ErrorBody`).
    pub fn body(&self) -> String {
        let mut out = self.error_type.text().to_owned();
        if let (true, Some(value)) = (self.error_type.shows_value(), &self.value) {
            out.push_str(": ");
            match value {
                Value::String(s) => out.push_str(&quote(s)),
                other => out.push_str(&go_json(other)),
            }
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Upstream prints an empty path as the root marker of a nil field.Path.
        let field = if self.field.is_empty() { "<nil>" } else { &self.field };
        write!(f, "{field}: {}", self.body())
    }
}

impl std::error::Error for FieldError {}

/// A field path under construction: `Path::new("spec").child("containers").index(0).key("a/b")`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// A path that starts at `root`.
    pub fn new(root: &str) -> Self {
        Self(root.to_owned())
    }

    /// `self.name`
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// `self[i]`
    #[must_use]
    pub fn index(&self, i: usize) -> Self {
        Self(format!("{}[{i}]", self.0))
    }

    /// `self[key]`: an entry of a map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.0
    }
}

impl From<&Path> for String {
    fn from(path: &Path) -> Self {
        path.0.clone()
    }
}

/// Joins errors as upstream's aggregate does: one alone, several as `[a, b]`, repeated ones once.
pub fn aggregate<E: fmt::Display>(errors: &[E]) -> String {
    let mut seen: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    if seen.len() == 1 { seen.remove(0) } else { format!("[{}]", seen.join(", ")) }
}

/// Go's `%q`, as upstream's messages quote names and values.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Compact JSON as Go's `json.Marshal` writes it: keys of objects sorted, `<`, `>` and `&` escaped.
pub fn go_json(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort_unstable();
                out.push('{');
                for (i, key) in keys.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_text(key, out);
                    out.push(':');
                    write(&map[key], out);
                }
                out.push('}');
            }
            Value::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write(item, out);
                }
                out.push(']');
            }
            Value::String(s) => write_text(s, out),
            scalar => out.push_str(&scalar.to_string()),
        }
    }
    fn write_text(text: &str, out: &mut String) {
        for c in Value::from(text).to_string().chars() {
            match c {
                '<' => out.push_str("\\u003c"),
                '>' => out.push_str("\\u003e"),
                '&' => out.push_str("\\u0026"),
                c => out.push(c),
            }
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_forms_are_upstreams() {
        let p = Path::new("spec").child("a").index(2).key("k/v");
        let table: &[(FieldError, &str)] = &[
            (FieldError::required(&p, ""), "spec.a[2][k/v]: Required value"),
            (FieldError::required("x", "must be set"), "x: Required value: must be set"),
            (FieldError::invalid("x", "a\"b", "bad"), r#"x: Invalid value: "a\"b": bad"#),
            (FieldError::invalid("x", -1, "must be positive"), "x: Invalid value: -1: must be positive"),
            (
                FieldError::invalid("x", json!({"b": "<", "a": [1]}), ""),
                "x: Invalid value: {\"a\":[1],\"b\":\"\\u003c\"}",
            ),
            (FieldError::forbidden("x", "no"), "x: Forbidden: no"),
            (FieldError::not_found("x", "v"), r#"x: Not found: "v""#),
            (FieldError::duplicate("x", "v"), r#"x: Duplicate value: "v""#),
            (
                FieldError::not_supported("x", "v", &["A", "B"]),
                r#"x: Unsupported value: "v": supported values: "A", "B""#,
            ),
            (FieldError::too_long("x", 63), "x: Too long: may not be more than 63 bytes"),
            (FieldError::too_many("x", 7, 1), "x: Too many: 7: must have at most 1 item"),
            (FieldError::internal("x", "oops"), "x: Internal error: oops"),
        ];
        for (error, want) in table {
            assert_eq!(&error.to_string(), want);
        }
    }

    #[test]
    fn aggregates() {
        assert_eq!(aggregate(&["a"]), "a");
        assert_eq!(aggregate(&["a", "b", "a"]), "[a, b]");
    }
}
