//! The whole proxy against an API server made of two queues, and a backend that remembers.
#![allow(clippy::needless_pass_by_value, reason = "callers write json! literals")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Feature, Support, SyncError};
use crate::plan::{Plan, record};
use crate::state::ProxyState;
use crate::{Proxy, ProxyConfig, ProxyError};

/// What a recording backend has been told.
#[derive(Default)]
struct Recorded {
    kernel: ProxyState,
    plans: Vec<Plan>,
    failures_left: usize,
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Recorded>>);

#[async_trait]
impl Backend for Recorder {
    fn mode(&self) -> &'static str {
        "recorder"
    }
    fn supports(&self, _: Feature) -> Support {
        Support::Yes
    }
    async fn local_addresses(&mut self) -> Result<Vec<IpAddr>, SyncError> {
        Ok(Vec::new())
    }
    async fn installed(&mut self) -> Result<ProxyState, SyncError> {
        Ok(self.0.lock().unwrap().kernel.clone())
    }
    async fn apply(&mut self, plan: &Plan, desired: &ProxyState) -> Result<(), SyncError> {
        let mut recorded = self.0.lock().unwrap();
        recorded.plans.push(plan.clone());
        if recorded.failures_left > 0 {
            recorded.failures_left -= 1;
            return Err(SyncError::Full { table: "t", limit: 1, failed: 1 });
        }
        let plan = plan.clone();
        record(&plan, desired, &mut recorded.kernel);
        Ok(())
    }
    async fn cleanup(&mut self) -> Result<(), Vec<SyncError>> {
        Ok(())
    }
}

/// Lists what it was given, then streams what it is told.
#[derive(Clone)]
struct FakeApi {
    lists: Arc<Mutex<BTreeMap<&'static str, Vec<Value>>>>,
    events: broadcast::Sender<(&'static str, Value)>,
}

const RESOURCES: [(&str, &str); 3] =
    [("services", "ServiceList"), ("endpointslices", "EndpointSliceList"), ("nodes", "NodeList")];

impl FakeApi {
    fn new() -> Self {
        Self { lists: Arc::default(), events: broadcast::channel(64).0 }
    }

    fn list(&self, resource: &'static str, objects: Vec<Value>) {
        self.lists.lock().unwrap().insert(resource, objects);
    }

    fn event(&self, resource: &'static str, kind: &str, object: Value) {
        self.events.send((resource, json!({ "type": kind, "object": object }))).unwrap();
    }

    fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(api.answer(&request)) }
        });
        kube::Client::new(service, "default")
    }

    fn answer(&self, request: &http::Request<kube::client::Body>) -> http::Response<BoxBody> {
        let (resource, kind) =
            RESOURCES.into_iter().find(|(resource, _)| request.uri().path().ends_with(resource)).unwrap();
        let watching = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        if !watching {
            let items = self.lists.lock().unwrap().get(resource).cloned().unwrap_or_default();
            let list =
                json!({ "kind": kind, "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items });
            return http::Response::new(http_body_util::Full::from(list.to_string()).boxed_unsync());
        }
        let events =
            stream::unfold(self.events.subscribe(), |mut events| async { Some((events.recv().await.ok()?, events)) });
        let frames = events
            .filter(move |(to, _)| std::future::ready(*to == resource))
            .map(|(_, event)| Ok(http_body::Frame::data(Bytes::from(format!("{event}\n")))));
        http::Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

type BoxBody = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

fn service(ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": "ns", "name": "web", "resourceVersion": "2" },
        "spec": { "clusterIP": ip, "ports": [{ "port": 80 }] },
    })
}

fn slice(endpoint: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": "ns", "name": "web-1", "resourceVersion": "2",
            "labels": { "kubernetes.io/service-name": "web" },
        },
        "addressType": "IPv4", "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
        "endpoints": [{ "addresses": [endpoint] }],
    })
}

fn node(taints: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "here", "resourceVersion": "2" },
        "spec": { "taints": taints },
    })
}

struct Fixture {
    api: FakeApi,
    backend: Recorder,
    proxy: Proxy,
    shutdown: CancellationToken,
}

