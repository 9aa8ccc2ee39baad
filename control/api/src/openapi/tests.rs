use super::*;
use crate::registry::RESOURCES;

/// Every `$ref` of a document, anywhere in it.
fn references<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                out.push(reference);
            }
            map.values().for_each(|v| references(v, out));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

fn check_references(document: &Value) {
    let mut found = Vec::new();
    references(document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn index_names_every_group_and_version() {
    let index = v3_index();
    let paths = index["paths"].as_object().unwrap();
    assert!(
        paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1") && paths.contains_key("apis/autoscaling/v2")
    );
    for (path, at) in paths {
        let url = at["serverRelativeURL"].as_str().unwrap();
        assert!(url.starts_with(&format!("/openapi/v3/{path}?hash=")), "{url}");
    }
    assert_eq!(v3_index(), index);
}

#[test]
fn v3_documents_are_whole() {
    for (group, version) in group_versions() {
        let document = v3_document(&document_path(group, version)).unwrap();
        check_references(&document);
        for row in RESOURCES.iter().filter(|r| (r.group, r.version) == (group, version)) {
            let kind = json!({"group": group, "version": version, "kind": row.kind});
            let known = document["components"]["schemas"].as_object().unwrap().values();
            let named =
                known.filter_map(|d| d["x-kubernetes-group-version-kind"].as_array()).any(|list| list.contains(&kind));
            assert!(named, "{row:?}");
        }
    }
    assert!(v3_document("apis/nothing/v1").is_none());
}

#[test]
fn deployments_look_like_upstreams() {
    let document = v3_document("apis/apps/v1").unwrap();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(patch["x-kubernetes-action"], "patch");
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    assert!(
        patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query")
    );
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
    let schemas = &document["components"]["schemas"];
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["items"], json!({"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}));
    let strategy = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"];
    assert_eq!(strategy["allOf"], json!([{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}]));
    assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
    assert!(strategy["description"].is_string());
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert!(deployment.get("required").is_none());
    let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert!(schemas["io.k8s.api.apps.v1.DeploymentList"].is_object());
}

#[test]
fn swagger_is_whole() {
    let document = v2();
    check_references(&document);
    assert_eq!(document["swagger"], "2.0");
    let pods = &document["paths"]["/api/v1/namespaces/{namespace}/pods"];
    assert_eq!(pods["post"]["operationId"], "createCoreV1NamespacedPod");
    assert_eq!(pods["get"]["operationId"], "listCoreV1NamespacedPod");
    assert_eq!(pods["delete"]["operationId"], "deleteCoreV1CollectionNamespacedPod");
    assert_eq!(
        document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"]["x-kubernetes-action"],
        "connect"
    );
    let spec = &document["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"];
    assert_eq!(spec["$ref"], "#/definitions/io.k8s.api.core.v1.PodSpec");
    assert_eq!(names("rbac.authorization.k8s.io"), "listRbacAuthorizationV1ClusterRole");
}

fn names(group: &str) -> String {
    let document = v3_document(&format!("apis/{group}/v1")).unwrap();
    document["paths"][format!("/apis/{group}/v1/clusterroles")]["get"]["operationId"].as_str().unwrap().to_owned()
}

/// The payloads of a field of a protobuf message.
fn payloads(message: &[u8], wanted: u64) -> Vec<&[u8]> {
    fn varint(bytes: &[u8], at: &mut usize) -> u64 {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = bytes[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    }
    let (mut out, mut at) = (Vec::new(), 0);
    while at < message.len() {
        let key = varint(message, &mut at);
        if key & 7 == 0 {
            varint(message, &mut at);
            continue;
        }
        assert_eq!(key & 7, 2, "wire type of field {}", key >> 3);
        let length = usize::try_from(varint(message, &mut at)).unwrap();
        if key >> 3 == wanted {
            out.push(&message[at..at + length]);
        }
        at += length;
    }
    out
}

/// The value of the entry NAME in the maps' field NUMBER.
fn entry<'a>(map: &'a [u8], number: u64, name: &str) -> &'a [u8] {
    let found = payloads(map, number).into_iter().find(|e| payloads(e, 1) == [name.as_bytes()]).unwrap();
    payloads(found, 2)[0]
}

#[test]
fn swagger_has_a_protobuf_form() {
    let bytes = v2_protobuf().unwrap();
    let document = v2();
    assert_eq!(payloads(&bytes, 1), [b"2.0"]);
    assert_eq!(payloads(&bytes, 12).len(), 1);
    let paths = payloads(&bytes, 8)[0];
    assert_eq!(payloads(paths, 2).len(), document["paths"].as_object().unwrap().len());
    let pod = entry(paths, 2, "/api/v1/namespaces/{namespace}/pods/{name}");
    let patch = payloads(pod, 8)[0];
    assert_eq!(payloads(patch, 5), [b"patchCoreV1NamespacedPod"]);
    assert_eq!(payloads(entry(patch, 13, "x-kubernetes-action"), 2), [br#""patch""#]);
    // ParametersItem.parameter > Parameter.non_body_parameter > .query_parameter_sub_schema > name: kubectl looks for it.
    let names: Vec<&[u8]> = payloads(patch, 8)
        .into_iter()
        .flat_map(|item| payloads(item, 1))
        .flat_map(|parameter| payloads(parameter, 2))
        .flat_map(|not_body| payloads(not_body, 3))
        .flat_map(|query| payloads(query, 4))
        .collect();
    assert!(names.contains(&b"fieldValidation".as_slice()) && names.contains(&b"dryRun".as_slice()));
    let definitions = payloads(&bytes, 9)[0];
    assert_eq!(payloads(definitions, 1).len(), document["definitions"].as_object().unwrap().len());
    let spec = entry(definitions, 1, "io.k8s.api.core.v1.PodSpec");
    let containers = entry(payloads(spec, 25)[0], 1, "containers");
    assert_eq!(payloads(payloads(containers, 22)[0], 1), [b"array"]);
    assert_eq!(
        payloads(payloads(payloads(containers, 23)[0], 1)[0], 1),
        [b"#/definitions/io.k8s.api.core.v1.Container"]
    );
    assert_eq!(payloads(entry(containers, 31, "x-kubernetes-list-map-keys"), 2), [br#"["name"]"#]);
}

#[test]
fn what_has_no_protobuf_form_is_not_dropped() {
    let error = protobuf::encode(&json!({"definitions": {"A": {"oneOf": []}}})).unwrap_err();
    assert_eq!(error.to_string(), r#"no protobuf form of "oneOf" in Schema"#);
    assert!(protobuf::encode(&json!({"swagger": 2})).is_err());
}
