//! Static Pods: the manifests directory is the truth, the mirror Pod shows it.

use std::fs;

use orlop_tests::stack::{NODE, condition};
use orlop_tests::{Stack, eventually, ready_or_skip};

fn manifest(marker: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: beacon\n  namespace: default\n  labels: {{marker: {marker}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: orlop.local/busybox:1.37\n    \
         command: [sleep, infinity]\n"
    )
}

#[test]
fn a_manifest_becomes_a_pod_with_a_mirror() {
    let Some(()) = ready_or_skip("a_manifest_becomes_a_pod_with_a_mirror") else { return };
    let stack = Stack::up();
    let file = stack.manifests_dir().join("beacon.yaml");
    let mirror = format!("beacon-{NODE}");
    fs::write(&file, manifest("one")).unwrap();
    let pod = running_with(&stack, &mirror, "one");
    assert_eq!(pod["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    assert!(pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string());
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "Node");

    // The mirror is only a picture: deleted, it comes back, and the container stays.
    let container = pod["status"]["containerStatuses"][0]["containerID"].clone();
    let _ = stack.kubectl(&["delete", "pod", &mirror, "--wait=false"]).ok();
    let again = eventually("a new mirror Pod", || {
        let now = stack.get(&["pod", &mirror]);
        let new = now["metadata"]["uid"] != pod["metadata"]["uid"] && condition(&now, "Ready") == "True";
        if new { Ok(now) } else { Err(now.to_string()) }
    });
    assert_eq!(again["status"]["containerStatuses"][0]["containerID"], container);

    // Changed, it is another Pod.
    fs::write(&file, manifest("two")).unwrap();
    let changed = running_with(&stack, &mirror, "two");
    assert_ne!(changed["status"]["containerStatuses"][0]["containerID"], container);

    // A broken manifest beside it is said in the log and disturbs nobody.
    fs::write(stack.manifests_dir().join("broken.yaml"), "kind: Pod\nspec: [").unwrap();
    eventually("a word about broken.yaml", || {
        let log = stack.errors();
        if log.contains("broken.yaml") { Ok(()) } else { Err(log) }
    });
    assert_eq!(condition(&stack.get(&["pod", &mirror]), "Ready"), "True");

    fs::remove_file(&file).unwrap();
    eventually("the end of the mirror Pod", || {
        let pod = stack.get(&["pod", &mirror]);
        if pod.is_null() { Ok(()) } else { Err(pod["status"].to_string()) }
    });
}

fn running_with(stack: &Stack, name: &str, marker: &str) -> serde_json::Value {
    eventually(&format!("{name} with marker {marker}, Ready"), || {
        let pod = stack.get(&["pod", name]);
        let right = pod["metadata"]["labels"]["marker"] == marker && condition(&pod, "Ready") == "True";
        if right { Ok(pod) } else { Err(format!("{}\n{}", pod["status"], stack.errors())) }
    })
}