impl Fixture {
    async fn start(api: FakeApi, backend: Recorder) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = ProxyConfig::new("here", vec!["192.0.2.1".parse().unwrap()]);
        config.healthz_bind_address = Some(any);
        config.metrics_bind_address = Some(any);
        config.configuration = json!({ "mode": "recorder" });
        let shutdown = CancellationToken::new();
        let proxy = Proxy::start(config, api.client(), Box::new(backend.clone()), shutdown.clone()).await.unwrap();
        Self { api, backend, proxy, shutdown }
    }

    /// Waits for a state of the backend, and tells the last one on a time-out.
    async fn eventually(&self, what: &str, holds: impl Fn(&Recorded) -> bool) {
        for _ in 0..1000 {
            if holds(&self.backend.0.lock().unwrap()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {what}: {:?}", self.backend.0.lock().unwrap().kernel);
    }

    async fn get(&self, addr: Option<SocketAddr>, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(addr.unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

fn endpoints(recorded: &Recorded) -> Vec<String> {
    let all = recorded.kernel.frontends.values().flat_map(|rule| rule.internal.endpoints.iter());
    all.map(|endpoint| endpoint.ip.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn changes_reach_the_backend_one_by_one() {
    let api = FakeApi::new();
    api.list("services", vec![service("10.96.0.1")]);
    api.list("endpointslices", vec![slice("10.0.0.1")]);
    let fixture = Fixture::start(api, Recorder::default()).await;
    fixture.eventually("the list", |recorded| endpoints(recorded) == ["10.0.0.1"]).await;
    assert_eq!(fixture.backend.0.lock().unwrap().plans.len(), 1, "one sync for the whole list");
    let addresses = fixture.backend.0.lock().unwrap().kernel.node_addresses.clone();
    assert_eq!(addresses.len(), 3, "the node's, and both loopbacks: {addresses:?}");

    fixture.api.event("endpointslices", "MODIFIED", slice("10.0.0.2"));
    fixture.eventually("the change", |recorded| endpoints(recorded) == ["10.0.0.2"]).await;
    let explained = fixture.proxy.explain("ns", "web").await.unwrap();
    assert!(explained.proxied && explained.endpoints.len() == 1 && explained.frontends.len() == 1);

    fixture.api.event("services", "DELETED", service("10.96.0.1"));
    fixture.eventually("nothing", |recorded| recorded.kernel.frontends.is_empty()).await;
    fixture.shutdown.cancel();
    fixture.proxy.stopped().await;
    assert!(matches!(fixture.proxy.verify().await, Err(ProxyError::Ended)));
}

#[tokio::test(start_paused = true)]
async fn what_a_former_agent_left_is_kept_until_both_lists_are_known_and_then_corrected() {
    let first = FakeApi::new();
    first.list("services", vec![service("10.96.0.1")]);
    first.list("endpointslices", vec![slice("10.0.0.1")]);
    let fixture = Fixture::start(first, Recorder::default()).await;
    fixture.eventually("the first", |recorded| endpoints(recorded) == ["10.0.0.1"]).await;
    fixture.shutdown.cancel();
    fixture.proxy.stopped().await;
    assert_eq!(endpoints(&fixture.backend.0.lock().unwrap()), ["10.0.0.1"], "shutdown leaves the kernel alone");

    let second = FakeApi::new();
    second.list("services", vec![service("10.96.0.7")]);
    second.list("endpointslices", vec![slice("10.0.0.1")]);
    let fixture = Fixture::start(second, fixture.backend.clone()).await;
    fixture
        .eventually("the second", |recorded| {
            recorded.kernel.frontends.keys().all(|at| at.to_string().starts_with("10.96.0.7:80"))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_and_audits_repair() {
    let api = FakeApi::new();
    api.list("services", vec![service("10.96.0.1")]);
    api.list("endpointslices", vec![slice("10.0.0.1")]);
    let backend = Recorder::default();
    backend.0.lock().unwrap().failures_left = 3;
    let fixture = Fixture::start(api, backend).await;
    fixture.eventually("in spite of failures", |recorded| endpoints(recorded) == ["10.0.0.1"]).await;
    // Somebody flushes the kernel.
    fixture.backend.0.lock().unwrap().kernel = ProxyState::default();
    let verified = fixture.proxy.verify().await.unwrap();
    assert_eq!((verified.desired, verified.installed, verified.differences.set.len()), (1, 0, 1));
    tokio::time::sleep(Duration::from_secs(61)).await;
    fixture.eventually("repaired", |recorded| endpoints(recorded) == ["10.0.0.1"]).await;
    let (_, text) = fixture.get(fixture.proxy.metrics_addr(), "/metrics").await;
    assert!(text.contains("orlop_proxy_repairs_total 1"), "{text}");
    assert!(text.contains("orlop_proxy_sync_failures_total 3"), "{text}");
}

#[tokio::test]
async fn servers_answer_as_upstreams() {
    let api = FakeApi::new();
    api.list("services", vec![service("10.96.0.1")]);
    api.list("nodes", vec![node(&Value::Null)]);
    let fixture = Fixture::start(api, Recorder::default()).await;
    fixture.eventually("synced", |recorded| recorded.kernel.frontends.len() == 1).await;
    let (healthz, metrics) = (fixture.proxy.healthz_addr(), fixture.proxy.metrics_addr());
    for path in ["/healthz", "/livez"] {
        let (code, body) = fixture.get(healthz, path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(code, 200, "{body}");
        assert_eq!(body.get("nodeEligible").is_some(), path == "/healthz");
        assert_eq!(body["status"]["IPv4"]["healthy"], true);
    }
    assert_eq!(fixture.get(metrics, "/proxyMode").await, (200, "recorder".into()));
    let (_, configz) = fixture.get(metrics, "/configz").await;
    assert_eq!(configz, r#"{"kubeproxy.config.k8s.io":{"mode":"recorder"}}"#);
    let (_, text) = fixture.get(metrics, "/metrics").await;
    for name in [
        "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"}",
        "kubeproxy_sync_proxy_rules_service_changes_total 1",
        "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    // An autoscaler takes the node: load balancers go elsewhere, the proxy lives on.
    fixture.api.event(
        "nodes",
        "MODIFIED",
        node(&json!([{
            "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule",
        }])),
    );
    for _ in 0..500 {
        if fixture.get(healthz, "/healthz").await.0 == 503 {
            assert_eq!(fixture.get(healthz, "/livez").await.0, 200);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("/healthz never failed");
}

#[tokio::test]
async fn a_taken_port_is_an_error_of_the_start() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = ProxyConfig::new("here", Vec::new());
    config.healthz_bind_address = taken.local_addr().ok();
    config.metrics_bind_address = None;
    let result =
        Proxy::start(config, FakeApi::new().client(), Box::new(Recorder::default()), CancellationToken::new()).await;
    assert!(matches!(result, Err(ProxyError::Bind { what: "healthz", .. })));
}
