//! The patch that is sent: only what differs, only what is ours.

use super::*;

fn pod(status: &Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": status})).unwrap()
}

#[allow(clippy::needless_pass_by_value, reason = "a table reads better without references")]
fn patch(ours: Value, theirs: Value) -> Option<Value> {
    let ours: PodStatus = serde_json::from_value(ours).unwrap();
    patch_of(&ours, &pod(&theirs)).map(|patch| patch["status"].clone())
}

#[test]
fn differences_only() {
    let same = json!({"phase": "Running", "podIP": "1", "podIPs": [{"ip": "1"}]});
    assert_eq!(patch(same.clone(), same), None);
    assert_eq!(
        patch(json!({"phase": "Running"}), json!({"phase": "Pending", "nominatedNodeName": "n"})),
        Some(json!({"phase": "Running"}))
    );
    // A reason that is gone is taken away; what others own stays.
    assert_eq!(
        patch(json!({"phase": "Pending"}), json!({"phase": "Pending", "reason": "X", "resize": "y"})),
        Some(json!({"reason": null}))
    );
}

#[test]
fn addresses_that_are_gone_are_deleted() {
    let got = patch(json!({"podIPs": [{"ip": "2"}]}), json!({"podIPs": [{"ip": "1"}]}));
    assert_eq!(got, Some(json!({"podIPs": [{"ip": "2"}, {"$patch": "delete", "ip": "1"}]})));
}

#[test]
fn conditions_of_others_stay() {
    let theirs = json!({"conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"},
        {"type": "DisruptionTarget", "status": "True"},
    ]});
    let ours = json!({"conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-02-01T00:00:00Z"},
        {"type": "Ready", "status": "True"},
    ]});
    let got = patch(ours, theirs).unwrap();
    assert_eq!(got, json!({"conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}]}));
}

#[test]
fn the_patch_names_the_uid() {
    let status = PodStatus { phase: Some("Running".into()), ..Default::default() };
    assert_eq!(patch_of(&status, &pod(&json!({}))).unwrap()["metadata"]["uid"], "u");
}
