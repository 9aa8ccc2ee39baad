//! Field selectors: `metadata.name=x,status.phase!=Running`, over the fields that upstream indexes.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::SelectorError;

const MAX_LENGTH: usize = 64 * 1024;

/// One term.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    value: String,
    negated: bool,
}

/// A conjunction of `field=value` and `field!=value`; the empty one means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

impl FieldSelector {
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// `field=value` alone.
    #[must_use]
    pub fn equals(field: &str, value: &str) -> Self {
        Self { terms: vec![Term { field: field.to_owned(), value: value.to_owned(), negated: false }] }
    }

    /// The value that `field` must have, where the selector pins one: lets a watch of one name read
    /// one key.
    #[must_use]
    pub fn requires_exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| !t.negated && t.field == field).map(|t| t.value.as_str())
    }

    /// Whether this object is meant. A field that the object lacks reads as its zero value.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|t| (field_value(object, &t.field) == t.value) != t.negated)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let operator = if term.negated { "!=" } else { "=" };
            let value = term.value.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
            write!(f, "{}{operator}{value}", term.field)?;
        }
        Ok(())
    }
}

const EVENT_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// The fields that selectors of a kind may name.
#[must_use]
pub fn selectable_fields(group: &str, kind: &str) -> &'static [&'static str] {
    match (group, kind) {
        ("", "Pod") => &[
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "Node") => &["metadata.name", "spec.unschedulable"],
        ("", "ReplicationController") => &["metadata.name", "metadata.namespace", "status.replicas"],
        ("", "Event") => EVENT_FIELDS,
        ("", "Namespace") => &["metadata.name", "status.phase"],
        ("", "Secret") => &["metadata.name", "metadata.namespace", "type"],
        ("", "Service") => &["metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"],
        ("batch", "Job") => &["metadata.name", "metadata.namespace", "status.successful"],
        ("certificates.k8s.io", "CertificateSigningRequest") => &["metadata.name", "spec.signerName"],
        ("certificates.k8s.io", "ClusterTrustBundle") => &["metadata.name", "spec.signerName"],
        ("resource.k8s.io", "ResourceSlice") => &["metadata.name", "spec.nodeName", "spec.driver"],
        ("events.k8s.io", "Event") => &[
            "metadata.name",
            "metadata.namespace",
            "reason",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reportingController",
            "type",
        ],
        _ => &["metadata.name", "metadata.namespace"],
    }
}

/// The text that a selectable field of an object has, `""` or the zero value where it is absent.
#[must_use]
pub fn field_value<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let get = |path: &str| path.split('.').try_fold(object, |v, key| v.get(key));
    match field {
        "status.podIPs" => first_of(get(field)),
        // Upstream's Event index: the old field stands in for the new one, and the other way round.
        "source" => text(get("source.component").or_else(|| get("reportingComponent"))),
        "reportingComponent" => text(get(field).filter(|v| !is_empty(v)).or_else(|| get("source.component"))),
        "spec.hostNetwork" | "spec.unschedulable" => match get(field) {
            Some(Value::Bool(true)) => Cow::Borrowed("true"),
            _ => Cow::Borrowed("false"),
        },
        "status.replicas" | "status.successful" => {
            let path = if field == "status.successful" { "status.succeeded" } else { field };
            match get(path) {
                None | Some(Value::Null) => Cow::Borrowed("0"),
                some => text(some),
            }
        }
        _ => text(get(field)),
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_str().is_some_and(str::is_empty)
}

fn first_of(ips: Option<&Value>) -> Cow<'_, str> {
    text(ips.and_then(|v| v.get(0)).and_then(|v| v.get("ip")))
}

fn text(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(s)) => Cow::Borrowed(s),
        Some(other) => Cow::Owned(other.to_string()),
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let tail: String = other.into_iter().collect();
                    return Err(SelectorError(format!("invalid field selector: invalid escape sequence: \\{tail}")));
                }
            },
            // Upstream prints the character's number.
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Parses the `fieldSelector` of a request for one kind.
///
/// # Errors
/// Upstream's words for what can't be read, and for fields that the kind is not indexed by.
pub fn parse_field_selector(
    group: &str,
    version: &str,
    kind: &str,
    selector: &str,
) -> Result<FieldSelector, SelectorError> {
    if selector.len() > MAX_LENGTH {
        return Err(SelectorError(format!("a selector may not be longer than {MAX_LENGTH} bytes")));
    }
    let mut parts = split_terms(selector);
    parts.sort_unstable();
    let mut terms = Vec::new();
    for part in parts.into_iter().filter(|p| !p.is_empty()) {
        let Some(at) = part.find(['!', '=']).filter(|at| part[*at..].starts_with('=') || part[*at..].starts_with("!="))
        else {
            return Err(SelectorError(format!("invalid selector: '{selector}'; can't understand '{part}'")));
        };
        let (field, rest) = part.split_at(at);
        let negated = rest.starts_with('!');
        let value = rest.strip_prefix("!=").or_else(|| rest.strip_prefix("==")).or_else(|| rest.strip_prefix('='));
        let value = unescape(value.unwrap_or_default())?;
        let field = match (group, kind, field) {
            ("", "Pod", "spec.host") => "spec.nodeName",
            _ => field,
        };
        if !selectable_fields(group, kind).contains(&field) {
            return Err(SelectorError(unsupported(group, version, kind, field)));
        }
        terms.push(Term { field: field.to_owned(), value, negated });
    }
    Ok(FieldSelector { terms })
}

fn unsupported(group: &str, version: &str, kind: &str, field: &str) -> String {
    let label = crate::field::quote(field);
    match (group, kind) {
        ("batch", "Job") => format!("field label {label} not supported for Job"),
        ("resource.k8s.io", "ResourceSlice") => {
            format!("field label not supported for {group}/{version}, Kind={kind}: {field}")
        }
        ("", "Pod" | "Node" | "ReplicationController" | "Event" | "Namespace" | "Secret" | "Service")
        | ("events.k8s.io", "Event")
        | ("certificates.k8s.io", "CertificateSigningRequest" | "ClusterTrustBundle") => {
            format!("field label not supported: {field}")
        }
        // runtime.DefaultMetaV1FieldSelectorConversion.
        _ => format!("{label} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
    }
}
