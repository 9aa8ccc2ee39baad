//! What the fields of every built-in kind are: types from `k8s-openapi`'s JSON schemas, merge keys and
//! list types from one table of facts (`schema/facts.rs`).
//!
//! The graph is built once, on first use, and holds no descriptions (those are megabytes; [`crate::openapi`]
//! generates them again when a client asks). Definitions refer to each other by index, so that recursive types
//! (`JSONSchemaProps`) need no special care.

mod build;
pub(crate) mod facts;
pub(crate) mod roots;

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::registry::split_api_version;

pub(crate) use build::{generator, ref_name};

/// The type of a field, an item or a map value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    String,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    Int32,
    Int64,
    Double,
    Bool,
    IntOrString,
    Quantity,
    /// Any JSON (`RawExtension`, `FieldsV1`, CRD defaults): nothing below it is looked at.
    Any,
    Struct(StructId),
    Map(Box<Type>),
    List(Box<Type>),
}

/// A definition, by its place in the graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StructId(u16);

/// How server-side apply sees a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// One value, replaced as a whole.
    #[default]
    Atomic,
    /// Scalars without repetition.
    Set,
    /// Items told apart by these keys.
    Map(Vec<&'static str>),
}

/// What the facts table says of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldFacts {
    pub list_type: ListType,
    /// Strategic merge patch merges the list; with the key of its items, or `""` for a list of scalars.
    pub merge_key: Option<&'static str>,
    /// `patchStrategy: retainKeys`
    pub retain_keys: bool,
    /// `patchStrategy: replace`
    pub replace: bool,
    /// `x-kubernetes-map-type` of the field: `Some(true)` is atomic, `Some(false)` granular.
    pub atomic_map: Option<bool>,
}

/// One field of a struct.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Box<str>,
    pub ty: Type,
    /// Upstream always writes it out, even when it is empty.
    pub required: bool,
    pub facts: FieldFacts,
}

/// One definition with named fields.
#[derive(Debug, PartialEq, Eq)]
pub struct Struct {
    /// `io.k8s.api.apps.v1.DeploymentSpec`
    pub name: Box<str>,
    /// Sorted by name.
    fields: Vec<Field>,
    /// `x-kubernetes-map-type: atomic`: server-side apply replaces it as a whole.
    pub atomic: bool,
}

pub(crate) struct Graph {
    structs: Vec<Struct>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), StructId>,
}

fn graph() -> &'static Graph {
    static GRAPH: OnceLock<Graph> = OnceLock::new();
    GRAPH.get_or_init(build::graph)
}

/// The schema of a kind; `None` for one that is not built in.
pub fn of(group: &str, version: &str, kind: &str) -> Option<&'static Struct> {
    graph().by_kind.get(&(group, version, kind) as &(&str, &str, &str)).map(|id| id.get())
}

/// The schema of an object by its `apiVersion` and `kind`.
pub fn of_object(api_version: &str, kind: &str) -> Option<&'static Struct> {
    let (group, version) = split_api_version(api_version);
    of(group, version, kind)
}

impl StructId {
    pub fn get(self) -> &'static Struct {
        &graph().structs[usize::from(self.0)]
    }
}

impl std::fmt::Debug for StructId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl Struct {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| (*f.name).cmp(name)).ok().map(|i| &self.fields[i])
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The Go type's name: `DeploymentSpec`.
    pub fn go_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// The field at a path of field names; list items and map values are stepped into without a name.
    pub fn at(&self, path: &[&str]) -> Option<&Field> {
        let (first, rest) = path.split_first()?;
        let field = self.field(first)?;
        if rest.is_empty() { Some(field) } else { field.ty.innermost_struct()?.at(rest) }
    }
}

impl Type {
    pub fn as_struct(&self) -> Option<&'static Struct> {
        match self {
            Self::Struct(id) => Some(id.get()),
            _ => None,
        }
    }

    /// The type of a list's items.
    pub fn items(&self) -> Option<&Type> {
        match self {
            Self::List(item) => Some(item),
            _ => None,
        }
    }

    /// The type of a map's values.
    pub fn values(&self) -> Option<&Type> {
        match self {
            Self::Map(value) => Some(value),
            _ => None,
        }
    }

    fn innermost_struct(&self) -> Option<&'static Struct> {
        match self {
            Self::Struct(id) => Some(id.get()),
            Self::List(inner) | Self::Map(inner) => inner.innermost_struct(),
            _ => None,
        }
    }

    /// Go's name of the type, as decoding errors print it.
    pub fn go_name(&self) -> String {
        match self {
            Self::String => "string".to_owned(),
            Self::Bytes => "[]uint8".to_owned(),
            Self::Time => "v1.Time".to_owned(),
            Self::MicroTime => "v1.MicroTime".to_owned(),
            Self::Int32 | Self::IntOrString => "int32".to_owned(),
            Self::Int64 => "int64".to_owned(),
            Self::Double => "float64".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Quantity => "resource.Quantity".to_owned(),
            Self::Any => "runtime.RawExtension".to_owned(),
            Self::Struct(id) => {
                let mut parts = id.get().name.rsplit('.');
                let name = parts.next().unwrap_or_default();
                format!("{}.{name}", parts.next().unwrap_or("v1"))
            }
            Self::Map(value) => format!("map[string]{}", value.go_name()),
            Self::List(item) => format!("[]{}", item.go_name()),
        }
    }
}

#[cfg(test)]
mod tests;
