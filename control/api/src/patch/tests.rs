use super::*;
use proptest::prelude::*;
use serde_json::json;

const POD: Expected<'_> = Expected { group: "", version: "v1", kind: "Pod" };
const DEPLOYMENT: Expected<'_> = Expected { group: "apps", version: "v1", kind: "Deployment" };

fn pod_spec(spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec})
}

fn strategic(original: &Value, patch: &Value) -> Result<Value, String> {
    let schema = schema::of("", "v1", "Pod").unwrap();
    super::strategic::apply(pod_spec(original), json!({"spec": patch}), schema)
        .map(|v| v["spec"].clone())
        .map_err(|e| e.to_string())
}

#[test]
fn strategic_merges() {
    let c = |name: &str, image: &str| json!({"name": name, "image": image});
    let table = [
        (
            "lists merge by key",
            json!({"containers": [c("a", "1"), c("b", "1")]}),
            json!({"containers": [{"name": "b", "image": "2"}]}),
            json!({"containers": [c("a", "1"), c("b", "2")]}),
        ),
        (
            "a new item comes where the order says",
            json!({"containers": [c("a", "1"), c("b", "1")]}),
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}], "containers": [c("c", "1")]}),
            json!({"containers": [c("c", "1"), c("a", "1"), c("b", "1")]}),
        ),
        (
            "order alone moves items; the server's own stay where they were",
            json!({"containers": [c("a", "1"), c("x", "1"), c("b", "1")]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            json!({"containers": [c("x", "1"), c("b", "1"), c("a", "1")]}),
        ),
        (
            "items are deleted by key",
            json!({"containers": [c("a", "1"), c("b", "1")]}),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [c("b", "1")]}),
        ),
        (
            "lists are replaced",
            json!({"containers": [c("a", "1"), c("b", "1")]}),
            json!({"containers": [{"$patch": "replace"}, c("z", "9")]}),
            json!({"containers": [c("z", "9")]}),
        ),
        (
            "objects are replaced",
            json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}}),
            json!({"securityContext": {"$patch": "replace", "runAsUser": 3}}),
            json!({"securityContext": {"runAsUser": 3}}),
        ),
        (
            "objects are emptied",
            json!({"securityContext": {"runAsUser": 1}}),
            json!({"securityContext": {"$patch": "delete"}}),
            json!({"securityContext": {}}),
        ),
        (
            "nulls remove",
            json!({"nodeName": "n", "hostname": "h"}),
            json!({"nodeName": null, "subdomain": null}),
            json!({"hostname": "h"}),
        ),
        (
            "lists without a key are replaced",
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}]}),
        ),
        (
            "maps merge",
            json!({"nodeSelector": {"a": "1", "b": "2"}}),
            json!({"nodeSelector": {"b": null, "c": "3"}}),
            json!({"nodeSelector": {"a": "1", "c": "3"}}),
        ),
        (
            "retained keys drop the others",
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
        ),
        (
            "a key that is a number",
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "x"}]}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "UDP"}, {"containerPort": 81}]}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "x", "protocol": "UDP"}, {"containerPort": 81}]}]}),
        ),
        (
            "directives in new parts vanish",
            json!({}),
            json!({"containers": [{"name": "a", "env": [{"name": "E", "$patch": "delete"}]}], "volumes": [{"$patch": "delete", "name": "v"}]}),
            json!({"containers": [{"name": "a", "env": []}], "volumes": []}),
        ),
    ];
    for (why, original, patch, want) in table {
        assert_eq!(strategic(&original, &patch), Ok(want), "{why}");
    }
}

#[test]
fn strategic_lists_of_scalars() {
    let schema = schema::of("", "v1", "Pod").unwrap();
    let merge = |original: Value, patch: Value| {
        super::strategic::apply(json!({"metadata": original}), json!({"metadata": patch}), schema).unwrap()["metadata"]
            .clone()
    };
    assert_eq!(
        merge(json!({"finalizers": ["a", "b"]}), json!({"finalizers": ["c", "a"]})),
        json!({"finalizers": ["c", "a", "b"]})
    );
    assert_eq!(
        merge(
            json!({"finalizers": ["a", "b", "c"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["c", "a"]})
        ),
        json!({"finalizers": ["c", "a"]})
    );
}

#[test]
fn strategic_errors() {
    let table = [
        (
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"image": "x"}]}),
            r#"map: {"image":"x"} does not contain declared merge key: name"#,
        ),
        (
            json!({"securityContext": {"fsGroup": 1}}),
            json!({"securityContext": {"$patch": "merge"}}),
            r#"unknown patch type: merge in map: {"$patch":"merge"}"#,
        ),
        (
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"name": "a", "$patch": "merge"}]}),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"volumes": [{"name": "v"}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "emptyDir": {}}]}),
            "invalid patch format of retainKeys",
        ),
        (
            json!({"containers": []}),
            json!({"$setElementOrder/containers": {}}),
            "invalid patch format of setElementOrder list",
        ),
        (
            json!({"containers": [{"name": "a"}]}),
            json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "c"}]}),
            "The order in patch list:\n[{\"name\":\"c\"}]\n doesn't match $setElementOrder list:\n[{\"name\":\"b\"}]\n",
        ),
    ];
    for (original, patch, want) in table {
        assert_eq!(strategic(&original, &patch), Err(want.to_owned()));
    }
}

