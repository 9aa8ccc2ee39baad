//! The whole server over TLS, with certificates of the test's own and a scripted API server.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use k8s_openapi::api::core::v1::Pod;

/// A certificate authority that lives for one test.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.clone().self_signed(&key).unwrap();
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn client(&self, name: &str, group: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, name);
        subject.push(DnType::OrganizationName, group);
        params.distinguished_name = subject;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

struct Pods {
    pod: Arc<Pod>,
    log: PathBuf,
}

impl PodProvider for Pods {
    fn pods(&self) -> Vec<Arc<Pod>> {
        vec![Arc::clone(&self.pod)]
    }
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        ((namespace, name) == ("ns", "p")).then(|| Arc::clone(&self.pod))
    }
    fn container_id(&self, _: &str, container: &str, _: bool) -> Option<String> {
        (container == "c").then(|| "id-c".to_owned())
    }
    fn sandbox_id(&self, _: &str) -> Option<String> {
        Some("sandbox".to_owned())
    }
    fn log_path(&self, _: &str, _: &str, previous: bool) -> Option<PathBuf> {
        (!previous).then(|| self.log.clone())
    }
    fn metrics(&self) -> String {
        "kubelet_running_pods 1\n".to_owned()
    }
    fn healthy(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Answers every streaming call with the URL of a test server; remembers what was asked.
#[derive(Default)]
struct Streams {
    url: String,
    asked: Mutex<Vec<StreamRequest>>,
}

#[async_trait::async_trait]
impl StreamingRuntime for Streams {
    async fn exec_url(&self, request: StreamRequest) -> Result<String, String> {
        self.asked.lock().unwrap().push(request);
        Ok(self.url.clone())
    }
    async fn attach_url(&self, request: StreamRequest) -> Result<String, String> {
        self.exec_url(request).await
    }
    async fn port_forward_url(&self, _: &str, _: Vec<i32>) -> Result<String, String> {
        Ok(self.url.clone())
    }
    async fn exec_sync(&self, _: &str, command: Vec<String>, _: Duration) -> Result<(i32, Vec<u8>), String> {
        Ok((i32::from(command.is_empty()), command.join(" ").into_bytes()))
    }
}

/// TokenReview knows `good`; SubjectAccessReview lets `viewer` get `nodes/metrics` and `nodes/proxy`.
fn api_client(asked: &Arc<Mutex<Vec<Value>>>) -> kube::Client {
    let asked = Arc::clone(asked);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let asked = Arc::clone(&asked);
        async move {
            let path = request.uri().path().to_owned();
            let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
            asked.lock().unwrap().push(body.clone());
            let answer = if path.ends_with("/tokenreviews") {
                let good = body["spec"]["token"] == "good";
                json!({ "metadata": {}, "spec": {}, "status": { "authenticated": good, "user": { "username": "viewer", "groups": ["g"] } } })
            } else {
                let spec = &body["spec"];
                let on = &spec["resourceAttributes"];
                let allowed = spec["user"] == "viewer"
                    && on["verb"] == "get"
                    && (on["subresource"] == "metrics" || on["subresource"] == "proxy");
                json!({ "metadata": {}, "spec": {}, "status": { "allowed": allowed } })
            };
            let body = kube::client::Body::from(serde_json::to_vec(&answer).unwrap());
            Ok::<_, std::convert::Infallible>(http::Response::builder().status(201).body(body).unwrap())
        }
    });
    kube::Client::new(service, "default")
}

struct Rig {
    ca: Ca,
    server: Server,
    streams: Arc<Streams>,
    asked: Arc<Mutex<Vec<Value>>>,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

type Identity = Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>;

impl Rig {
    async fn start(standalone: bool, url: &str) -> Option<Self> {
        let hierarchies = match orlop_host::cgroup::Hierarchies::discover() {
            Ok(hierarchies) => hierarchies,
            Err(error) => {
                orlop_host::skip("kubelet server", &error.to_string());
                return None;
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new();
        let ca_file = dir.path().join("ca.crt");
        std::fs::write(&ca_file, &ca.pem).unwrap();
        let log = dir.path().join("0.log");
        std::fs::write(&log, "2024-01-01T00:00:01Z stdout F hello\n").unwrap();
        let pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "p", "namespace": "ns", "uid": "u" },
            "spec": { "containers": [{ "name": "c" }] },
            "status": { "containerStatuses": [{ "name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
                "state": { "running": {} } }] },
        }));
        let pods = Arc::new(Pods { pod: Arc::new(pod.unwrap()), log });
        let streams = Arc::new(Streams { url: url.to_owned(), ..Streams::default() });
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let config = ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            node_name: "n1".into(),
            tls: None,
            client_ca_file: Some(ca_file),
            client: (!standalone).then(|| api_client(&asked)),
            configz: json!({ "maxPods": 110 }),
        };
        let manager = crate::container_manager::ContainerManager::new(
            crate::container_manager::ContainerManagerConfig::for_tests("/orlop-test-none"),
            hierarchies,
            orlop_host::machine::MachineCapacity::default(),
        );
        let stats = StatsSource::new("n1".into(), dir.path().to_owned(), Arc::new(manager.unwrap()));
        let shutdown = CancellationToken::new();
        let server =
            Server::start(config, pods, Arc::clone(&streams) as _, Arc::new(stats), shutdown.clone()).await.unwrap();
        Some(Self { ca, server, streams, asked, shutdown, _dir: dir })
    }

    fn admin(&self) -> Identity {
        Some(self.ca.client("admin", "system:masters"))
    }

    async fn connect(&self, identity: Identity) -> tokio_rustls::client::TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer));
        let config = match identity {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.server.local_addr()).await.unwrap();
        let name = ServerName::try_from("n1").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// One request by hand; status and everything after the head.
    async fn request(&self, identity: Identity, head: &str) -> (u16, String) {
        let mut stream = self.connect(identity).await;
        let head = format!("{head}\r\nhost: n1\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The server closes without a TLS goodbye at times; what came before counts.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let code = answer.split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (code, body)
    }
}

