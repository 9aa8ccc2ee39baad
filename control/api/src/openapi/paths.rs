//! The operations of one group and version, as kubectl reads them: it looks for `x-kubernetes-action`,
//! `x-kubernetes-group-version-kind`, the accepted patch formats, and the `fieldValidation` parameter.

use serde_json::{Map, Value, json};

use super::Dialect;
use super::definitions::{DELETE_OPTIONS, PATCH, STATUS};
use crate::patch::PatchType;
use crate::registry::{ResourceInfo, Subresource};
use crate::schema;

/// One query or path parameter.
struct Parameter {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const fn parameter(name: &'static str, kind: &'static str, text: &'static str) -> Parameter {
    Parameter { name, kind, text }
}

const PRETTY: Parameter = parameter("pretty", "string", "Whether the answer is printed for humans.");
const DRY_RUN: Parameter = parameter("dryRun", "string", "`All`: do everything but store the result.");
const FIELD_MANAGER: Parameter = parameter("fieldManager", "string", "Who makes the change; required for apply.");
const FIELD_VALIDATION: Parameter = parameter(
    "fieldValidation",
    "string",
    "What unknown and repeated fields do: `Ignore`, `Warn` (the default) or `Strict`.",
);
const FORCE: Parameter = parameter("force", "boolean", "Apply takes over fields that others own.");
const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCH_WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const LIST: &[Parameter] = &[
    parameter("allowWatchBookmarks", "boolean", "Whether a watch may send bookmarks."),
    parameter("continue", "string", "Where the previous chunk of a list ended."),
    parameter("fieldSelector", "string", "Selects objects by their fields."),
    parameter("labelSelector", "string", "Selects objects by their labels."),
    parameter("limit", "integer", "Objects in one chunk."),
    parameter("resourceVersion", "string", "How old the answer may be; for a watch where it starts."),
    parameter("resourceVersionMatch", "string", "How `resourceVersion` is meant: `Exact` or `NotOlderThan`."),
    parameter("sendInitialEvents", "boolean", "A watch starts with the present objects."),
    parameter("timeoutSeconds", "integer", "How long the call may last."),
    parameter("watch", "boolean", "Go on with the changes instead of ending with the list."),
];
const DELETE: &[Parameter] = &[
    DRY_RUN,
    parameter("gracePeriodSeconds", "integer", "Seconds before the object goes; 0 is at once."),
    parameter("orphanDependents", "boolean", "Older form of `propagationPolicy`."),
    parameter("propagationPolicy", "string", "What becomes of dependents: `Orphan`, `Background` or `Foreground`."),
];
const NAME: Parameter = parameter("name", "string", "The object's name.");
const NAMESPACE: Parameter = parameter("namespace", "string", "The object's namespace.");

/// What all operations of one resource or subresource share.
struct Target<'a> {
    dialect: Dialect,
    /// `AppsV1`, in operation ids.
    prefix: String,
    /// `apps_v1`
    tag: String,
    namespaced: bool,
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    /// What operation ids end in: `NamespacedDeploymentScale`.
    subject: String,
    definition: Option<String>,
}

/// Path → operations.
pub(super) fn of(dialect: Dialect, group: &str, version: &str, rows: &[&ResourceInfo]) -> Map<String, Value> {
    let base = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let mut out = Map::new();
    for row in rows {
        resource(dialect, &base, row, &mut out);
    }
    out.sort_keys();
    out
}