#[test]
fn merge_patches_follow_rfc_7396() {
    let table = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ];
    for (mut original, patch, want) in table {
        merge::apply(&mut original, patch);
        assert_eq!(original, want);
    }
}

#[test]
fn json_patches() {
    let doc = json!({"a": {"b": [1, 2, 3]}, "x/y": 1, "m~n": 2});
    let good = [
        (json!([{"op": "add", "path": "/a/b/1", "value": 9}]), json!({"a": {"b": [1, 9, 2, 3]}, "x/y": 1, "m~n": 2})),
        (json!([{"op": "add", "path": "/a/b/-", "value": 9}]), json!({"a": {"b": [1, 2, 3, 9]}, "x/y": 1, "m~n": 2})),
        (
            json!([{"op": "remove", "path": "/a/b/-1"}, {"op": "remove", "path": "/x~1y"}]),
            json!({"a": {"b": [1, 2]}, "m~n": 2}),
        ),
        (
            json!([{"op": "replace", "path": "/m~0n", "value": null}]),
            json!({"a": {"b": [1, 2, 3]}, "x/y": 1, "m~n": null}),
        ),
        (json!([{"op": "move", "from": "/a/b", "path": "/c"}]), json!({"a": {}, "x/y": 1, "m~n": 2, "c": [1, 2, 3]})),
        (
            json!([{"op": "copy", "from": "/a/b/0", "path": "/a/c"}]),
            json!({"a": {"b": [1, 2, 3], "c": 1}, "x/y": 1, "m~n": 2}),
        ),
        (
            json!([{"op": "test", "path": "/a/b", "value": [1, 2, 3]}, {"op": "test", "path": "/none", "value": null}]),
            doc.clone(),
        ),
        (json!([{"op": "replace", "path": "", "value": {"new": 1}}]), json!({"new": 1})),
    ];
    for (patch, want) in good {
        assert_eq!(json::apply(&doc, patch.to_string().as_bytes()), Ok(want), "{patch}");
    }
    let bad = [
        (json!([{"op": "add", "path": "/a/b/9", "value": 9}]), 422),
        (json!([{"op": "add", "path": "/none/b", "value": 9}]), 422),
        (json!([{"op": "remove", "path": "/none"}]), 422),
        (json!([{"op": "replace", "path": "/none", "value": 1}]), 422),
        (json!([{"op": "test", "path": "/a/b/0", "value": 2}]), 422),
        (json!([{"op": "move", "from": "/a", "path": "/a/b/c"}]), 422),
        (json!([{"op": "fly", "path": "/a"}]), 422),
        (json!([{"op": "add", "path": "a", "value": 1}]), 422),
        (json!([{"op": "add", "path": "/a"}]), 400),
        (json!([{"op": "add", "value": 1}]), 400),
        (json!({"op": "add"}), 400),
    ];
    for (patch, code) in bad {
        let status = json::apply(&doc, patch.to_string().as_bytes()).unwrap_err();
        assert_eq!(status.code, code, "{patch}");
    }
}

#[test]
fn json_patches_are_bounded() {
    let many: Vec<Value> = (0..=json::MAX_OPERATIONS).map(|_| json!({"op": "test", "path": "/none"})).collect();
    let status = json::apply(&json!({}), Value::from(many).to_string().as_bytes()).unwrap_err();
    assert_eq!(
        (status.code, status.message.as_str()),
        (413, "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001")
    );
    let doubling: Vec<Value> = (0..64).map(|i| json!({"op": "copy", "from": "", "path": format!("/x{i}")})).collect();
    let status = json::apply(&json!({"a": "some text"}), Value::from(doubling).to_string().as_bytes()).unwrap_err();
    assert_eq!(status.code, 413);
    let path = |n: usize| "/a".repeat(n);
    let deep: Vec<Value> = (1..200).map(|n| json!({"op": "add", "path": path(n), "value": {}})).collect();
    let current = json!({"apiVersion": "v1", "kind": "Pod"});
    let body = Value::from(deep).to_string();
    assert_eq!(apply(PatchType::Json, &current, body.as_bytes(), POD, FieldValidation::Warn).unwrap_err().code, 422);
}