#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn an_admin_reads_everything() {
    let Some(rig) = Rig::start(false, "").await else { return };
    for (path, code, want) in [
        ("/healthz", 200, "ok"),
        ("/pods", 200, "\"kind\":\"PodList\""),
        ("/runningpods/", 200, "\"uid\":\"u\""),
        ("/configz", 200, "{\"kubeletconfig\":{\"maxPods\":110}}"),
        ("/metrics", 200, "kubelet_running_pods 1"),
        ("/metrics/resource", 200, "resource_scrape_error"),
        ("/metrics/cadvisor", 200, "machine_cpu_cores"),
        ("/stats/summary", 200, "\"nodeName\":\"n1\""),
        ("/containerLogs/ns/p/c?tailLines=1", 200, "hello\n"),
        ("/containerLogs/ns/p/c?tailLines=x", 422, "tailLines"),
        ("/containerLogs/ns/p/c?previous=true", 400, "previous terminated container"),
        ("/containerLogs/ns/p/other", 404, "not found in pod"),
        ("/containerLogs/ns/none/c", 404, "pod does not exist"),
        ("/nonsense", 404, "404 page not found"),
        ("/exec/ns/p/c?command=ls", 400, "missing upgrade headers"),
        ("/exec/ns/p/c", 400, "at least one command"),
        ("/exec/ns/p/x?command=ls", 404, "container not found"),
        ("/exec/ns/p/other-uid/c?command=ls", 404, "pod does not exist"),
    ] {
        let (got, body) = rig.request(rig.admin(), &format!("GET {path} HTTP/1.1")).await;
        assert!(got == code && body.contains(want), "{path}: {got} {body}");
    }
    let (code, body) = rig.request(rig.admin(), "POST /run/ns/p/c?cmd=echo%20hi HTTP/1.1").await;
    assert_eq!((code, body.contains("echo hi")), (200, true));
    assert!(rig.asked.lock().unwrap().is_empty(), "nobody is asked about system:masters");
    rig.shutdown.cancel();
    rig.server.stopped().await;
}

#[tokio::test]
async fn strangers_stay_outside_and_others_get_what_they_may() {
    let Some(rig) = Rig::start(false, "http://127.0.0.1:1/x").await else { return };
    let viewer = "authorization: Bearer good";
    assert_eq!(rig.request(None, "GET /healthz HTTP/1.1").await.0, 401);
    assert_eq!(rig.request(None, "GET /pods HTTP/1.1\r\nauthorization: Bearer bad").await.0, 401);
    assert_eq!(rig.request(None, &format!("GET /metrics HTTP/1.1\r\n{viewer}")).await.0, 200);
    assert_eq!(
        rig.request(None, &format!("GET /pods HTTP/1.1\r\n{viewer}")).await.0,
        200,
        "get nodes/proxy includes it"
    );
    let (code, body) = rig.request(None, &format!("GET /stats/summary HTTP/1.1\r\n{viewer}")).await;
    assert_eq!(code, 403);
    assert!(body.contains("Forbidden (user=viewer, verb=get, resource=nodes, subresource(s)=[stats])"), "{body}");
    // A shell needs more than get, whatever the method.
    let exec = format!("GET /exec/ns/p/c?command=sh HTTP/1.1\r\n{viewer}\r\nupgrade: websocket");
    assert_eq!(rig.request(None, &exec).await.0, 403);
    let reviews = rig.asked.lock().unwrap().iter().filter(|b| b["spec"].get("token").is_some()).count();
    assert_eq!(reviews, 2, "one for each token: the answers are kept");
    let other = Some(rig.ca.client("other", "nobody"));
    assert_eq!(rig.request(other, "GET /pods HTTP/1.1").await.0, 403);
    rig.shutdown.cancel();
}

