use super::*;
use crate::schema;
use proptest::prelude::*;
use serde_json::json;

fn by(name: &'static str) -> Manager<'static> {
    Manager { name, api_version: "apps/v1", subresource: "", now: "2026-01-01T00:00:00Z" }
}

fn deployment(spec: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "d"}, "spec": spec})
}

fn with_containers(containers: &Value) -> Value {
    deployment(&json!({"template": {"spec": {"containers": containers}}}))
}

fn run(live: Option<&Value>, config: &Value, who: &'static str, force: bool) -> Result<Value, Status> {
    apply(live, config, schema::of("apps", "v1", "Deployment"), by(who), force)
}

fn fields_of(object: &Value, who: &str) -> Value {
    let list = object["metadata"]["managedFields"].as_array().unwrap();
    list.iter().find(|e| e["manager"] == who).map_or(Value::Null, |e| e["fieldsV1"].clone())
}

#[test]
fn first_apply_owns_what_it_says() {
    let object = run(
        None,
        &with_containers(&json!([{"name": "a", "image": "1", "ports": [{"containerPort": 80}]}])),
        "k",
        false,
    )
    .unwrap();
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{"manager": "k", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:image": {}, "f:ports": {
                    "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}}}])
    );
}

#[test]
fn what_is_no_longer_listed_goes() {
    let labels = |l: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": l}, "spec": {}});
    let one = run(None, &labels(json!({"a": "1", "b": "2"})), "k", false).unwrap();
    let two = run(Some(&one), &labels(json!({"a": "1"})), "k", false).unwrap();
    assert_eq!(two["metadata"]["labels"], json!({"a": "1"}));
    // Another owner keeps it.
    let shared = run(Some(&one), &labels(json!({"b": "2"})), "other", false).unwrap();
    let kept = run(Some(&shared), &labels(json!({"a": "1"})), "k", false).unwrap();
    assert_eq!(kept["metadata"]["labels"], json!({"a": "1", "b": "2"}));
    assert_eq!(fields_of(&kept, "other"), json!({"f:metadata": {"f:labels": {"f:b": {}}}, "f:spec": {}}));
    // A whole struct goes with its last field.
    let secure = |v: Value| deployment(&json!({"template": {"spec": v}}));
    let one = run(None, &secure(json!({"securityContext": {"fsGroup": 1}, "hostname": "h"})), "k", false).unwrap();
    let two = run(Some(&one), &secure(json!({"hostname": "h"})), "k", false).unwrap();
    assert_eq!(two["spec"]["template"]["spec"], json!({"hostname": "h"}));
    // List items go, defaulted fields and all.
    let one =
        run(None, &with_containers(&json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])), "k", false)
            .unwrap();
    let two = run(Some(&one), &with_containers(&json!([{"name": "b", "image": "2"}])), "k", false).unwrap();
    assert_eq!(two["spec"]["template"]["spec"]["containers"], json!([{"name": "b", "image": "2"}]));
}

