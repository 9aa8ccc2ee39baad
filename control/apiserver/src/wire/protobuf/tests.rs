//! Bodies as client-go writes them.

use super::*;

/// Length-delimited field.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, u8::try_from(body.len()).unwrap()];
    out.extend_from_slice(body);
    out
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &meta), field(2, raw), field(3, b""), field(4, b"")].concat()
}

#[test]
fn a_review() {
    let attributes = [field(1, b"default"), field(2, b"create"), field(3, b""), field(5, b"pods")].concat();
    let raw = [field(1, &field(1, b"")), field(2, &field(1, &attributes)), field(3, &varint(1, 0))].concat();
    assert_eq!(
        decode(&envelope("authorization.k8s.io/v1", "SelfSubjectAccessReview", &raw)).unwrap(),
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
            "spec": {"resourceAttributes": {"namespace": "default", "verb": "create", "resource": "pods"}}, "status": {}})
    );
}

#[test]
fn pointers_inlining_maps_and_times() {
    // The volume source stands inline; an empty emptyDir stays.
    let volume = [field(1, b"v"), field(2, &field(2, b""))].concat();
    let spec = [field(1, &volume), varint(4, 0), varint(11, 0)].concat();
    let labels = field(11, &[field(1, b"a"), field(2, b"b")].concat());
    let meta = [field(1, b"p"), field(8, b""), labels].concat();
    let raw = [field(1, &meta), field(2, &spec)].concat();
    assert_eq!(
        decode(&envelope("v1", "Pod", &raw)).unwrap(),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 0}})
    );
}

#[test]
fn options_travel_under_any_group() {
    let raw = [varint(1, 0), field(4, b"Background")].concat();
    assert_eq!(
        decode(&envelope("apps/v1", "DeleteOptions", &raw)).unwrap(),
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "propagationPolicy": "Background"})
    );
}

#[test]
fn rubbish_is_refused() {
    assert_eq!(decode(b"{}"), Err(ProtobufError::Magic));
    assert_eq!(decode(&[MAGIC, &[0x0a, 0x7f]].concat()), Err(ProtobufError::Truncated));
    assert!(matches!(decode(&envelope("v1", "None", b"")), Err(ProtobufError::UnknownKind(_))));
    let mut deep = Vec::new();
    for _ in 0..40 {
        deep = field(30, &field(34, &deep[..deep.len().min(120)]));
    }
    let _ = decode(&envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &deep[..deep.len().min(120)]));
}

#[test]
fn durations() {
    for (nanos, text) in [
        (0, "0s"),
        (1_500_000_000, "1.5s"),
        (3_600_000_000_000, "1h0m0s"),
        (90_000_000_000, "1m30s"),
        (2_500_000, "2.5ms"),
        (-1_000_000_000, "-1s"),
    ] {
        assert_eq!(go_duration(nanos), text);
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..120)) {
        let _ = decode(&envelope("v1", "Pod", &raw));
        let _ = decode(&raw);
    }
}
