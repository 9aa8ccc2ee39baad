//! One manifest of a static pod: read, checked, defaulted, given its identity.

use k8s_openapi::api::core::v1::Pod;
use orlop_api::strict::FieldValidation;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::pod::{CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE};

/// Largest manifest.
pub const MAX_BYTES: usize = 10 * 1024 * 1024;

/// Why a manifest is not a pod.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("neither YAML nor JSON: {0}")]
    Syntax(String),
    #[error("is empty")]
    Empty,
    #[error("holds {0} documents: write one Pod per file")]
    Documents(usize),
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
    #[error("{0}")]
    Reference(String),
    #[error("not a v1 Pod: {0}")]
    Type(String),
}

/// Reads a manifest. `source` is `file` or `http`; `origin` is its path or URL. `warnings` takes what was passed
/// over: fields that no Pod has.
pub fn parse(
    text: &str,
    source: &str,
    origin: &str,
    node_name: &str,
    warnings: &mut Vec<String>,
) -> Result<Pod, ManifestError> {
    let mut value = one_document(text)?;
    let field =
        |field: &str, problem: &str| ManifestError::Field { field: field.to_owned(), problem: problem.to_owned() };
    if !value.is_object() {
        return Err(field("(root)", "must be an object"));
    }
    for (name, wanted) in [("apiVersion", "v1"), ("kind", "Pod")] {
        match value.get(name).and_then(Value::as_str) {
            Some(have) if have == wanted => {}
            Some(have) => return Err(field(name, &format!("is {have:?}, must be {wanted:?}"))),
            None => return Err(field(name, &format!("is missing, must be {wanted:?}"))),
        }
    }
    if let Some(schema) = orlop_api::schema::of("", "v1", "Pod") {
        *warnings = orlop_api::strict::conform(&mut value, schema, FieldValidation::Warn)
            .map_err(|error| ManifestError::Type(error.to_string()))?;
    }
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(field("metadata.name", "is required"));
    }
    check(&value)?;
    forbid_references(&value)?;
    let own_uid =
        value.pointer("/metadata/uid").and_then(Value::as_str).filter(|uid| !uid.is_empty()).map(str::to_owned);
    let uid = own_uid.unwrap_or_else(|| uid_of(&value, source, origin, node_name));
    identify(&mut value, &uid, &name, source, node_name);
    orlop_api::defaults::apply_defaults("", "v1", "Pod", &mut value);
    let mut pod: Pod = serde_json::from_value(value).map_err(|error| ManifestError::Type(error.to_string()))?;
    if source == "file" {
        tolerate_no_execute(&mut pod);
    }
    Ok(pod)
}

fn one_document(text: &str) -> Result<Value, ManifestError> {
    let mut documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| ManifestError::Syntax(error.to_string()))?;
    // A separator at the end begins a document of nothing.
    documents.retain(|document| !document.is_null());
    match documents.len() {
        0 => Err(ManifestError::Empty),
        1 => Ok(documents.swap_remove(0)),
        many => Err(ManifestError::Documents(many)),
    }
}

/// What a kubelet can't do without, each by its field.
fn check(value: &Value) -> Result<(), ManifestError> {
    let field = |field: String, problem: &str| ManifestError::Field { field, problem: problem.to_owned() };
    for (path, messages) in [
        ("metadata.name", value.pointer("/metadata/name")),
        ("metadata.namespace", value.pointer("/metadata/namespace")),
    ]
    .into_iter()
    .filter_map(|(path, text)| Some((path, orlop_api::validation::content::dns1123_subdomain(text?.as_str()?))))
    {
        if let Some(message) = messages.first() {
            return Err(field(path.to_owned(), message));
        }
    }
    if let Some(uid) = value.pointer("/metadata/uid").and_then(Value::as_str)
        && !uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    {
        // It becomes the name of a directory.
        return Err(field("metadata.uid".to_owned(), "may only hold letters, digits and '-'"));
    }
    let containers = value.pointer("/spec/containers").and_then(Value::as_array);
    let Some(containers) = containers.filter(|list| !list.is_empty()) else {
        return Err(field("spec.containers".to_owned(), "at least one is required"));
    };
    let init = value.pointer("/spec/initContainers").and_then(Value::as_array);
    let mut names = std::collections::BTreeSet::new();
    let all =
        containers.iter().enumerate().map(|(index, c)| (format!("spec.containers[{index}]"), c)).chain(
            init.into_iter().flatten().enumerate().map(|(index, c)| (format!("spec.initContainers[{index}]"), c)),
        );
    for (path, container) in all {
        let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
        if let Some(message) = orlop_api::validation::content::dns1123_label(name).first() {
            return Err(field(format!("{path}.name"), message));
        }
        if !names.insert(name.to_owned()) {
            return Err(field(format!("{path}.name"), &format!("{name:?} is used twice")));
        }
        if container.get("image").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(field(format!("{path}.image"), "is required"));
        }
    }
    Ok(())
}

