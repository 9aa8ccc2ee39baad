//! NodeRestriction and the certificate plugins: what a kubelet may not.

use super::*;

fn mirror() -> Value {
    json!({
        "metadata": {
            "name": "static-n1", "namespace": "a",
            "annotations": {"kubernetes.io/config.mirror": "hash"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid", "controller": true}],
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
    })
}

#[tokio::test]
async fn a_kubelet_makes_only_mirrors_of_its_own() {
    let world = World::new().with_node_user();
    let made = world.create("pods", mirror()).await.unwrap();
    assert!(made["spec"].get("serviceAccountName").is_none(), "a mirror is left as it is");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut m = mirror();
        change(&mut m);
        m
    };
    let table: [(Value, &str); 7] = [
        (changed(&|m| m["metadata"]["annotations"] = json!({})), "can only create mirror pods"),
        (changed(&|m| m["spec"]["nodeName"] = "n2".into()), "can only create pods with spec.nodeName set to itself"),
        (changed(&|m| m["metadata"]["ownerReferences"] = json!([])), "owner reference set to itself"),
        (
            changed(&|m| m["metadata"]["ownerReferences"][0]["uid"] = "old".into()),
            "node n1 UID mismatch: expected old got node-uid",
        ),
        (changed(&|m| m["metadata"]["ownerReferences"][0]["controller"] = false.into()), "controller owner reference"),
        (
            changed(&|m| m["spec"]["volumes"] = json!([{"configMap": {"name": "x"}}])),
            "can not create pods that reference configmaps",
        ),
        (
            changed(&|m| m["spec"]["volumes"] = json!([{"persistentVolumeClaim": {"claimName": "x"}}])),
            "can not create pods that reference persistentvolumeclaims",
        ),
    ];
    for (object, words) in table {
        refused(world.create("pods", object).await, 403, words);
    }
}

#[tokio::test]
async fn a_kubelet_changes_only_its_own() {
    let world = World::new().with_node_user();
    let bound = |name: &str, node: &str| json!({"metadata": {"name": name, "namespace": "a", "labels": {"x": "y"}}, "spec": {"nodeName": node}});
    let (mine, theirs) = (bound("mine", "n1"), bound("theirs", "n2"));
    world.fake.put("", "pods", mine.clone());
    world.fake.put("", "pods", theirs.clone());
    let running = |p: &mut Value| p["status"] = json!({"phase": "Running"});
    world.update("pods/status", &mine, running).await.unwrap();
    refused(
        world.update("pods/status", &theirs, running).await,
        403,
        "can only update pod status for pods with spec.nodeName set to itself",
    );
    refused(
        world.update("pods/status", &mine, |p| p["metadata"]["labels"] = json!({})).await,
        403,
        "cannot update labels through pod status",
    );
    refused(world.update("pods", &mine, |_| {}).await, 403, "can only create and delete mirror pods");
    world.run(Operation::Delete, "pods", None, Some(&mine)).await.unwrap();
    assert!(world.run(Operation::Delete, "pods", None, Some(&theirs)).await.is_err());

    let node = |name: &str| json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {"taints": []}});
    world.create("nodes", node("n1")).await.unwrap();
    refused(world.create("nodes", node("n2")).await, 403, "node \"n1\" is not allowed to modify node \"n2\"");
    let label = |key: &'static str| move |n: &mut Value| n["metadata"]["labels"][key] = "x".into();
    for allowed in ["example.com/any", "topology.kubernetes.io/zone", "foo.node.kubernetes.io/x", "plain"] {
        world.update("nodes", &node("n1"), label(allowed)).await.unwrap_or_else(|e| panic!("{allowed}: {e}"));
    }
    for forbidden in [
        "node-restriction.kubernetes.io/x",
        "a.node-restriction.kubernetes.io/x",
        "kubernetes.io/other",
        "node-role.kubernetes.io/master",
        "x.k8s.io/y",
    ] {
        refused(world.update("nodes", &node("n1"), label(forbidden)).await, 403, "is not allowed to modify labels");
    }
    refused(
        world.update("nodes", &node("n1"), |n| n["spec"]["taints"] = json!([{"key": "x"}])).await,
        403,
        "is not allowed to modify taints",
    );

    let lease = |name: &str, ns: &str| json!({"metadata": {"name": name, "namespace": ns}});
    world.create("leases.coordination.k8s.io", lease("n1", "kube-node-lease")).await.unwrap();
    refused(
        world.create("leases.coordination.k8s.io", lease("n2", "kube-node-lease")).await,
        403,
        "with the same name as the requesting node",
    );
    refused(world.create("leases.coordination.k8s.io", lease("n1", "a")).await, 403, "can only access leases in the");
    refused(
        world.create("csinodes.storage.k8s.io", json!({"metadata": {"name": "n2"}})).await,
        403,
        "can only access CSINode",
    );
}