#[test]
fn patched_objects_are_conformed() {
    let current =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 1}});
    let run = |patch_type, body: Value, validation| {
        apply(patch_type, &current, body.to_string().as_bytes(), DEPLOYMENT, validation)
    };
    let ok = run(PatchType::Merge, json!({"spec": {"replicas": 3, "bogus": 1}}), FieldValidation::Warn).unwrap();
    assert_eq!(ok.object["spec"], json!({"replicas": 3}));
    assert_eq!(ok.warnings, [r#"unknown field "spec.bogus""#]);
    let strict = run(PatchType::Merge, json!({"spec": {"bogus": 1}}), FieldValidation::Strict).unwrap_err();
    assert_eq!(strict.code, 422);
    assert_eq!(
        strict.message,
        r#" "" is invalid: patch: Invalid value: "{\"spec\":{\"bogus\":1}}": strict decoding error: unknown field "spec.bogus""#
    );
    let wrong =
        run(PatchType::StrategicMerge, json!({"spec": {"replicas": "x"}}), FieldValidation::Ignore).unwrap_err();
    assert!(
        wrong
            .message
            .contains("cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32")
    );
    assert_eq!(run(PatchType::Merge, json!({"kind": "Pod"}), FieldValidation::Warn).unwrap_err().code, 422);
    assert_eq!(run(PatchType::Merge, json!([]), FieldValidation::Warn).unwrap_err().code, 400);
    let unknown = Expected { group: "example.com", version: "v1", kind: "Widget" };
    assert_eq!(
        apply(PatchType::StrategicMerge, &current, b"{}", unknown, FieldValidation::Warn).unwrap_err().code,
        415
    );
}

#[test]
fn content_types() {
    assert_eq!(PatchType::of_content_type("application/json-patch+json; charset=utf-8"), Some(PatchType::Json));
    assert_eq!(PatchType::of_content_type("application/json"), None);
}

fn arb_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c$]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| m.into_iter().collect::<Value>()),
        ]
    })
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        other => other,
    }
}

fn arb_containers() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-e]", ("[x-z]", prop::option::of("[p-r]")), 0..5).prop_map(|containers| {
        containers
            .into_iter()
            .map(|(name, (image, dir))| match dir {
                Some(dir) => json!({"name": name, "image": image, "workingDir": dir}),
                None => json!({"name": name, "image": image}),
            })
            .collect::<Vec<_>>()
            .into()
    })
}

proptest! {
    #[test]
    fn merge_patch_is_idempotent(original in arb_json(), patch in arb_json()) {
        let mut once = original;
        merge::apply(&mut once, patch.clone());
        let mut twice = once.clone();
        merge::apply(&mut twice, patch);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn merge_patch_of_the_whole_makes_it(target in arb_json()) {
        let target = without_nulls(target);
        let mut out = Value::Null;
        merge::apply(&mut out, target.clone());
        prop_assert_eq!(out, target);
    }

    #[test]
    fn strategic_patch_is_idempotent_and_keeps_the_others(a in arb_containers(), b in arb_containers()) {
        let once = strategic(&json!({"containers": a}), &json!({"containers": b})).unwrap();
        prop_assert_eq!(&strategic(&once, &json!({"containers": b})).unwrap(), &once);
        let names = |v: &Value| v.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let mut want: Vec<String> = names(&a).into_iter().chain(names(&b)).collect();
        want.sort();
        want.dedup();
        let mut got = names(&once["containers"]);
        got.sort();
        prop_assert_eq!(got, want);
        let patched: Vec<String> = names(&once["containers"]).into_iter().filter(|n| names(&b).contains(n)).collect();
        prop_assert_eq!(patched, names(&b));
    }

    #[test]
    fn no_patch_panics(patch in arb_json(), ops in prop::collection::vec(("add|remove|replace|move|copy|test", "(/[a-d0-9-]{0,2}){0,3}", "(/[a-d]){0,2}", arb_json()), 0..6)) {
        let current = pod_spec(&json!({"containers": [{"name": "a"}]}));
        let body = patch.to_string();
        let _ = apply(PatchType::Merge, &current, body.as_bytes(), POD, FieldValidation::Warn);
        let _ = apply(PatchType::StrategicMerge, &current, body.as_bytes(), POD, FieldValidation::Strict);
        let ops: Vec<Value> = ops.into_iter().map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value})).collect();
        let _ = apply(PatchType::Json, &patch, Value::from(ops).to_string().as_bytes(), POD, FieldValidation::Warn);
    }
}
