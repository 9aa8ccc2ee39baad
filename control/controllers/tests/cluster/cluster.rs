//! A control plane of its own per test, with one node whose kubelet is a loop.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use orlop_plane::{Plane, PlaneConfig, UserInfo};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const NODE: &str = "n1";

pub(crate) struct Cluster {
    pub(crate) client: Client,
    plane: Plane,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Cluster {
    /// Started, with a ready node and namespace `t`.
    pub(crate) async fn start() -> Self {
        let _ = tracing_subscriber::fmt().with_env_filter("warn,orlop_controllers=info").with_test_writer().try_init();
        let dir = tempfile::tempdir().unwrap();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let mut config =
            PlaneConfig::new(dir.path().to_owned(), NODE.to_owned(), vec![loopback], Arc::new(jiff::Timestamp::now));
        config.bind_address = loopback;
        config.secure_port = 0;
        let shutdown = CancellationToken::new();
        let plane = orlop_plane::start(config, shutdown.clone()).await.expect("the control plane starts");
        let client = plane.client(UserInfo::new("admin", &["system:masters"]));
        let cluster = Self { client, plane, shutdown, _dir: dir };
        cluster.add_node().await;
        let namespace = serde_json::from_value(json!({"metadata": {"name": "t"}})).unwrap();
        Api::<Namespace>::all(cluster.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        cluster
            .eventually("default service account", || async {
                let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = cluster.in_t();
                accounts.get_opt("default").await.unwrap().ok_or("none")
            })
            .await;
        tokio::spawn(kubelet(cluster.client.clone(), cluster.shutdown.clone()));
        cluster
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.plane.stopped()).await.expect("it stops");
    }

    /// Objects of namespace `t`.
    pub(crate) fn in_t<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), "t")
    }

    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Clone
            + Debug,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.in_t::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Asks until the answer is `Ok`; the last `Err` says what was seen instead.
    pub(crate) async fn eventually<F, T, E>(&self, what: &str, mut probe: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, E>>,
        E: Debug,
    {
        let mut last = None;
        for _ in 0..400 {
            match probe().await {
                Ok(found) => return found,
                Err(seen) => last = Some(seen),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never saw {what}; last: {last:?}");
    }

    /// Waits until exactly `count` objects of the kind are in namespace `t`.
    pub(crate) async fn count<K>(&self, count: usize) -> Vec<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + serde::de::DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        self.eventually(&format!("{count} {kind}"), || async {
            let all = self.in_t::<K>().list(&ListParams::default()).await.unwrap().items;
            if all.len() == count { Ok(all) } else { Err(all.iter().map(ResourceExt::name_any).collect::<Vec<_>>()) }
        })
        .await
    }

    async fn add_node(&self) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node =
            serde_json::from_value(json!({"metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": "z"}}}))
                .unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let status = json!({"status": {
            "capacity": {"cpu": "8", "memory": "16Gi", "pods": "200"},
            "allocatable": {"cpu": "8", "memory": "16Gi", "pods": "200"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }});
        nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        self.eventually("a node with a network and without taints", || async {
            let node = nodes.get(NODE).await.unwrap();
            let spec = node.spec.unwrap_or_default();
            let good =
                spec.pod_cidr.as_deref() == Some("10.244.0.0/24") && spec.taints.as_ref().is_none_or(Vec::is_empty);
            if good { Ok(()) } else { Err(spec) }
        })
        .await;
    }
}

/// Pods on the node run at once (unless their image is `broken`), and go at once.
async fn kubelet(client: Client, shutdown: CancellationToken) {
    let all: Api<Pod> = Api::all(client.clone());
    let mut address = 0;
    while !shutdown.is_cancelled() {
        let pods = all.list(&ListParams::default()).await.map(|l| l.items).unwrap_or_default();
        for pod in pods {
            let (spec, status) = (pod.spec.clone().unwrap_or_default(), pod.status.clone().unwrap_or_default());
            if spec.node_name.as_deref() != Some(NODE) {
                continue;
            }
            let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
            if pod.metadata.deletion_timestamp.is_some() {
                let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                let _ = pods.delete(&pod.name_any(), &now).await;
            } else if status.phase.as_deref() != Some("Running") {
                address += 1;
                let ready = if spec.containers[0].image.as_deref() == Some("broken") { "False" } else { "True" };
                let ip = format!("10.244.0.{address}");
                let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now());
                let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [
                    {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
                    {"type": "Ready", "status": ready, "lastTransitionTime": now}]}});
                let _ = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
