//! A whole API server on a memory store, with certificates of its own, on a port that the kernel chose.
#![allow(dead_code, reason = "the example and the tests use different parts of it")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orlop_apiserver::authn::UserInfo;
use orlop_apiserver::{ApiServer, ApiServerConfig, KubeletClientOptions, Limits, ServiceAccountOptions};
use orlop_store::{Embedded, Store};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio_util::sync::CancellationToken;

pub(crate) struct Identity {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn issue(&self, name: &str, group: Option<&str>, server: bool) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        if server {
            params.subject_alt_names = vec![
                SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                SanType::DnsName("localhost".try_into().unwrap()),
            ];
        }
        params.extended_key_usages =
            vec![if server { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth }];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity { cert_pem: cert.pem(), key_pem: key.serialize_pem() }
    }
}

pub(crate) struct TestServer {
    pub(crate) server: ApiServer,
    pub(crate) ca: Ca,
    pub(crate) admin: Identity,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) shutdown: CancellationToken,
}

pub(crate) fn config(ca: &Ca) -> ApiServerConfig {
    let serving = ca.issue("kube-apiserver", None, true);
    let kubelet_client = ca.issue("kube-apiserver-kubelet-client", Some("system:masters"), false);
    ApiServerConfig {
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
        advertise_address: Ipv4Addr::LOCALHOST.into(),
        serving_cert_pem: serving.cert_pem,
        serving_key_pem: serving.key_pem,
        client_ca_pem: ca.pem(),
        request_header: None,
        kubelet_client: Some(KubeletClientOptions {
            cert_pem: kubelet_client.cert_pem,
            key_pem: kubelet_client.key_pem,
            ca_pem: ca.pem(),
        }),
        service_account: ServiceAccountOptions {
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            api_audiences: Vec::new(),
            signing_key_pem: KeyPair::generate().unwrap().serialize_pem(),
            verification_keys_pem: Vec::new(),
        },
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        node_ports: (30000, 32767),
        anonymous_auth: true,
        event_ttl: Duration::from_hours(1),
        limits: Limits::default(),
        metrics: Arc::new(Mutex::default()),
        clock: Arc::new(jiff::Timestamp::now),
    }
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ApiServerConfig)) -> Self {
        let ca = Ca::new();
        let mut config = config(&ca);
        change(&mut config);
        let store: Arc<dyn Store> = Arc::new(Embedded::in_memory().unwrap());
        let shutdown = CancellationToken::new();
        let server = ApiServer::start(config, store.clone(), shutdown.clone()).await.unwrap();
        let admin = ca.issue("kubernetes-admin", Some("system:masters"), false);
        Self { server, ca, admin, store, shutdown }
    }

    pub(crate) fn client(&self) -> kube::Client {
        self.server.client(UserInfo::new("admin", &[UserInfo::MASTERS]))
    }

    pub(crate) fn kubeconfig(&self) -> String {
        let b64 = |text: &str| STANDARD.encode(text);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\ncontexts:\n- name: test\n  context:\n    cluster: test\n    \
             user: admin\nclusters:\n- name: test\n  cluster:\n    server: https://{}\n    certificate-authority-data: {}\n\
             users:\n- name: admin\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            self.server.local_addr(),
            b64(&self.ca.pem()),
            b64(&self.admin.cert_pem),
            b64(&self.admin.key_pem),
        )
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.server.stopped().await;
    }
}
