//! The definitions of one group and version: generated schemas brought into upstream's form, with the facts that
//! clients merge by (`x-kubernetes-patch-strategy` and its kin) and lists of the kinds.

use serde_json::{Map, Value, json};

use super::Dialect;
use crate::registry::ResourceInfo;
use crate::schema::{self, FieldFacts, ListType, roots};

pub(super) const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// The definitions that the resources of a group and version need, their own and shared ones.
pub(super) fn of(dialect: Dialect, group: &str, version: &str, rows: &[&ResourceInfo]) -> Map<String, Value> {
    let mut kinds: Vec<(&str, &str, &str)> = vec![
        ("meta.k8s.io", "v1", "DeleteOptions"),
        ("meta.k8s.io", "v1", "Status"),
        ("meta.k8s.io", "v1", "ListMeta"),
    ];
    for row in rows {
        kinds.push((row.group, row.version, row.kind));
        kinds.extend(row.subresources.iter().map(|s| (s.group, s.version, s.kind)));
    }
    let mut generator = schema::generator();
    for root in roots::ROOTS {
        if kinds.contains(&(root.group, root.version, root.kind)) {
            (root.schema)(&mut generator);
        }
    }
    let mut out = Map::new();
    for (name, generated) in generator.take_definitions(false) {
        let written = definition(dialect, &name, generated);
        out.insert(name, written);
    }
    for (group, version, kind) in kinds {
        let Some(schema) = schema::of(group, version, kind) else { continue };
        let group = if group == "meta.k8s.io" { "" } else { group };
        if let Some(Value::Object(map)) = out.get_mut(&*schema.name) {
            map.insert("x-kubernetes-group-version-kind".into(), json!([gvk(group, version, kind)]));
        }
    }
    if !group.is_empty() {
        // Delete options may come in the group's own version.
        let known = out.get_mut(DELETE_OPTIONS).and_then(|d| d.get_mut("x-kubernetes-group-version-kind"));
        if let Some(Value::Array(known)) = known {
            known.push(gvk(group, version, "DeleteOptions"));
        }
    }
    out.insert(
        PATCH.into(),
        json!({"type": "object", "description": "A patch, in the format that the content type names."}),
    );
    for row in rows.iter().filter(|row| row.has_verb("list")) {
        if let Some(schema) = schema::of(row.group, row.version, row.kind) {
            out.insert(format!("{}List", schema.name), list(dialect, row, &schema.name));
        }
    }
    out.sort_keys();
    out
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn list(dialect: Dialect, row: &ResourceInfo, item: &str) -> Value {
    json!({
        "description": format!("{}List is a list of {} objects.", row.kind, row.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of this representation of the list."},
            "items": {"type": "array", "description": "The objects.", "items": dialect.reference(item)},
            "kind": {"type": "string", "description": "The kind of the list."},
            "metadata": described(dialect, LIST_META, "Standard list metadata."),
        },
        "x-kubernetes-group-version-kind": [gvk(row.group, row.version, &row.list_kind())],
    })
}

/// A reference with a description: v3 readers ignore what stands beside a `$ref`.
fn described(dialect: Dialect, definition: &str, description: &str) -> Value {
    let mut out = Map::new();
    match dialect {
        Dialect::V2 => {
            out.insert("$ref".into(), dialect.reference(definition)["$ref"].clone());
        }
        Dialect::V3 => {
            out.insert("allOf".into(), json!([dialect.reference(definition)]));
        }
    }
    out.insert("description".into(), description.into());
    Value::Object(out)
}

fn definition(dialect: Dialect, name: &str, generated: Value) -> Value {
    let Value::Object(mut map) = generated else { return generated };
    match name.rsplit('.').next().unwrap_or_default() {
        "Quantity" => return leaf(dialect, &map, None, &["string", "number"]),
        "IntOrString" => return leaf(dialect, &map, Some("int-or-string"), &["integer", "string"]),
        "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => {
            map.retain(|key, _| key == "description");
            return Value::Object(map);
        }
        _ => {}
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        let owned = std::mem::take(properties);
        *properties = owned
            .into_iter()
            .map(|(field, schema)| {
                let written = property(dialect, schema, &schema::facts::of(name, &field));
                (field, written)
            })
            .collect();
    }
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|field| field.as_str().is_some_and(|field| schema::facts::is_required(name, field)));
        if required.is_empty() {
            map.shift_remove("required");
        }
    }
    if schema::facts::is_atomic(name) {
        map.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    Value::Object(map)
}

/// A string or a number: v3 can say so, v2 cannot.
fn leaf(dialect: Dialect, generated: &Map<String, Value>, format: Option<&str>, types: &[&str]) -> Value {
    let mut out = Map::new();
    if let Some(description) = generated.get("description") {
        out.insert("description".into(), description.clone());
    }
    match dialect {
        Dialect::V2 => {
            out.insert("type".into(), "string".into());
        }
        Dialect::V3 => {
            out.insert("oneOf".into(), types.iter().map(|t| json!({"type": t})).collect());
        }
    }
    if let Some(format) = format {
        out.insert("format".into(), format.into());
    }
    Value::Object(out)
}

fn property(dialect: Dialect, generated: Value, facts: &FieldFacts) -> Value {
    let Value::Object(mut map) = generated else { return generated };
    let is_list = map.get("type").is_some_and(|t| t == "array");
    for nested in ["items", "additionalProperties"] {
        if let Some(inner) = map.shift_remove(nested) {
            map.insert(nested.into(), property(dialect, inner, &FieldFacts::default()));
        }
    }
    if let Some(definition) = schema::ref_name(&map).map(str::to_owned) {
        let description = map.get("description").and_then(Value::as_str).unwrap_or_default();
        let written = if description.is_empty() {
            dialect.reference(&definition)
        } else {
            described(dialect, &definition, description)
        };
        if let Value::Object(written) = written {
            map = written;
        }
    }
    let mut put = |key: &str, value: Value| map.insert(format!("x-kubernetes-{key}"), value);
    if is_list {
        match &facts.list_type {
            ListType::Map(keys) => {
                put("list-type", "map".into());
                put("list-map-keys", keys.as_slice().into());
            }
            ListType::Set => {
                put("list-type", "set".into());
            }
            ListType::Atomic => {
                put("list-type", "atomic".into());
            }
        }
    }
    if let Some(atomic) = facts.atomic_map {
        put("map-type", if atomic { "atomic" } else { "granular" }.into());
    }
    let mut strategies = Vec::new();
    if let Some(key) = facts.merge_key {
        strategies.push("merge");
        if !key.is_empty() {
            put("patch-merge-key", key.into());
        }
    }
    if facts.retain_keys {
        strategies.push("retainKeys");
    }
    if facts.replace {
        strategies.push("replace");
    }
    if !strategies.is_empty() {
        put("patch-strategy", strategies.join(",").into());
    }
    Value::Object(map)
}