/// Static pods may not need API objects: they run without an API server.
fn forbid_references(value: &Value) -> Result<(), ManifestError> {
    let refuse = |what: &str| Err(ManifestError::Reference(format!("static pods may not reference {what}")));
    let spec = &value["spec"];
    if spec["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty())
        || spec["serviceAccount"].as_str().is_some_and(|name| !name.is_empty())
    {
        return refuse("serviceaccounts");
    }
    if spec["resourceClaims"].as_array().is_some_and(|list| !list.is_empty()) {
        return refuse("resourceclaims");
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        for (kind, what) in
            [("configMap", "configmaps"), ("secret", "secrets"), ("persistentVolumeClaim", "persistentvolumeclaims")]
        {
            if volume.get(kind).is_some_and(|v| !v.is_null()) {
                return refuse(what);
            }
        }
        for source in volume.pointer("/projected/sources").and_then(Value::as_array).into_iter().flatten() {
            for (kind, what) in [
                ("configMap", "configmaps"),
                ("secret", "secrets"),
                ("serviceAccountToken", "serviceaccounts"),
                ("clusterTrustBundle", "clustertrustbundles"),
            ] {
                if source.get(kind).is_some_and(|v| !v.is_null()) {
                    return refuse(what);
                }
            }
        }
    }
    for kind in ["containers", "initContainers"] {
        for container in spec[kind].as_array().into_iter().flatten() {
            for source in container["envFrom"].as_array().into_iter().flatten() {
                for (name, what) in [("configMapRef", "configmaps"), ("secretRef", "secrets")] {
                    if source.get(name).is_some_and(|v| !v.is_null()) {
                        return refuse(what);
                    }
                }
            }
            for variable in container["env"].as_array().into_iter().flatten() {
                for (name, what) in [("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")] {
                    if variable.pointer(&format!("/valueFrom/{name}")).is_some_and(|v| !v.is_null()) {
                        return refuse(what);
                    }
                }
            }
        }
    }
    Ok(())
}

/// The UID of a pod that names none: a hash of what it says and where it was found, so that an
/// unchanged manifest is the same pod after a restart, and a changed one is another pod.
fn uid_of(value: &Value, source: &str, origin: &str, node_name: &str) -> String {
    use std::fmt::Write as _;
    let mut hasher = Sha256::new();
    hasher.update(canonical(value).as_bytes());
    hasher.update([0]);
    for part in [source, node_name, origin] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hasher.finalize()[..16].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// JSON with sorted keys.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let fields: Vec<String> =
                keys.into_iter().map(|key| format!("{}:{}", Value::from(key.as_str()), canonical(&map[key]))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn identify(value: &mut Value, uid: &str, name: &str, source: &str, node_name: &str) {
    let metadata = &mut value["metadata"];
    metadata["uid"] = uid.into();
    metadata["name"] = format!("{name}-{}", node_name.to_lowercase()).into();
    if metadata["namespace"].as_str().is_none_or(str::is_empty) {
        metadata["namespace"] = "default".into();
    }
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = serde_json::json!({});
    }
    metadata["annotations"][CONFIG_HASH] = uid.into();
    metadata["annotations"][CONFIG_SOURCE] = source.into();
    metadata["annotations"][CONFIG_SEEN] = k8s_openapi::jiff::Timestamp::now().to_string().into();
    value["spec"]["nodeName"] = node_name.into();
    value["status"] = serde_json::json!({"phase": "Pending"});
}

/// Static pods stay where they are, whatever the node is tainted with.
fn tolerate_no_execute(pod: &mut Pod) {
    let Some(spec) = pod.spec.as_mut() else { return };
    let tolerations = spec.tolerations.get_or_insert_default();
    let has = |t: &k8s_openapi::api::core::v1::Toleration| {
        t.key.as_deref().unwrap_or_default().is_empty()
            && t.operator.as_deref() == Some("Exists")
            && t.effect.as_deref() == Some("NoExecute")
    };
    if !tolerations.iter().any(has) {
        tolerations.push(k8s_openapi::api::core::v1::Toleration {
            operator: Some("Exists".to_owned()),
            effect: Some("NoExecute".to_owned()),
            ..Default::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::PodExt;

    fn parse(text: &str, source: &str, origin: &str, node: &str) -> Result<Pod, ManifestError> {
        super::parse(text, source, origin, node, &mut Vec::new())
    }

    const GOOD: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: a, image: busybox}\n";

    #[test]
    fn identity() {
        let pod = parse(GOOD, "file", "/m/a.yaml", "Node1").unwrap();
        assert_eq!(pod.key(), "default/web-node1");
        assert!(pod.is_static() && !pod.is_mirror());
        assert_eq!(pod.annotation(CONFIG_HASH), Some(pod.uid_str()));
        assert_eq!(pod.uid_str().len(), 32);
        assert_eq!(pod.spec.as_ref().unwrap().tolerations.as_ref().unwrap().len(), 1);
        assert_eq!(pod.restart_policy(), "Always");
        // The same words in another order are the same pod; another file is another pod.
        let reordered =
            "kind: Pod\napiVersion: v1\nspec:\n  containers:\n  - {image: busybox, name: a}\nmetadata: {name: web}\n";
        assert_eq!(parse(reordered, "file", "/m/a.yaml", "Node1").unwrap().uid_str(), pod.uid_str());
        assert_ne!(parse(GOOD, "file", "/m/b.yaml", "Node1").unwrap().uid_str(), pod.uid_str());
    }

    #[test]
    fn errors_name_the_field() {
        let check = |text: &str, part: &str| {
            let error = parse(text, "file", "/m/a.yaml", "n").unwrap_err().to_string();
            assert!(error.contains(part), "{error:?} should contain {part:?}");
        };
        check("{", "neither YAML nor JSON");
        check("a", "(root)");
        check("kind: Pod", "apiVersion: is missing");
        check("apiVersion: v1\nkind: Deployment", "kind: is \"Deployment\"");
        check("apiVersion: v1\nkind: Pod", "metadata.name");
        check("apiVersion: v1\nkind: Pod\nmetadata: {name: ../x}", "metadata.name");
        check(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: ../x}\nspec: {containers: [{name: a, image: b}]}",
            "metadata.uid",
        );
        check("apiVersion: v1\nkind: Pod\nmetadata: {name: a}", "spec.containers");
        check(&GOOD.replace("name: a,", "name: A_B,"), "spec.containers[0].name");
        check(&GOOD.replace("image: busybox", "image: ''"), "spec.containers[0].image");
        check(&format!("{GOOD}  volumes: [{{name: v, configMap: {{name: c}}}}]\n"), "may not reference configmaps");
        check(&format!("{GOOD}  hostNetwork: 5\n"), "not a v1 Pod");
        check(&GOOD.replace("image: busybox", "image: busybox, command: [1]"), "command");
        check("", "is empty");
        check(&format!("{GOOD}---\n{GOOD}"), "holds 2 documents");
    }

    #[test]
    fn a_separator_is_no_second_document() {
        for text in [format!("---\n{GOOD}"), format!("{GOOD}---\n"), format!("# words\n---\n{GOOD}---\n")] {
            assert_eq!(parse(&text, "file", "/m/a.yaml", "n").unwrap().key(), "default/web-n");
        }
    }

    #[test]
    fn unknown_fields_are_named() {
        let mut warnings = Vec::new();
        let text = format!("bogus: 1\n{}", GOOD.replace("image: busybox", "image: busybox, comand: [a]"));
        super::parse(&text, "file", "/m/a.yaml", "n", &mut warnings).unwrap();
        assert_eq!(warnings, [r#"unknown field "bogus""#, r#"unknown field "spec.containers[0].comand""#]);
    }
}