#[tokio::test]
async fn a_kubelet_gets_tokens_for_its_pods_audiences_only() {
    let world = World::new().with_node_user();
    world.fake.put("", "pods", json!({"metadata": {"name": "p", "namespace": "a", "uid": "u"}, "spec": {"nodeName": "n1", "volumes": [
        {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"serviceAccountToken": {"path": "v", "audience": "vault"}}]}}]}}));
    world.fake.put(
        "",
        "pods",
        json!({"metadata": {"name": "q", "namespace": "a", "uid": "q"}, "spec": {"nodeName": "n2"}}),
    );
    let ask = |pod: &str, uid: &str, audiences: Value| {
        json!({"metadata": {"name": "default", "namespace": "a"}, "spec": {
        "audiences": audiences, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}}})
    };
    let what = "serviceaccounts/token";
    world.create(what, ask("p", "u", json!([]))).await.unwrap();
    world.create(what, ask("p", "u", json!(["vault"]))).await.unwrap();
    refused(
        world.create(what, ask("p", "u", json!(["other"]))).await,
        403,
        "audience \"other\" not found in pod spec volume",
    );
    refused(world.create(what, ask("p", "old", json!([]))).await, 403, "does not match the UID in record");
    refused(world.create(what, ask("p", "", json!([]))).await, 403, "without a uid");
    refused(world.create(what, ask("q", "q", json!([]))).await, 403, "scheduled on a different node");
    refused(
        world.create(what, json!({"metadata": {"name": "default", "namespace": "a"}, "spec": {}})).await,
        403,
        "not bound to a pod",
    );
}

#[tokio::test]
async fn certificate_requests_make_no_administrators() {
    use base64::Engine as _;
    let csr = |signer: &str, common_name: &str, organization: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let encoded = base64::engine::general_purpose::STANDARD.encode(pem);
        json!({"metadata": {"name": "c"}, "spec": {"signerName": signer, "request": encoded}})
    };
    let what = "certificatesigningrequests.certificates.k8s.io";
    let world = World::new();
    let client = "kubernetes.io/kube-apiserver-client";
    world.create(what, csr(client, "jane", "dev")).await.unwrap();
    refused(
        world.create(what, csr(client, "jane", "system:masters")).await,
        403,
        "with system:masters group is not allowed",
    );
    let approval = "certificatesigningrequests/approval.certificates.k8s.io";
    let approve = |c: &mut Value| c["status"] = json!({"conditions": [{"type": "Approved"}]});
    world.update(approval, &csr(client, "jane", "dev"), approve).await.unwrap();

    let node = World::new().with_node_user();
    let kubelet = "kubernetes.io/kube-apiserver-client-kubelet";
    node.create(what, csr(kubelet, "system:node:n1", "system:nodes")).await.unwrap();
    refused(node.create(what, csr(kubelet, "system:node:n2", "system:nodes")).await, 403, "CN=system:node:n1");
    refused(
        node.update(approval, &csr(client, "x", "y"), approve).await,
        403,
        "user not permitted to approve requests with signerName",
    );
}
