#![allow(clippy::needless_pass_by_value, reason = "tables read better with json! values passed as they are")]

use super::*;
use serde_json::json;

fn labels(text: &str, object: serde_json::Value) -> bool {
    parse_label_selector(text)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .matches(&json!({ "metadata": { "labels": object } }))
}

#[test]
fn label_queries() {
    let web = || json!({"app": "web", "tier": "front", "n": "5", "empty": ""});
    for (text, expect) in [
        ("", true),
        ("app", true),
        ("app=web", true),
        ("app==web", true),
        ("app = web , tier", true),
        ("app!=web", false),
        ("other!=web", true),
        ("!app", false),
        ("! other", true),
        ("app in (web,db)", true),
        ("app in (db, cache)", false),
        ("app notin (db)", true),
        ("other notin (db)", true),
        ("empty=", true),
        ("empty=,app=web", true),
        ("empty in (,x)", true),
        ("empty in ()", true),
        ("app in (a,)", false),
        ("n>4", true),
        ("n<4", false),
        ("in in (in)", false),
        ("app=web,tier=back", false),
    ] {
        assert_eq!(labels(text, web()), expect, "{text}");
    }
    assert!(labels("!a", json!(null)));
}

#[test]
fn label_query_errors() {
    for (text, expect) in [
        ("a,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a==(b", "unable to parse requirement: found '(', expected: identifier"),
    ] {
        assert_eq!(parse_label_selector(text).unwrap_err().to_string(), expect, "{text}");
    }
    let long = format!("a={}", "x".repeat(64));
    assert_eq!(
        parse_label_selector(&long).unwrap_err().to_string(),
        format!(
            "unable to parse requirement: values[0][a]: Invalid value: \"{}\": must be no more than 63 bytes",
            "x".repeat(64)
        )
    );
    assert!(parse_label_selector("-a").unwrap_err().to_string().contains("name part must consist of"));
}

#[test]
fn label_selector_prints_sorted() {
    let selector = parse_label_selector("z,a in (c,b),!m,k=v").unwrap();
    assert_eq!(selector.to_string(), "a in (b,c),k=v,!m,z");
}

#[test]
fn label_selector_objects() {
    let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    let check = |selector: serde_json::Value| selector_from_object(Some(&selector)).unwrap().matches(&object);
    assert!(check(json!({})));
    assert!(!selector_from_object(None).unwrap().matches(&object));
    assert!(check(json!({"matchLabels": {"a": "1"}})));
    assert!(!check(json!({"matchLabels": {"a": "2"}})));
    assert!(check(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "3"]}]})));
    assert!(check(json!({"matchExpressions": [{"key": "c", "operator": "DoesNotExist"}]})));
    let bad = json!({"matchExpressions": [{"key": "c", "operator": "Gt"}]});
    assert_eq!(
        selector_from_object(Some(&bad)).unwrap_err().to_string(),
        "\"Gt\" is not a valid label selector operator"
    );
}

#[test]
fn field_selectors() {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"nodeName": "n1", "hostNetwork": true},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
    });
    for (text, expect) in [
        ("", true),
        ("metadata.name=p", true),
        ("metadata.name==p,metadata.namespace=ns", true),
        ("metadata.name!=p", false),
        ("spec.host=n1", true),
        ("spec.nodeName=", false),
        ("spec.hostNetwork=true", true),
        ("status.podIPs=10.0.0.1", true),
        ("status.phase!=Succeeded,status.phase!=Failed", true),
        ("status.nominatedNodeName=", true),
        ("metadata.name=\\=", false),
    ] {
        let selector = parse_field_selector("", "v1", "Pod", text).unwrap();
        assert_eq!(selector.matches(&pod), expect, "{text}");
    }
    let node = parse_field_selector("", "v1", "Node", "spec.unschedulable=false").unwrap();
    assert!(node.matches(&json!({"spec": {}})));
    assert_eq!(
        parse_field_selector("", "v1", "Pod", "spec.nodeName=n1").unwrap().requires_exact("spec.nodeName"),
        Some("n1")
    );
}

#[test]
fn field_selector_errors() {
    let check = |group, kind, text, expect: &str| {
        assert_eq!(parse_field_selector(group, "v1", kind, text).unwrap_err().to_string(), expect);
    };
    check("", "Pod", "spec.foo=1", "field label not supported: spec.foo");
    check("batch", "Job", "spec.foo=1", "field label \"spec.foo\" not supported for Job");
    check(
        "apps",
        "Deployment",
        "spec.foo=1",
        "\"spec.foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
    );
    check("", "Pod", "name", "invalid selector: 'name'; can't understand 'name'");
    check("", "Pod", "metadata.name=a=b", "invalid field selector: unescaped character in value: 61");
    check("", "Pod", "metadata.name=a\\b", "invalid field selector: invalid escape sequence: \\b");
}