fn resource(dialect: Dialect, base: &str, row: &ResourceInfo, out: &mut Map<String, Value>) {
    let (prefix, tag) = names(row.group, row.version);
    let scope = if row.namespaced { "Namespaced" } else { "" };
    let target = Target {
        dialect,
        prefix,
        tag,
        namespaced: row.namespaced,
        group: row.group,
        version: row.version,
        kind: row.kind,
        subject: format!("{scope}{}", row.kind),
        definition: definition_of(row.group, row.version, row.kind),
    };
    let namespaces = if row.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{base}{namespaces}/{}", row.plural);
    let item = format!("{collection}/{{name}}");

    let mut on_collection = Map::new();
    if row.has_verb("list") {
        on_collection.insert("get".into(), target.list(&format!("list{}", target.id())));
        if row.namespaced {
            let everywhere = target.list(&format!("list{}{}ForAllNamespaces", target.prefix, row.kind));
            let mut operations = Map::new();
            operations.insert("get".into(), everywhere);
            operations.insert("parameters".into(), target.parameters(&[PRETTY], "query"));
            out.insert(format!("{base}/{}", row.plural), Value::Object(operations));
        }
    }
    if row.has_verb("create") {
        on_collection.insert("post".into(), target.write("post", "create", WRITE, &[200, 201, 202]));
    }
    if row.has_verb("deletecollection") {
        on_collection.insert("delete".into(), target.delete("deletecollection", "Collection"));
    }
    target.insert(out, collection, on_collection, false);

    let mut on_item = Map::new();
    if row.has_verb("get") {
        on_item.insert("get".into(), target.read());
    }
    if row.has_verb("update") {
        on_item.insert("put".into(), target.write("put", "replace", WRITE, &[200, 201]));
    }
    if row.has_verb("patch") {
        on_item.insert("patch".into(), target.patch());
    }
    if row.has_verb("delete") {
        on_item.insert("delete".into(), target.delete("delete", ""));
    }
    target.insert(out, item.clone(), on_item, true);

    for sub in row.subresources {
        subresource(&target, &item, sub, out);
    }
}

fn subresource(parent: &Target<'_>, item: &str, sub: &Subresource, out: &mut Map<String, Value>) {
    let mut name = sub.name.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let target = Target {
        dialect: parent.dialect,
        prefix: parent.prefix.clone(),
        tag: parent.tag.clone(),
        namespaced: parent.namespaced,
        group: sub.group,
        version: sub.version,
        kind: sub.kind,
        subject: format!("{}{name}", parent.subject),
        definition: definition_of(sub.group, sub.version, sub.kind),
    };
    let mut operations = Map::new();
    if target.definition.is_none() || sub.name == "log" {
        // exec, attach, port-forward, proxy: not objects but connections.
        for verb in sub.verbs {
            let (method, action) = match *verb {
                "get" => ("get", "Get"),
                "create" => ("post", "Post"),
                "update" => ("put", "Put"),
                "patch" => ("patch", "Patch"),
                "delete" => ("delete", "Delete"),
                _ => continue,
            };
            let id = format!("connect{}{action}{}", target.prefix, target.subject);
            operations.insert(method.into(), target.operation("connect", &id, &[], None, &[200]));
        }
    } else {
        for verb in sub.verbs {
            let (method, operation) = match *verb {
                "get" => ("get", target.read()),
                "create" => ("post", target.write("post", "create", WRITE, &[200, 201, 202])),
                "update" => ("put", target.write("put", "replace", WRITE, &[200, 201])),
                "patch" => ("patch", target.patch()),
                _ => continue,
            };
            operations.insert(method.into(), operation);
        }
    }
    target.insert(out, format!("{item}/{}", sub.name), operations, true);
}

fn definition_of(group: &str, version: &str, kind: &str) -> Option<String> {
    schema::of(group, version, kind).map(|s| s.name.to_string())
}

/// (`RbacAuthorizationV1`, `rbacAuthorization_v1`)
fn names(group: &str, version: &str) -> (String, String) {
    let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
    let capital = |text: &str| {
        let mut text = text.to_owned();
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        text
    };
    let camel: String = group.split('.').map(capital).collect();
    let mut tag = camel.clone();
    if let Some(first) = tag.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    (format!("{camel}{}", capital(version)), format!("{tag}_{version}"))
}

