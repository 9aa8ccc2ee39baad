//! What each plugin changes and refuses.

use std::sync::Arc;

use orlop_api::registry::ResourceInfo;
use serde_json::{Value, json};

use super::fake_reader::FakeReader;
use super::fields::list_at;
use super::*;

mod nodes;

fn resource(group: &str, plural: &str) -> &'static ResourceInfo {
    orlop_api::registry::RESOURCES.iter().find(|r| r.group == group && r.plural == plural).unwrap()
}

struct World {
    fake: Arc<FakeReader>,
    chain: Chain,
    user: Arc<UserInfo>,
}

impl World {
    fn new() -> Self {
        let fake = FakeReader::new();
        fake.put("", "namespaces", json!({"metadata": {"name": "a"}, "status": {"phase": "Active"}}));
        fake.put("", "namespaces", json!({"metadata": {"name": "kube-node-lease"}}));
        fake.put(
            "",
            "serviceaccounts",
            json!({"metadata": {"name": "default", "namespace": "a"}, "imagePullSecrets": [{"name": "pull"}]}),
        );
        fake.put("", "nodes", json!({"metadata": {"name": "n1", "uid": "node-uid"}}));
        let authorizer = Arc::new(authz::Chain::new(fake.clone()));
        let chain = Chain::default_chain(&AdmissionDeps { reader: fake.clone(), authorizer });
        Self { fake, chain, user: Arc::new(UserInfo::new("root", &["system:masters"])) }
    }

    fn with_node_user(mut self) -> Self {
        self.user = Arc::new(UserInfo::new("system:node:n1", &["system:nodes"]));
        self
    }

    /// `what`: `pods`, `pods/status`, `leases.coordination.k8s.io`.
    async fn run(
        &self,
        operation: Operation,
        what: &str,
        object: Option<&mut Value>,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let (plural, group) = what.split_once('.').unwrap_or((what, ""));
        let (plural, subresource) = plural.split_once('/').unwrap_or((plural, ""));
        let row = resource(group, plural);
        let any = object.as_deref().or(old).cloned().unwrap_or_default();
        let (ns, name) = (fields::namespace(&any).to_owned(), fields::name(&any).to_owned());
        let mut request = AdmissionRequest {
            operation,
            resource: row,
            subresource,
            namespace: row.namespaced.then_some(ns.as_str()),
            name: &name,
            object,
            old_object: old,
            user: self.user.clone(),
            dry_run: false,
            warnings: Vec::new(),
        };
        self.chain.mutate(&mut request).await?;
        self.chain.validate(&mut request).await
    }

    async fn create(&self, what: &str, mut object: Value) -> Result<Value, Status> {
        self.run(Operation::Create, what, Some(&mut object), None).await?;
        Ok(object)
    }

    async fn update(&self, what: &str, old: &Value, change: impl FnOnce(&mut Value)) -> Result<Value, Status> {
        let mut object = old.clone();
        change(&mut object);
        self.run(Operation::Update, what, Some(&mut object), Some(old)).await?;
        Ok(object)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "tables read better")]
fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec})
}

fn one_container() -> Value {
    json!({"containers": [{"name": "c", "image": "i"}]})
}

#[track_caller]
fn refused(result: Result<Value, Status>, code: u16, words: &str) {
    let error = result.expect_err(words);
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(words), "wanted {words:?}\n   got {:?}", error.message);
}

#[tokio::test]
async fn a_bare_pod_gets_everything_upstream_gives() {
    let world = World::new();
    let pod = world
        .create("pods", pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]})))
        .await
        .unwrap();
    let volume = &pod["spec"]["volumes"][0];
    let name = volume["name"].as_str().unwrap();
    assert!(name.strip_prefix("kube-api-access-").is_some_and(|s| s.len() == 5), "{name}");
    assert_eq!(
        volume["projected"],
        json!({
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ],
            "defaultMode": 420,
        })
    );
    let mount = json!({"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"], json!([mount]));
    assert_eq!(pod["spec"]["initContainers"][0]["volumeMounts"], json!([mount]));
    assert_eq!(pod["spec"]["serviceAccountName"], "default");
    assert_eq!(pod["spec"]["serviceAccount"], "default");
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(pod["spec"]["priority"], 0);
    assert_eq!(pod["spec"]["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(
        pod["spec"]["tolerations"],
        json!([
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        ])
    );
}