#[test]
fn conflicts_are_named() {
    let one = run(None, &deployment(&json!({"replicas": 1, "paused": true})), "first", false).unwrap();
    let mut live = one.clone();
    live["spec"]["replicas"] = 3.into();
    let updater = Manager { subresource: "scale", ..by("scaler") };
    track_update(Some(&one), &mut live, schema::of("apps", "v1", "Deployment"), updater);
    assert_eq!(fields_of(&live, "scaler"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(fields_of(&live, "first"), json!({"f:spec": {"f:paused": {}}}));

    let status = run(Some(&live), &deployment(&json!({"replicas": 5})), "k", false).unwrap_err();
    assert_eq!(status.code, 409);
    assert_eq!(
        status.message,
        r#"Apply failed with 1 conflict: conflict with "scaler" with subresource "scale" using apps/v1 at 2026-01-01T00:00:00Z: .spec.replicas"#
    );
    let causes = status.details.unwrap().causes;
    assert_eq!((causes[0].reason.as_str(), causes[0].field.as_str()), ("FieldManagerConflict", ".spec.replicas"));

    let both = run(Some(&live), &deployment(&json!({"replicas": 5, "paused": false})), "k", false).unwrap_err();
    assert_eq!(
        both.message,
        "Apply failed with 2 conflicts: conflicts with \"first\":\n- .spec.paused\nconflicts with \"scaler\" with subresource \"scale\" using apps/v1 at 2026-01-01T00:00:00Z:\n- .spec.replicas"
    );
    // The same value is no conflict but shared ownership.
    let shared = run(Some(&live), &deployment(&json!({"replicas": 3})), "k", false).unwrap();
    assert_eq!(fields_of(&shared, "k"), fields_of(&shared, "scaler"));
    // Force takes over.
    let forced = run(Some(&live), &deployment(&json!({"replicas": 5})), "k", true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 5);
    assert_eq!(fields_of(&forced, "scaler"), Value::Null);
}

#[test]
fn updates_own_what_they_change() {
    let schema = schema::of("apps", "v1", "Deployment");
    let mut created = deployment(&json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}}));
    created["metadata"]["labels"] = json!({"x": "y"});
    track_update(None, &mut created, schema, by("creator"));
    assert_eq!(
        fields_of(&created, "creator"),
        json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}, "f:spec": {"f:replicas": {}, "f:selector": {}}})
    );
    let mut updated = created.clone();
    updated["metadata"]["labels"] = json!({"z": "1"});
    updated["status"] = json!({"conditions": [{"type": "Available", "status": "True"}]});
    track_update(Some(&created), &mut updated, schema, by("other"));
    assert_eq!(
        fields_of(&updated, "other"),
        json!({"f:metadata": {"f:labels": {"f:z": {}}}, "f:status": {"f:conditions": {".": {},
            "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}}}})
    );
    assert_eq!(
        fields_of(&updated, "creator"),
        json!({"f:metadata": {"f:labels": {}}, "f:spec": {"f:replicas": {}, "f:selector": {}}})
    );
    let mut same = updated.clone();
    track_update(Some(&updated), &mut same, schema, by("nobody"));
    assert_eq!(same, updated);
}

#[test]
fn updates_are_bounded() {
    let schema = schema::of("", "v1", "ConfigMap");
    let mut live = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    for i in 0..30 {
        let mut next = live.clone();
        next["data"][format!("k{i}")] = "v".into();
        let name = format!("m{i:02}");
        let now = format!("2026-01-01T00:00:{i:02}Z");
        track_update(
            Some(&live),
            &mut next,
            schema,
            Manager { name: &name, api_version: "v1", subresource: "", now: &now },
        );
        live = next;
    }
    let list = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(list.len(), 10);
    assert_eq!(list[0]["manager"], "ancient-changes");
    assert_eq!(list[0]["fieldsV1"]["f:data"].as_object().unwrap().len(), 22);
    assert_eq!(list[9]["manager"], "m29");
}

#[test]
fn refusals() {
    let config = deployment(&json!({}));
    assert_eq!(
        run(None, &config, "", false).unwrap_err().message,
        r#"PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch"#
    );
    let mut managed = config;
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(run(None, &managed, "k", false).unwrap_err().code, 400);
    let twice = with_containers(&json!([{"name": "a"}, {"name": "a"}]));
    let status = run(None, &twice, "k", false).unwrap_err();
    assert!(
        status.message.ends_with(r#".spec.template.spec.containers: duplicate entries for key [name="a"]"#),
        "{}",
        status.message
    );
}

#[test]
fn order_of_items() {
    let names = |v: &Value| {
        let list = v["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        list.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect::<String>()
    };
    let of = |text: &str| with_containers(&text.chars().map(|c| json!({"name": c.to_string()})).collect());
    for (live, config, want) in
        [("ab", "ba", "ba"), ("axb", "ba", "bax"), ("", "ba", "ba"), ("ab", "c", "abc"), ("abc", "bd", "abcd")]
    {
        let object =
            apply(Some(&of(live)), &of(config), schema::of("apps", "v1", "Deployment"), by("k"), false).unwrap();
        assert_eq!(names(&object), want, "{live} {config}");
    }
}

#[test]
fn without_a_schema_objects_are_granular() {
    let config = |spec: Value| json!({"apiVersion": "x/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    let one = apply(None, &config(json!({"a": {"b": 1}, "l": [1]})), None, by("k"), false).unwrap();
    assert_eq!(fields_of(&one, "k"), json!({"f:spec": {"f:a": {"f:b": {}}, "f:l": {}}}));
    let two = apply(Some(&one), &config(json!({"l": [2]})), None, by("k"), false).unwrap();
    assert_eq!(two["spec"], json!({"l": [2]}));
}

fn arb_config() -> impl Strategy<Value = Value> {
    let container = ("[x-z]", prop::option::of("[p-r]"));
    let containers = prop::collection::btree_map("[a-c]", container, 0..4);
    let labels = prop::collection::btree_map("[a-c]", "[x-z]", 0..4);
    (containers, labels, prop::option::of(0_i32..3)).prop_map(|(containers, labels, replicas)| {
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, (image, dir))| {
                let mut c = json!({"name": name, "image": image});
                if let Some(dir) = dir {
                    c["workingDir"] = dir.into();
                }
                c
            })
            .collect();
        let mut object = with_containers(&containers.into());
        object["metadata"]["labels"] = labels.into_iter().map(|(k, v)| (k, Value::from(v))).collect();
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = replicas.into();
        }
        object
    })
}

proptest! {
    #[test]
    fn fields_survive_encoding(config in arb_config()) {
        let set = walk::owned(&config, View::Struct(schema::of("apps", "v1", "Deployment").unwrap()), true);
        prop_assert_eq!(FieldSet::decode(&set.encode()), set);
    }

    #[test]
    fn apply_is_idempotent(live in arb_config(), config in arb_config()) {
        let live = run(None, &live, "first", false).unwrap();
        let once = run(Some(&live), &config, "k", true).unwrap();
        let twice = run(Some(&once), &config, "k", false).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_sole_applier_gets_what_it_says(a in arb_config(), b in arb_config()) {
        let one = run(None, &a, "k", false).unwrap();
        let two = run(Some(&one), &b, "k", false).unwrap();
        let fresh = run(None, &b, "k", false).unwrap();
        let sorted = |v: &Value| crate::field::go_json(&v["spec"]) + &crate::field::go_json(&v["metadata"]["labels"]);
        prop_assert_eq!(sorted(&two), sorted(&fresh));
    }

    #[test]
    fn every_field_that_changed_has_one_owner(a in arb_config(), b in arb_config()) {
        let schema = schema::of("apps", "v1", "Deployment");
        let mut old = a;
        track_update(None, &mut old, schema, by("one"));
        let mut new = b;
        track_update(Some(&old), &mut new, schema, by("two"));
        let mut all: Vec<String> = Vec::new();
        for entry in Managers::of(&new).entries() {
            all.extend(entry.fields.paths());
        }
        let count = all.len();
        all.sort();
        all.dedup();
        prop_assert_eq!(all.len(), count);
    }
}
