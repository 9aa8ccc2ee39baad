//! Logs, exec and its like, against a kubelet of our own.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::raw::{call, get, post};
use crate::support::{Ca, Identity, TestServer};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(ca: &Ca) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    roots
}

fn chain(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    (
        vec![CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap()],
        PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap(),
    )
}

/// Reads up to the empty line.
async fn head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// A kubelet that demands the client certificate; it upgrades and echoes, or answers with a log line.
async fn kubelet(ca: &Ca) -> (u16, mpsc::Receiver<String>) {
    let (certs, key) = chain(&ca.issue("system:node:n", Some("system:nodes"), true));
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)), provider()).build().unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certs, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, requests) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), seen.clone());
            tokio::spawn(async move {
                let mut tls = acceptor.accept(tcp).await.unwrap();
                let request = head(&mut tls).await;
                let upgrade = request.to_lowercase().contains("upgrade: spdy/3.1");
                let refuse = request.contains("previous=true");
                seen.send(request).await.unwrap();
                if upgrade {
                    tls.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nhello ").await.unwrap();
                    let (mut read, mut write) = tokio::io::split(tls);
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                } else if refuse {
                    tls.write_all(
                        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nnot there",
                    )
                    .await
                    .unwrap();
                } else {
                    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nline\n\r\n0\r\n\r\n").await.unwrap();
                }
            });
        }
    });
    (port, requests)
}

async fn with_pod() -> (TestServer, kube::Client, mpsc::Receiver<String>) {
    let server = TestServer::start().await;
    let client = server.client();
    let (port, requests) = kubelet(&server.ca).await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": "n"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    post(&client, "/api/v1/nodes", &node).await.expect(201);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    post(&client, "/api/v1/namespaces/default/serviceaccounts", &account).await.expect(201);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n",
        "automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]}});
    post(&client, PODS, &pod).await.expect(201);
    (server, client, requests)
}

#[tokio::test]
async fn logs_come_from_the_kubelet() {
    let (server, client, mut requests) = with_pod().await;
    let log = get(&client, &format!("{PODS}/p/log?tailLines=5&follow=true&pretty=1")).await.expect(200);
    assert_eq!(log.text, "line\n");
    let request = requests.recv().await.unwrap();
    assert!(request.starts_with("GET /containerLogs/default/p/c?follow=true&tailLines=5 HTTP/1.1\r\n"), "{request}");
    get(&client, &format!("{PODS}/p/log?container=none")).await.expect(400);
    // The kubelet refuses in plain text: clients get a Status with its words.
    let refused = get(&client, &format!("{PODS}/p/log?previous=true")).await.expect(400).json();
    assert_eq!((&refused["reason"], &refused["message"]), (&json!("BadRequest"), &json!("not there")));
    requests.recv().await.unwrap();
    let proxied = get(&client, "/api/v1/nodes/n/proxy/stats/summary?x=1").await.expect(200);
    assert_eq!(proxied.text, "line\n");
    assert!(requests.recv().await.unwrap().starts_with("GET /stats/summary?x=1 HTTP/1.1"));
    server.stop().await;
}

#[tokio::test]
async fn exec_is_tunnelled_bytewise() {
    let (server, client, mut requests) = with_pod().await;
    let (certs, key) = chain(&server.admin);
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&server.ca))
        .with_client_auth_cert(certs, key)
        .unwrap();
    let tcp = TcpStream::connect(server.server.local_addr()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut tls = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
    let request = format!(
        "POST {PODS}/p/exec?command=ls&command=-l&stdout=true&stdin=true HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer secret\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
    );
    tls.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut tls).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.to_lowercase().contains("x-stream-protocol-version: v4.channel.k8s.io"), "{answer}");
    tls.write_all(b"world").await.unwrap();
    let mut echoed = [0; 11];
    tls.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"hello world");
    let seen = requests.recv().await.unwrap();
    assert!(seen.starts_with("POST /exec/default/p/c?input=1&output=1&command=ls&command=-l HTTP/1.1\r\n"), "{seen}");
    assert!(!seen.contains("secret"), "credentials stay here: {seen}");
    // Without an upgrade the kubelet's own answer is passed on.
    call(&client, "POST", &format!("{PODS}/p/exec?command=ls")).send().await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn a_kubelet_with_a_foreign_certificate_is_refused() {
    let (server, client, _requests) = with_pod().await;
    let (port, _other) = kubelet(&Ca::new()).await;
    let patch = json!({"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}).to_string();
    call(&client, "PATCH", "/api/v1/nodes/n/status")
        .body("application/merge-patch+json", patch)
        .send()
        .await
        .expect(200);
    get(&client, &format!("{PODS}/p/log")).await.expect(502);
    server.stop().await;
}