#[tokio::test]
async fn what_the_pod_says_wins() {
    let world = World::new();
    let mut spec = one_container();
    spec["automountServiceAccountToken"] = false.into();
    spec["imagePullSecrets"] = json!([{"name": "own"}]);
    spec["tolerations"] = json!([{"operator": "Exists"}]);
    let pod_out = world.create("pods", pod(spec)).await.unwrap();
    assert!(list_at(&pod_out, "/spec/volumes").is_empty());
    assert_eq!(pod_out["spec"]["imagePullSecrets"], json!([{"name": "own"}]));
    assert_eq!(pod_out["spec"]["tolerations"].as_array().unwrap().len(), 1);
    // A mount of one's own at the path keeps ours away.
    let own = json!({"containers": [{"name": "c", "volumeMounts": [
        {"name": "x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}]});
    let pod_out = world.create("pods", pod(own)).await.unwrap();
    assert!(list_at(&pod_out, "/spec/volumes").is_empty());
    let mut other = one_container();
    other["serviceAccountName"] = "nobody".into();
    refused(
        world.create("pods", pod(other)).await,
        403,
        "error looking up service account a/nobody: serviceaccount \"nobody\" not found",
    );
}

#[tokio::test]
async fn namespaces_decide_what_may_be_made() {
    let world = World::new();
    world.fake.put("", "namespaces", json!({"metadata": {"name": "ending"}, "status": {"phase": "Terminating"}}));
    let config_map = |ns: &str| json!({"metadata": {"name": "c", "namespace": ns}});
    world.create("configmaps", config_map("a")).await.unwrap();
    refused(world.create("configmaps", config_map("gone")).await, 404, "namespaces \"gone\" not found");
    let error = world.create("configmaps", config_map("ending")).await.unwrap_err();
    assert_eq!(
        error.message,
        "configmaps \"c\" is forbidden: unable to create new content in namespace ending because it is being terminated"
    );
    assert_eq!(error.details.as_ref().unwrap().causes[0].reason, "NamespaceTerminating");
    world.update("configmaps", &config_map("ending"), |c| c["data"] = json!({})).await.unwrap();
    let system = json!({"metadata": {"name": "kube-system"}});
    let error = world.run(Operation::Delete, "namespaces", None, Some(&system)).await.unwrap_err();
    assert_eq!(error.message, "namespaces \"kube-system\" is forbidden: this namespace may not be deleted");
    let mine = json!({"metadata": {"name": "a"}});
    world.run(Operation::Delete, "namespaces", None, Some(&mine)).await.unwrap();
}

#[tokio::test]
async fn priorities_come_from_classes() {
    let world = World::new();
    let class = |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": "Never"});
    world.fake.put("scheduling.k8s.io", "priorityclasses", class("high", 1000, false));
    let with = |key: &str, value: Value| {
        let mut s = one_container();
        s[key] = value;
        pod(s)
    };
    let out = world.create("pods", with("priorityClassName", "high".into())).await.unwrap();
    assert_eq!((&out["spec"]["priority"], &out["spec"]["preemptionPolicy"]), (&json!(1000), &json!("Never")));
    refused(
        world.create("pods", with("priorityClassName", "none".into())).await,
        403,
        "no PriorityClass with name none was found",
    );
    refused(
        world.create("pods", with("priority", 7.into())).await,
        403,
        "the integer value of priority (7) must not be provided in pod spec",
    );
    world.fake.put("scheduling.k8s.io", "priorityclasses", class("usual", 10, true));
    let out = world.create("pods", pod(one_container())).await.unwrap();
    assert_eq!((&out["spec"]["priority"], &out["spec"]["priorityClassName"]), (&json!(10), &json!("usual")));
    refused(
        world.create("priorityclasses.scheduling.k8s.io", class("second", 1, true)).await,
        403,
        "PriorityClass usual is already marked as default. Only one default can exist",
    );
}

#[tokio::test]
async fn nodes_start_tainted() {
    let world = World::new();
    let node = world.create("nodes", json!({"metadata": {"name": "n2"}})).await.unwrap();
    assert_eq!(node["spec"]["taints"], json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]));
}

#[tokio::test]
async fn classes_are_defaulted() {
    let world = World::new();
    let mark = |name: &str, key: &str, created: &str| json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {key: "true"}}});
    let storage = "storageclass.kubernetes.io/is-default-class";
    world.fake.put("storage.k8s.io", "storageclasses", mark("old", storage, "2026-01-01T00:00:00Z"));
    world.fake.put("storage.k8s.io", "storageclasses", mark("new", storage, "2026-02-01T00:00:00Z"));
    let claim = |spec: Value| json!({"metadata": {"name": "c", "namespace": "a"}, "spec": spec});
    assert_eq!(
        world.create("persistentvolumeclaims", claim(json!({}))).await.unwrap()["spec"]["storageClassName"],
        "new"
    );
    let none = world.create("persistentvolumeclaims", claim(json!({"storageClassName": ""}))).await.unwrap();
    assert_eq!(none["spec"]["storageClassName"], "");
    world.fake.put(
        "networking.k8s.io",
        "ingressclasses",
        mark("nginx", "ingressclass.kubernetes.io/is-default-class", "2026-01-01T00:00:00Z"),
    );
    assert_eq!(
        world.create("ingresses.networking.k8s.io", claim(json!({}))).await.unwrap()["spec"]["ingressClassName"],
        "nginx"
    );
}

#[tokio::test]
async fn limit_ranges_default_and_bound() {
    let world = World::new();
    world.fake.put(
        "",
        "limitranges",
        json!({"metadata": {"name": "l", "namespace": "a"}, "spec": {"limits": [{
        "type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "250m"},
        "min": {"cpu": "100m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "4"}}]}}),
    );
    let out = world.create("pods", pod(one_container())).await.unwrap();
    assert_eq!(
        out["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "250m"}})
    );
    assert_eq!(
        out["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu limit for container c; cpu request for container c"
    );
    let with = |limit: &str, request: &str| {
        pod(
            json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": limit}, "requests": {"cpu": request}}}]}),
        )
    };
    world.create("pods", with("1", "500m")).await.unwrap();
    refused(world.create("pods", with("2", "1")).await, 403, "maximum cpu usage per Container is 1, but limit is 2");
    refused(
        world.create("pods", with("200m", "50m")).await,
        403,
        "minimum cpu usage per Container is 100m, but request is 50m",
    );
    refused(
        world.create("pods", with("1", "200m")).await,
        403,
        "cpu max limit to request ratio per Container is 4, but provided ratio is 5.000000",
    );
}

#[tokio::test]
async fn pod_security_levels() {
    let world = World::new();
    let labelled = |level: &str, mode: &str| json!({"metadata": {"name": "a", "labels": {format!("pod-security.kubernetes.io/{mode}"): level}}, "status": {"phase": "Active"}});
    let with = |change: &dyn Fn(&mut Value)| {
        let mut p = pod(one_container());
        change(&mut p["spec"]);
        p
    };
    world.fake.put("", "namespaces", labelled("baseline", "enforce"));
    world.create("pods", pod(one_container())).await.unwrap();
    let table: [(Value, &str); 9] = [
        (
            with(&|s| s["hostNetwork"] = true.into()),
            "violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)",
        ),
        (
            with(&|s| s["containers"][0]["securityContext"] = json!({"privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            with(&|s| s["volumes"] = json!([{"name": "h", "hostPath": {"path": "/"}}])),
            "hostPath volumes (volume \"h\")",
        ),
        (
            with(&|s| s["containers"][0]["ports"] = json!([{"hostPort": 80}, {"hostPort": 81}])),
            "hostPort (container \"c\" uses hostPorts 80, 81)",
        ),
        (
            with(&|s| s["containers"][0]["securityContext"] = json!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}})),
            "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            with(&|s| s["securityContext"] = json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            with(&|s| s["securityContext"] = json!({"sysctls": [{"name": "kernel.msgmax"}]})),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            with(&|s| s["securityContext"] = json!({"seLinuxOptions": {"user": "x"}})),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: user may not be set)",
        ),
        (
            with(&|s| s["containers"][0]["livenessProbe"] = json!({"httpGet": {"host": "1.2.3.4"}})),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"1.2.3.4\")",
        ),
    ];
    for (object, words) in table {
        refused(world.create("pods", object).await, 403, words);
    }
    world.fake.put("", "namespaces", labelled("restricted", "enforce"));
    refused(
        world.create("pods", pod(one_container())).await,
        403,
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
    );
    let tame = with(&|s| {
        s["securityContext"] = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
        s["containers"][0]["securityContext"] =
            json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    });
    world.create("pods", tame).await.unwrap();
    // Workloads are only warned about.
    world.fake.put("", "namespaces", labelled("restricted", "warn"));
    world.create("pods", pod(one_container())).await.unwrap();
    let template =
        json!({"metadata": {"name": "d", "namespace": "a"}, "spec": {"template": {"spec": one_container()}}});
    world.create("deployments.apps", template).await.unwrap();
    refused(
        world.create("namespaces", labelled("paranoid", "enforce")).await,
        422,
        "must be one of privileged, baseline, restricted",
    );
}

#[tokio::test(start_paused = true)]
async fn quotas_hold_also_for_writes_at_the_same_moment() {
    let world = World::new();
    let quota = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec});
    world.fake.put("", "resourcequotas", quota("q", json!({"hard": {
        "pods": "3", "requests.cpu": "1", "limits.memory": "1Gi", "configmaps": "1", "count/deployments.apps": "0", "services.nodeports": "1"}})));
    let sized = |name: &str, cpu: &str| {
        json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"containers": [{"name": "c", "resources": {
            "requests": {"cpu": cpu}, "limits": {"memory": "100Mi"}}}]}})
    };
    refused(
        world.create("pods", pod(one_container())).await,
        403,
        "pods \"p\" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c",
    );
    world.create("pods", sized("one", "600m")).await.unwrap();
    // The first is not stored yet, and counts.
    let over = "pods \"two\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1";
    refused(world.create("pods", sized("two", "600m")).await, 403, over);
    world.fake.put("", "pods", sized("one", "600m"));
    refused(world.create("pods", sized("two", "600m")).await, 403, over);
    world.create("pods", sized("two", "100m")).await.unwrap();
    world.create("pods", sized("three", "100m")).await.unwrap();
    refused(world.create("pods", sized("four", "100m")).await, 403, "requested: pods=1, used: pods=3, limited: pods=3");
    // Two that passed were never stored: their room comes back.
    tokio::time::advance(Duration::from_secs(4)).await;
    world.create("pods", sized("four", "100m")).await.unwrap();
    let mut finished = sized("one", "600m");
    finished["status"] = json!({"phase": "Succeeded"});
    world.fake.put("", "pods", finished);
    world.create("pods", sized("five", "600m")).await.unwrap();

    let named = |name: &str| json!({"metadata": {"name": name, "namespace": "a"}});
    world.fake.put("", "configmaps", named("x"));
    refused(
        world.create("configmaps", named("y")).await,
        403,
        "exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1",
    );
    world.update("configmaps", &named("x"), |c| c["data"] = json!({"a": "b"})).await.unwrap();
    refused(
        world.create("deployments.apps", named("d")).await,
        403,
        "requested: count/deployments.apps=1, used: count/deployments.apps=0",
    );
    let service =
        |kind: &str| json!({"metadata": {"name": "s", "namespace": "a"}, "spec": {"type": kind, "ports": [{}, {}]}});
    world.create("services", service("ClusterIP")).await.unwrap();
    refused(
        world.update("services", &service("ClusterIP"), |s| s["spec"]["type"] = "NodePort".into()).await,
        403,
        "requested: services.nodeports=2",
    );
}

#[tokio::test]
async fn quotas_look_at_scopes() {
    let world = World::new();
    world.fake.put(
        "",
        "resourcequotas",
        json!({"metadata": {"name": "b", "namespace": "a"}, "spec": {"hard": {"pods": "0"}, "scopes": ["BestEffort"]}}),
    );
    refused(world.create("pods", pod(one_container())).await, 403, "exceeded quota: b");
    let sized = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}));
    world.create("pods", sized).await.unwrap();
}

#[tokio::test]
async fn runtime_classes_bring_overhead_and_place() {
    let world = World::new();
    world.fake.put(
        "node.k8s.io",
        "runtimeclasses",
        json!({"metadata": {"name": "vm"}, "handler": "kata",
        "overhead": {"podFixed": {"memory": "120Mi"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm"}]}}),
    );
    let with = |key: &str, value: Value| {
        let mut s = one_container();
        s["runtimeClassName"] = "vm".into();
        s[key] = value;
        pod(s)
    };
    let out = world.create("pods", with("nodeSelector", json!({"disk": "ssd"}))).await.unwrap();
    assert_eq!(out["spec"]["overhead"], json!({"memory": "120Mi"}));
    assert_eq!(out["spec"]["nodeSelector"], json!({"disk": "ssd", "vm": "yes"}));
    assert!(out["spec"]["tolerations"].as_array().unwrap().contains(&json!({"key": "vm"})));
    refused(
        world.create("pods", with("nodeSelector", json!({"vm": "no"}))).await,
        403,
        "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes",
    );
    refused(
        world.create("pods", with("runtimeClassName", "none".into())).await,
        403,
        "pod rejected: RuntimeClass \"none\" not found",
    );
    refused(
        world.create("pods", with("overhead", json!({"memory": "1Mi"}))).await,
        403,
        "doesn't match RuntimeClass's defined Overhead",
    );
}
