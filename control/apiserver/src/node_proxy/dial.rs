//! Connections to kubelets, pods and services.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use orlop_api::status::Status;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::{Scheme, Target};
use crate::config::{KubeletClientOptions, StartError};
use crate::errors;
use crate::pki;
use crate::wire::Body;

/// Upstream's `KubeletClientConfig.HTTPTimeout`.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct KubeletDialer {
    kubelet: Arc<ClientConfig>,
    unverified: Arc<ClientConfig>,
}

impl KubeletDialer {
    pub(crate) fn new(options: &KubeletClientOptions) -> Result<Self, StartError> {
        let unusable = |detail: String| StartError::Pki { what: "the kubelet client certificate", detail };
        let provider = pki::provider();
        let mut roots = RootCertStore::empty();
        for ca in pki::certificates("the kubelets' CA", &options.ca_pem)? {
            roots.add(ca).map_err(|e| unusable(e.to_string()))?;
        }
        let chain = pki::certificates("the kubelet client certificate", &options.cert_pem)?;
        let key = pki::private_key("the kubelet client key", &options.key_pem)?;
        let builder = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(|e| unusable(e.to_string()))
        };
        let kubelet = builder()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|e| unusable(e.to_string()))?;
        let unverified = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
            .with_no_client_auth();
        Ok(Self { kubelet: Arc::new(kubelet), unverified: Arc::new(unverified) })
    }

    pub(super) async fn connect(&self, target: &Target) -> Result<SendRequest<Body>, Status> {
        let address = SocketAddr::new(target.address, target.port);
        let connected = tokio::time::timeout(CONNECT_WITHIN, self.dial(target.scheme, target.address, address)).await;
        match connected {
            Ok(Ok(sender)) => Ok(sender),
            Ok(Err(why)) => Err(errors::bad_gateway(format!("error dialing backend: {address}: {why}"))),
            Err(_) => {
                Err(Status::new(504, "Timeout", format!("error dialing backend: dial tcp {address}: i/o timeout")))
            }
        }
    }

    async fn dial(&self, scheme: Scheme, ip: IpAddr, address: SocketAddr) -> Result<SendRequest<Body>, String> {
        let tcp = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        // Interactive streams: a keystroke waits for nothing.
        let _ = tcp.set_nodelay(true);
        let config = match scheme {
            Scheme::Http => return handshake(tcp).await,
            Scheme::Https => &self.unverified,
            Scheme::Kubelet => &self.kubelet,
        };
        let connector = TlsConnector::from(config.clone());
        let tls = connector.connect(ServerName::IpAddress(ip.into()), tcp).await.map_err(|e| e.to_string())?;
        handshake(tls).await
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Body>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    // Ends with the connection, which ends with its only request.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "proxied connection ended");
        }
    });
    Ok(sender)
}

/// For backends that have no certificate which anybody could check.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
