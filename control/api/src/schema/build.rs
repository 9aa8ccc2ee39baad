//! Builds the graph of types out of the generated JSON schemas.

use std::collections::HashMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::facts;
use super::roots::ROOTS;
use super::{Field, Graph, Struct, StructId, Type};

pub(crate) const DEFINITIONS: &str = "/components/schemas";
const REF_PREFIX: &str = "#/components/schemas/";

/// A generator that keeps every definition below [`DEFINITIONS`].
pub(crate) fn generator() -> SchemaGenerator {
    SchemaGenerator::new(SchemaSettings::draft2020_12().with(|s| s.definitions_path = DEFINITIONS.into()))
}

/// The definition that a `$ref` names.
pub(crate) fn ref_name(schema: &Map<String, Value>) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(REF_PREFIX)
}

pub(super) fn graph() -> Graph {
    let mut graph = Graph { structs: Vec::new(), by_kind: HashMap::new() };
    let mut by_name: HashMap<String, StructId> = HashMap::new();
    for root in ROOTS {
        // A generator of its own per kind: its descriptions are dropped before the next kind's are made.
        let mut generator = generator();
        let root_schema = (root.schema)(&mut generator);
        let definitions = generator.take_definitions(false);
        for name in definitions.keys() {
            if leaf(name).is_none() && !by_name.contains_key(name) {
                // 16 bits hold a hundred times the definitions that exist; past that, later ones read as `Any`.
                let Ok(index) = u16::try_from(graph.structs.len()) else { continue };
                by_name.insert(name.clone(), StructId(index));
                graph.structs.push(Struct { name: name.as_str().into(), fields: Vec::new(), atomic: false });
            }
        }
        for (name, schema) in &definitions {
            let Some(id) = by_name.get(name) else { continue };
            let slot = usize::from(id.0);
            if graph.structs[slot].fields.is_empty() {
                graph.structs[slot].fields = fields(name, schema, &by_name);
                graph.structs[slot].atomic = facts::is_atomic(name);
            }
        }
        let id = root_schema.as_object().and_then(ref_name).and_then(|name| by_name.get(name));
        if let Some(id) = id {
            graph.by_kind.insert((root.group, root.version, root.kind), *id);
        }
    }
    graph.structs.shrink_to_fit();
    graph
}

fn fields(definition: &str, schema: &Value, by_name: &HashMap<String, StructId>) -> Vec<Field> {
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut fields: Vec<Field> = properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| Field {
            name: name.as_str().into(),
            ty: ty(schema, by_name),
            required: required.contains(&name.as_str()) && facts::is_required(definition, name),
            facts: facts::of(definition, name),
        })
        .collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    fields.shrink_to_fit();
    fields
}

/// Definitions that are no structs.
fn leaf(name: &str) -> Option<Type> {
    Some(match name.rsplit('.').next()? {
        "Time" => Type::Time,
        "MicroTime" => Type::MicroTime,
        "Quantity" => Type::Quantity,
        "IntOrString" => Type::IntOrString,
        "RawExtension"
        | "FieldsV1"
        | "JSON"
        | "JSONSchemaPropsOrArray"
        | "JSONSchemaPropsOrBool"
        | "JSONSchemaPropsOrStringArray" => Type::Any,
        _ => return None,
    })
}

fn ty(schema: &Value, by_name: &HashMap<String, StructId>) -> Type {
    let Some(map) = schema.as_object() else { return Type::Any };
    if let Some(name) = ref_name(map) {
        return leaf(name).or_else(|| by_name.get(name).map(|id| Type::Struct(*id))).unwrap_or(Type::Any);
    }
    let format = map.get("format").and_then(Value::as_str).unwrap_or_default();
    match (map.get("type").and_then(Value::as_str).unwrap_or_default(), format) {
        ("string", "byte") => Type::Bytes,
        ("string", "date-time") => Type::Time,
        ("string", _) => Type::String,
        ("integer", "int64") => Type::Int64,
        ("integer", _) => Type::Int32,
        ("number", _) => Type::Double,
        ("boolean", _) => Type::Bool,
        ("array", _) => Type::List(Box::new(map.get("items").map_or(Type::Any, |items| ty(items, by_name)))),
        ("object", _) => match map.get("additionalProperties") {
            Some(values) => Type::Map(Box::new(ty(values, by_name))),
            None => Type::Any,
        },
        _ => Type::Any,
    }
}
