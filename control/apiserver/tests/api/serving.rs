//! The secure port, identity, limits, documents, health.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use orlop_apiserver::authn::UserInfo;
use orlop_apiserver::{ApiServer, StartError};
use orlop_store::Embedded;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::raw::{call, get, post};
use crate::support::{Identity, TestServer, config};

async fn over_tls(server: &TestServer, identity: Option<&Identity>, path: &str) -> (u16, Value) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca.pem().as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let tcp = tokio::net::TcpStream::connect(server.server.local_addr()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tls = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", "localhost").body(Full::<bytes::Bytes>::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn certificates_say_who_asks() {
    let server = TestServer::start().await;
    let (code, list) = over_tls(&server, Some(&server.admin), "/api/v1/namespaces").await;
    assert_eq!((code, &list["kind"]), (200, &json!("NamespaceList")));
    let nobody = server.ca.issue("nobody", None, false);
    let (code, status) = over_tls(&server, Some(&nobody), "/api/v1/namespaces").await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        r#"namespaces is forbidden: User "nobody" cannot list resource "namespaces" in API group "" at the cluster scope"#
    );
    let stranger = crate::support::Ca::new().issue("kubernetes-admin", Some("system:masters"), false);
    assert_eq!(over_tls(&server, Some(&stranger), "/api/v1/namespaces").await.0, 401);
    assert_eq!(over_tls(&server, None, "/api/v1/namespaces").await.0, 403);
    assert_eq!(over_tls(&server, None, "/version").await.1["minor"], "36");
    server.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = TestServer::start().await;
    let mut second = config(&server.ca);
    second.bind = server.server.local_addr();
    let error = ApiServer::start(second, Arc::new(Embedded::in_memory().unwrap()), CancellationToken::new())
        .await
        .err()
        .expect("the port is taken");
    assert!(matches!(error, StartError::PortTaken { .. }));
    let text = error.to_string();
    assert!(text.contains("--secure-port") && text.contains(&server.server.local_addr().to_string()), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn in_process_clients_are_authorized_too() {
    let server = TestServer::start().await;
    let nobody = server.server.client(UserInfo::new("nobody", &[]));
    get(&nobody, "/api/v1/secrets").await.expect(403);
    get(&nobody, "/readyz").await.expect(200);
    let rules = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}});
    let review =
        post(&nobody, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &rules).await.expect(201).json();
    assert_eq!(review["status"]["allowed"], false);
    server.stop().await;
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let server = TestServer::start().await;
    let client = server.client();
    let body = vec![b' '; (3 << 20) + 1];
    let path = "/api/v1/namespaces/default/configmaps";
    let refused = call(&client, "POST", path).body("application/json", body).send().await.expect(413).json();
    assert_eq!(refused["reason"], "RequestEntityTooLarge");
    server.stop().await;
}

#[tokio::test]
async fn documents() {
    let server = TestServer::start().await;
    let client = server.client();
    for path in ["/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1", "/openapi/v3", "/version", "/", "/metrics"]
    {
        get(&client, path).await.expect(200);
    }
    for path in ["/apis/none", "/apis/apps/v9", "/api/v1/none", "/none", "/api/v1/namespaces/default/nodes"] {
        assert_eq!(get(&client, path).await.expect(404).json()["kind"], "Status", "{path}");
    }
    for method in ["OPTIONS", "BREW"] {
        let refused = call(&client, method, "/api/v1/namespaces/default").send().await.expect(405).json();
        assert_eq!(refused["message"], "the server does not allow this method on the requested resource");
    }
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let first = call(&client, "GET", "/apis").header("accept", accept).send().await.expect(200);
    assert_eq!(first.json()["kind"], "APIGroupDiscoveryList");
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    let again = call(&client, "GET", "/apis").header("accept", accept).header("if-none-match", &tag).send().await;
    assert_eq!((again.code, again.text.as_str()), (304, ""));
    let ready = get(&client, "/readyz?verbose&exclude=etcd").await.expect(200).text;
    assert!(ready.contains("[+]etcd excluded: ok") && ready.contains("readyz check passed"), "{ready}");
    get(&client, "/livez/ping").await.expect(200);
    let metrics = get(&client, "/metrics").await.text;
    assert!(metrics.contains("apiserver_request_total{verb=\"GET\""), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn openapi_v2_speaks_protobuf() {
    let server = TestServer::start().await;
    let client = server.client();
    // What client-go asks with: kubectl does so for kinds that it does not find in v3.
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let read = |tag: &'static str| {
        call(&client, "GET", "/openapi/v2").header("accept", accept).header("if-none-match", tag).send()
    };
    let reply = read("none").await.expect(200);
    assert_eq!(reply.headers["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert!(reply.text.starts_with("\n\u{3}2.0"), "swagger is the first field");
    let tag = reply.headers["etag"].to_str().unwrap().to_owned().leak();
    assert_eq!(read(tag).await.code, 304);
    let packed = call(&client, "GET", "/openapi/v2").header("accept", accept).header("accept-encoding", "gzip");
    assert_eq!(packed.send().await.expect(200).headers["content-encoding"], "gzip");
    assert_eq!(get(&client, "/openapi/v2").await.expect(200).headers["content-type"], "application/json");
    let old = call(&client, "GET", "/openapi/v3/api/v1").header("accept", accept).send().await;
    old.expect(406);
    server.stop().await;
}

#[tokio::test]
async fn tables_of_what_is_not_stored() {
    let server = TestServer::start().await;
    let client = server.client();
    let table = |path: &str| {
        call(&client, "GET", path)
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
            .send()
    };
    let status = table("/api/v1/componentstatuses").await.expect(200);
    assert!(status.headers["warning"].to_str().unwrap().contains("ComponentStatus is deprecated"));
    assert_eq!(status.json()["rows"][0]["cells"], json!(["etcd-0", "Healthy", "ok", ""]));
    get(&client, "/api/v1/componentstatuses/etcd-0").await.expect(200);
    get(&client, "/api/v1/componentstatuses/none").await.expect(404);
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    post(&client, "/apis/apps/v1/namespaces/default/deployments", &deployment).await.expect(201);
    let scale = table("/apis/apps/v1/namespaces/default/deployments/d/scale").await.expect(200).json();
    assert_eq!(scale["columnDefinitions"][1]["name"], "Desired");
    assert_eq!(scale["rows"][0]["cells"].as_array().unwrap()[..3], [json!("d"), json!(3), json!(0)]);
    server.stop().await;
}

#[tokio::test]
async fn addresses_of_pods_lead_nowhere_forbidden() {
    let server = TestServer::start().await;
    let client = server.client();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    post(&client, "/api/v1/namespaces/default/serviceaccounts", &account).await.expect(201);
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]}});
    post(&client, pods, &pod).await.expect(201);
    for address in ["127.0.0.1", "169.254.169.254", "0.0.0.0", "::1"] {
        let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}}).to_string();
        call(&client, "PATCH", &format!("{pods}/p/status"))
            .body("application/merge-patch+json", status)
            .send()
            .await
            .expect(200);
        get(&client, &format!("{pods}/p:80/proxy/")).await.expect(403);
    }
    get(&client, &format!("{pods}/p/log")).await.expect(400);
    server.stop().await;
}