impl Target<'_> {
    /// `AppsV1NamespacedDeployment`: what follows the verb in an operation id.
    fn id(&self) -> String {
        format!("{}{}", self.prefix, self.subject)
    }

    fn insert(&self, out: &mut Map<String, Value>, path: String, mut operations: Map<String, Value>, named: bool) {
        if operations.is_empty() {
            return;
        }
        let mut parameters = Vec::new();
        if named {
            parameters.push(self.parameter(&NAME, "path"));
        }
        if self.namespaced {
            parameters.push(self.parameter(&NAMESPACE, "path"));
        }
        parameters.push(self.parameter(&PRETTY, "query"));
        operations.insert("parameters".into(), parameters.into());
        out.insert(path, Value::Object(operations));
    }

    fn parameter(&self, p: &Parameter, place: &str) -> Value {
        let mut out = Map::new();
        out.insert("name".into(), p.name.into());
        out.insert("in".into(), place.into());
        out.insert("description".into(), p.text.into());
        if place == "path" {
            out.insert("required".into(), true.into());
        }
        match self.dialect {
            Dialect::V2 => {
                out.insert("type".into(), p.kind.into());
                out.insert("uniqueItems".into(), true.into());
            }
            Dialect::V3 => {
                out.insert("schema".into(), json!({"type": p.kind, "uniqueItems": true}));
            }
        }
        Value::Object(out)
    }

    fn parameters(&self, list: &[Parameter], place: &str) -> Value {
        list.iter().map(|p| self.parameter(p, place)).collect()
    }

    fn list(&self, id: &str) -> Value {
        let list = self.definition.as_ref().map(|d| format!("{d}List"));
        self.operation("list", id, LIST, list.as_deref(), &[200])
    }

    fn read(&self) -> Value {
        let id = format!("read{}", self.id());
        self.operation("get", &id, &[], self.definition.as_deref(), &[200])
    }

    fn write(&self, action: &str, word: &str, parameters: &[Parameter], codes: &[u16]) -> Value {
        let id = format!("{word}{}", self.id());
        let mut out = self.operation(action, &id, parameters, self.definition.as_deref(), codes);
        if let Some(definition) = &self.definition {
            self.body(&mut out, definition, &["application/json", "application/yaml"], true);
        }
        out
    }

    fn patch(&self) -> Value {
        let id = format!("patch{}", self.id());
        let mut out = self.operation("patch", &id, PATCH_WRITE, self.definition.as_deref(), &[200, 201]);
        self.body(&mut out, PATCH, &PatchType::ACCEPTED, true);
        out
    }

    fn delete(&self, action: &str, infix: &str) -> Value {
        let id = format!("delete{}{infix}{}", self.prefix, self.subject);
        let codes: &[u16] = if action == "delete" { &[200, 202] } else { &[200] };
        let mut out = self.operation(action, &id, DELETE, Some(STATUS), codes);
        self.body(&mut out, DELETE_OPTIONS, &["application/json", "application/yaml"], false);
        out
    }

    fn body(&self, operation: &mut Value, definition: &str, formats: &[&str], required: bool) {
        let Some(operation) = operation.as_object_mut() else { return };
        match self.dialect {
            Dialect::V2 => {
                let body = json!({"name": "body", "in": "body", "required": required, "schema": self.dialect.reference(definition)});
                match operation.get_mut("parameters") {
                    Some(Value::Array(parameters)) => parameters.push(body),
                    _ => {
                        operation.insert("parameters".into(), json!([body]));
                    }
                }
                operation.insert("consumes".into(), formats.into());
            }
            Dialect::V3 => {
                let content: Map<String, Value> = formats
                    .iter()
                    .map(|f| ((*f).to_owned(), json!({"schema": self.dialect.reference(definition)})))
                    .collect();
                operation.insert("requestBody".into(), json!({"content": content, "required": required}));
            }
        }
    }

    fn operation(
        &self,
        action: &str,
        id: &str,
        parameters: &[Parameter],
        answer: Option<&str>,
        codes: &[u16],
    ) -> Value {
        let mut responses = Map::new();
        for code in codes {
            let text = match code {
                200 => "OK",
                201 => "Created",
                _ => "Accepted",
            };
            let response = match (answer, self.dialect) {
                (None, _) => json!({"description": text}),
                (Some(d), Dialect::V2) => json!({"description": text, "schema": self.dialect.reference(d)}),
                (Some(d), Dialect::V3) => json!({
                    "description": text,
                    "content": {
                        "application/json": {"schema": self.dialect.reference(d)},
                        "application/yaml": {"schema": self.dialect.reference(d)},
                    },
                }),
            };
            responses.insert(code.to_string(), response);
        }
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        let mut out = Map::new();
        out.insert("operationId".into(), id.into());
        out.insert("tags".into(), json!([self.tag]));
        if !parameters.is_empty() {
            out.insert("parameters".into(), self.parameters(parameters, "query"));
        }
        if self.dialect == Dialect::V2 {
            out.insert("produces".into(), json!(["application/json", "application/yaml"]));
            out.insert("schemes".into(), json!(["https"]));
        }
        out.insert("responses".into(), Value::Object(responses));
        out.insert("x-kubernetes-action".into(), action.into());
        out.insert(
            "x-kubernetes-group-version-kind".into(),
            json!({"group": self.group, "version": self.version, "kind": self.kind}),
        );
        Value::Object(out)
    }
}
