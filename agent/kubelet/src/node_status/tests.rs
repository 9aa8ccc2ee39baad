//! The reporter against a scripted API server and runtime, on paused time.

use super::*;
use serde_json::{Value, json};
use std::sync::Mutex;

/// Keeps one Node the way an API server does, as far as these tests need it.
#[derive(Default)]
struct Server {
    node: Mutex<Option<Value>>,
    requests: Mutex<Vec<(String, Value)>>,
    fail_first: std::sync::atomic::AtomicU32,
}

impl Server {
    fn client(self: &Arc<Self>) -> kube::Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let server = Arc::clone(&server);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, answer) = server.answer(parts.method.as_str(), parts.uri.path(), &body);
                let body = kube::client::Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, std::convert::Infallible>(http::Response::builder().status(code).body(body).unwrap())
            }
        });
        kube::Client::new(service, "default")
    }

    fn answer(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        use std::sync::atomic::Ordering::Relaxed;
        let failure = |code: u16, reason: &str| {
            (
                code,
                json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason, "message": reason }),
            )
        };
        self.requests.lock().unwrap().push((format!("{method} {path}"), body.clone()));
        if self.fail_first.load(Relaxed) > 0 {
            self.fail_first.fetch_sub(1, Relaxed);
            return failure(503, "ServiceUnavailable");
        }
        let mut node = self.node.lock().unwrap();
        match method {
            "POST" if node.is_some() => failure(409, "AlreadyExists"),
            "POST" => {
                *node = Some(body.clone());
                (201, body.clone())
            }
            "PATCH" => {
                let stored = node.get_or_insert_with(|| json!({ "metadata": {} }));
                if path.ends_with("/status") {
                    for (field, value) in body["status"].as_object().unwrap() {
                        stored["status"][field] = value.clone();
                    }
                    stored["status"].as_object_mut().unwrap().remove("addresses");
                }
                (200, stored.clone())
            }
            _ => node.clone().map_or_else(|| failure(404, "NotFound"), |n| (200, n)),
        }
    }

    fn patches(&self) -> usize {
        self.requests.lock().unwrap().iter().filter(|(r, _)| r.starts_with("PATCH")).count()
    }

    fn ready(&self) -> Option<String> {
        let node = self.node.lock().unwrap();
        let conditions = node.as_ref()?["status"]["conditions"].as_array()?.clone();
        Some(conditions.iter().find(|c| c["type"] == "Ready")?["status"].as_str()?.to_owned())
    }
}

#[derive(Default)]
struct Runtime {
    network_ready: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl NodeRuntime for Runtime {
    async fn report(&self) -> Result<RuntimeReport, String> {
        let ready = self.network_ready.load(std::sync::atomic::Ordering::Relaxed);
        Ok(RuntimeReport { network_error: (!ready).then(|| "no network".to_owned()), ..RuntimeReport::default() })
    }

    async fn images(&self) -> Result<Vec<ImageReport>, String> {
        Ok(Vec::new())
    }
}

struct Rig {
    server: Arc<Server>,
    runtime: Arc<Runtime>,
    events: Arc<Mutex<Vec<String>>>,
    wake: Arc<tokio::sync::Notify>,
    shutdown: CancellationToken,
}

impl Rig {
    fn start(server: Arc<Server>) -> Option<Self> {
        let Ok(hierarchies) = orlop_host::cgroup::Hierarchies::discover() else {
            orlop_host::skip("node status", "no cgroups");
            return None;
        };
        let config = crate::container_manager::ContainerManagerConfig::for_tests("/");
        let capacity = orlop_host::machine::MachineCapacity { cpus: 2, memory_bytes: 1 << 30, ..Default::default() };
        let containers = Arc::new(ContainerManager::new(config, hierarchies, capacity).unwrap());
        let events: Arc<Mutex<Vec<String>>> = Arc::default();
        let rig = Self {
            runtime: Arc::default(),
            events: Arc::clone(&events),
            wake: Arc::default(),
            shutdown: CancellationToken::new(),
            server,
        };
        let context = NodeStatusContext {
            client: rig.server.client(),
            node_name: "n1".into(),
            hostname: "host1".into(),
            node_ips: vec!["10.0.0.1".parse().unwrap()],
            labels: [("mine".to_owned(), "x".to_owned())].into(),
            taints: Vec::new(),
            register_node: true,
            kubelet_port: 10250,
            kubelet_version: "v1.36.2+orlop".into(),
            provider_id: None,
            update_every: Duration::from_secs(10),
            report_every: Duration::from_secs(300),
            max_images: 50,
            runtime: Arc::clone(&rig.runtime) as Arc<dyn NodeRuntime>,
            containers,
            unhealthy: Arc::new(|| None),
            wake: Arc::clone(&rig.wake),
            events: Arc::new(move |_, reason, _| events.lock().unwrap().push(reason.to_owned())),
        };
        tokio::spawn(run(context, rig.shutdown.clone()));
        Some(rig)
    }

    async fn until(&self, what: &str, check: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if check(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: last seen {:?}, events {:?}", self.server.node.lock().unwrap(), self.events.lock().unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_is_registered_becomes_ready_and_is_then_quiet() {
    let server = Arc::new(Server::default());
    server.fail_first.store(2, std::sync::atomic::Ordering::Relaxed);
    let Some(rig) = Rig::start(server) else { return };
    rig.until("NotReady is reported", |r| r.server.ready().as_deref() == Some("False")).await;
    {
        let node = rig.server.node.lock().unwrap().clone().unwrap();
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "host1");
        assert_eq!(node["metadata"]["labels"]["mine"], "x");
        assert_eq!(node["metadata"]["annotations"]["volumes.kubernetes.io/controller-managed-attach-detach"], "true");
        assert_eq!(node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10250);
    }
    rig.runtime.network_ready.store(true, std::sync::atomic::Ordering::Relaxed);
    rig.wake.notify_one();
    rig.until("Ready is reported", |r| r.server.ready().as_deref() == Some("True")).await;
    rig.until("the event", |r| r.events.lock().unwrap().contains(&"NodeReady".to_owned())).await;
    let quiet = rig.server.patches();
    tokio::time::sleep(Duration::from_secs(250)).await;
    assert_eq!(rig.server.patches(), quiet, "nothing changed, nothing is sent");
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(rig.server.patches(), quiet + 1, "the five minutes' report");
    rig.runtime.network_ready.store(false, std::sync::atomic::Ordering::Relaxed);
    rig.until("NotReady again", |r| r.server.ready().as_deref() == Some("False")).await;
    assert!(rig.events.lock().unwrap().contains(&"NodeNotReady".to_owned()));
    rig.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_there_is_adopted() {
    let server = Arc::new(Server::default());
    *server.node.lock().unwrap() =
        Some(json!({ "metadata": { "name": "n1", "labels": { "theirs": "y" } }, "status": {} }));
    let Some(rig) = Rig::start(server) else { return };
    rig.runtime.network_ready.store(true, std::sync::atomic::Ordering::Relaxed);
    rig.until("Ready is reported", |r| r.server.ready().as_deref() == Some("True")).await;
    let requests = rig.server.requests.lock().unwrap().clone();
    let (_, labels) = requests.iter().find(|(r, _)| r == "PATCH /api/v1/nodes/n1").unwrap();
    assert_eq!(labels["metadata"]["labels"]["mine"], "x");
    assert!(labels["metadata"]["labels"].get("theirs").is_none());
    rig.shutdown.cancel();
}
