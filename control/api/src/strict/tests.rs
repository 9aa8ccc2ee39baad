use super::*;
use serde_json::json;

const DEPLOYMENT: Expected<'_> = Expected { group: "apps", version: "v1", kind: "Deployment" };
const POD: Expected<'_> = Expected { group: "", version: "v1", kind: "Pod" };

fn message(expected: Expected<'_>, body: &str, validation: FieldValidation) -> String {
    match decode(body.as_bytes(), Format::Json, expected, validation) {
        Ok(decoded) => panic!("accepted: {decoded:?}"),
        Err(status) => {
            assert_eq!(status.code, 400);
            status.message
        }
    }
}

#[test]
fn refuses_in_upstreams_words() {
    use FieldValidation::{Strict, Warn};
    let table: &[(Expected<'_>, FieldValidation, &str, &str)] = &[
        (
            DEPLOYMENT,
            Strict,
            r#"{"spec":{"foo":1,"template":{"spec":{"containers":[{"name":"a","bar":2}]}}}}"#,
            r#"Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.foo", unknown field "spec.template.spec.containers[0].bar""#,
        ),
        (
            DEPLOYMENT,
            Strict,
            r#"{"spec":{"replicas":1,"replicas":2}}"#,
            r#"Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: duplicate field "spec.replicas""#,
        ),
        (
            DEPLOYMENT,
            Warn,
            r#"{"spec":{"replicas":"three"}}"#,
            r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"#,
        ),
        (
            DEPLOYMENT,
            Warn,
            r#"{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":1}]}]}}}}"#,
            r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string"#,
        ),
        (
            DEPLOYMENT,
            Warn,
            r#"{"spec":{"replicas":99999999999}}"#,
            r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32"#,
        ),
        (
            POD,
            Warn,
            r#"{"metadata":{"labels":{"a":1}}}"#,
            r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"#,
        ),
        (
            POD,
            Warn,
            r#"{"spec":{"containers":{}}}"#,
            r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"#,
        ),
        (
            POD,
            Warn,
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"much"}}}]}}"#,
            r#"Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#,
        ),
        (
            POD,
            Warn,
            r#"{"metadata":{"creationTimestamp":"yesterday"}}"#,
            r#"Pod in version "v1" cannot be handled as a Pod: parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#,
        ),
        (
            Expected { group: "", version: "v1", kind: "Secret" },
            Warn,
            r#"{"data":{"a":"***"}}"#,
            r#"Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0"#,
        ),
        (
            POD,
            Warn,
            r#"{"apiVersion":"apps/v1","kind":"Deployment"}"#,
            r#"Deployment in version "v1" cannot be handled as a Pod: converting (v1.Deployment) to (v1.Pod): unknown conversion"#,
        ),
        (
            POD,
            Warn,
            r#"{"apiVersion":"v2","kind":"Pod"}"#,
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        (
            POD,
            Warn,
            r#"{"kind":"Foo"}"#,
            r#"Foo in version "v1" cannot be handled as a Pod: no kind "Foo" is registered for version "v1""#,
        ),
        (
            POD,
            Warn,
            "[]",
            r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal array into Go value of type v1.Pod"#,
        ),
    ];
    for (expected, validation, body, want) in table {
        assert_eq!(&message(*expected, body, *validation), want, "{body}");
    }
    let garbage = message(POD, "xyz", Warn);
    assert!(garbage.starts_with("the object provided is unrecognized (must be of type Pod): "), "{garbage}");
    assert!(garbage.ends_with("(78797a)"), "{garbage}");
}

#[test]
fn warns_and_drops() {
    let body = br#"{"spec":{"foo":1,"containers":[{"name":"a","bar":null},{"name":"b","baz":{"x":[]}}],"nodeName":"n","nodeName":"m"}}"#;
    let decoded = decode(body, Format::Json, POD, FieldValidation::Warn).unwrap();
    assert_eq!(
        decoded.warnings,
        [
            r#"duplicate field "spec.nodeName""#,
            r#"unknown field "spec.foo""#,
            r#"unknown field "spec.containers[0].bar""#,
            r#"unknown field "spec.containers[1].baz""#,
        ]
    );
    assert_eq!(
        decoded.object,
        json!({"apiVersion": "v1", "kind": "Pod",
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "m"}})
    );
    assert!(decode(body, Format::Json, POD, FieldValidation::Ignore).unwrap().warnings.is_empty());
}

#[test]
fn canonical_forms() {
    let body = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {}, "annotations": null, "creationTimestamp": "2026-01-02T03:04:05.5+02:00"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1000m", "memory": 1024}}, "args": [null]}],
            "tolerations": [], "securityContext": {}, "volumes": [{"name": "v", "emptyDir": {}}]}});
    let decoded = decode(body.to_string().as_bytes(), Format::Json, POD, FieldValidation::Strict).unwrap();
    assert_eq!(
        decoded.object,
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "creationTimestamp": "2026-01-02T01:04:05Z"},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1024"}}, "args": [""]}],
                "securityContext": {}, "volumes": [{"name": "v", "emptyDir": {}}]}})
    );
}

#[test]
fn raw_values_are_left_alone() {
    let revision = Expected { group: "apps", version: "v1", kind: "ControllerRevision" };
    let body = br#"{"data":{"any":{"thing":null}},"revision":1}"#;
    let decoded = decode(body, Format::Json, revision, FieldValidation::Strict).unwrap();
    assert_eq!(decoded.object["data"], json!({"any": {"thing": null}}));
}

#[test]
fn yaml_bodies() {
    let body =
        b"kind: Pod\nspec:\n  containers:\n  - name: a\n    image: busybox\n    ports:\n    - containerPort: 80\n";
    let decoded = decode(body, Format::Yaml, POD, FieldValidation::Strict).unwrap();
    assert_eq!(decoded.object["spec"]["containers"][0]["ports"][0]["containerPort"], 80);
    let bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
    assert!(parse(bomb, Format::Yaml).is_err());
}

#[test]
fn nesting_is_bounded() {
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(parse(deep.as_bytes(), Format::Json).is_err());
    assert!(parse(deep.as_bytes(), Format::Yaml).is_err());
}

#[test]
fn field_validation_parameter() {
    assert_eq!(FieldValidation::from_query(None), Ok(FieldValidation::Warn));
    assert_eq!(FieldValidation::from_query(Some("Strict")), Ok(FieldValidation::Strict));
    assert_eq!(
        FieldValidation::from_query(Some("x")).unwrap_err().message,
        r#"CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "x": supported values: "", "Ignore", "Strict", "Warn""#
    );
}