#[tokio::test]
async fn standalone_only_masters_get_in() {
    let Some(rig) = Rig::start(true, "").await else { return };
    assert_eq!(rig.request(rig.admin(), "GET /pods HTTP/1.1").await.0, 200);
    let kubelet_client = Some(rig.ca.client("kube-apiserver-kubelet-client", "kubeadm:cluster-admins"));
    assert_eq!(rig.request(kubelet_client, "GET /pods HTTP/1.1").await.0, 403);
    assert_eq!(rig.request(None, "GET /pods HTTP/1.1\r\nauthorization: Bearer good").await.0, 401);
    let foreign = Ca::new().client("admin", "system:masters");
    let mut stream = rig.connect(Some(foreign)).await;
    let _ = stream.write_all(b"GET /pods HTTP/1.1\r\nhost: n\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "another authority's certificate is refused in the handshake");
    rig.shutdown.cancel();
}

/// A streaming server that answers the upgrade with `answer`, then echoes.
async fn streaming_server(answer: &'static str) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/exec/token123", listener.local_addr().unwrap());
    let seen: Arc<Mutex<String>> = Arc::default();
    let heads = Arc::clone(&seen);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        *heads.lock().unwrap() = String::from_utf8(head).unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    (url, seen)
}

#[tokio::test]
async fn an_upgrade_is_carried_byte_by_byte() {
    let (url, seen) =
        streaming_server("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n\r\n").await;
    let Some(rig) = Rig::start(false, &url).await else { return };
    let mut stream = rig.connect(rig.admin()).await;
    let head = "POST /exec/ns/p/c?command=sh&command=-c&input=1&output=1&tty=1&error=1 HTTP/1.1\r\nhost: n1\r\nauthorization: Bearer secret\r\n\
        connection: Upgrade\r\nupgrade: SPDY/3.1\r\nx-stream-protocol-version: v4.channel.k8s.io\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(
        answer.starts_with("http/1.1 101") && answer.contains("x-stream-protocol-version: v4.channel.k8s.io"),
        "{answer}"
    );
    let sent: Vec<u8> = (0..200_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let mut echoed = vec![0; sent.len()];
    let (mut read, mut write) = tokio::io::split(stream);
    let (written, got) = tokio::join!(write.write_all(&sent), read.read_exact(&mut echoed));
    written.unwrap();
    got.unwrap();
    assert!(sent == echoed);
    let head = seen.lock().unwrap().clone().to_lowercase();
    assert!(head.starts_with("post /exec/token123 http/1.1") && !head.contains("secret"), "{head}");
    let asked = rig.streams.asked.lock().unwrap().remove(0);
    assert_eq!(asked.command, ["sh", "-c"]);
    assert!(asked.stdin && asked.stdout && asked.tty && !asked.stderr, "no stderr beside a terminal");
    rig.shutdown.cancel();
}

#[tokio::test]
async fn a_refusal_of_the_runtime_is_passed_on() {
    let (url, _) = streaming_server("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
    let Some(rig) = Rig::start(false, &url).await else { return };
    let upgrade = "GET /exec/ns/p/c?command=sh&output=1 HTTP/1.1\r\nupgrade: websocket\r\nsec-websocket-protocol: v5.channel.k8s.io";
    let (code, body) = rig.request(rig.admin(), upgrade).await;
    assert_eq!((code, body.as_str()), (403, "no"));
    rig.shutdown.cancel();
}

#[tokio::test]
async fn a_taken_port_and_bad_certificates_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.crt");
    std::fs::write(&bad, "not a certificate").unwrap();
    let start = async |listen: SocketAddr, ca: Option<PathBuf>| {
        let config = ServerConfig {
            listen,
            node_name: "n1".into(),
            tls: None,
            client_ca_file: ca,
            client: None,
            configz: Value::Null,
        };
        let hierarchies = orlop_host::cgroup::Hierarchies::discover().ok()?;
        let manager = crate::container_manager::ContainerManager::new(
            crate::container_manager::ContainerManagerConfig::for_tests("/"),
            hierarchies,
            orlop_host::machine::MachineCapacity::default(),
        );
        let stats = Arc::new(StatsSource::new("n1".into(), "/".into(), Arc::new(manager.unwrap())));
        let pods = Arc::new(Pods { pod: Arc::default(), log: PathBuf::new() });
        let streams = Arc::new(Streams::default());
        Some(Server::start(config, pods, streams, stats, CancellationToken::new()).await.unwrap_err().to_string())
    };
    let addr = taken.local_addr().unwrap();
    if let Some(message) = start(addr, None).await {
        assert!(message.starts_with(&format!("cannot listen on {addr}")), "{message}");
    }
    let free = "127.0.0.1:0".parse().unwrap();
    if let Some(message) = start(free, Some(bad)).await {
        assert!(message.contains("bad.crt: there is no certificate in it"), "{message}");
    }
    if let Some(message) = start(free, Some("/nowhere/ca.crt".into())).await {
        assert!(message.starts_with("cannot read /nowhere/ca.crt"), "{message}");
    }
}
