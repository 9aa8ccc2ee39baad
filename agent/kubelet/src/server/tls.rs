//! Certificates of the server, and which client certificates it takes.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::{ServerConfig, ServerError};

/// TLS 1.2 and 1.3, client certificates optional: who has none may still show a token.
pub(super) fn acceptor(config: &ServerConfig) -> Result<TlsAcceptor, ServerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let fail = |path: &Path, message: String| ServerError::Tls { path: path.to_owned(), message };
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| fail(Path::new("TLS versions"), e.to_string()))?;
    let builder = match &config.client_ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| fail(path, e.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|e| fail(path, e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let resolver: Arc<dyn ResolvesServerCert> = match &config.tls {
        Some((certificate, key)) => Arc::new(Reloading::open(certificate, key)?),
        None => Arc::new(Fixed(self_signed(&config.node_name)?)),
    };
    let mut server = builder.with_cert_resolver(resolver);
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A pair of files that is read again when it changes: certificates are rotated under a running kubelet.
#[derive(Debug)]
struct Reloading {
    certificate: std::path::PathBuf,
    key: std::path::PathBuf,
    current: std::sync::Mutex<(Option<SystemTime>, Arc<CertifiedKey>)>,
}

impl Reloading {
    fn open(certificate: &Path, key: &Path) -> Result<Self, ServerError> {
        let loaded = load(certificate, key)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: std::sync::Mutex::new((modified(certificate), loaded)),
        })
    }
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = modified(&self.certificate);
        if now.is_some() && now != current.0 {
            match load(&self.certificate, &self.key) {
                Ok(loaded) => *current = (now, loaded),
                // Half-written: the old pair serves until the new one is whole.
                Err(error) => tracing::warn!(%error, "keeping the old serving certificate"),
            }
        }
        Some(Arc::clone(&current.1))
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let pem = std::fs::read(path).map_err(|source| ServerError::Read { path: path.to_owned(), source })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(ServerError::Tls { path: path.to_owned(), message: "there is no certificate in it".to_owned() }),
        Err(error) => Err(ServerError::Tls { path: path.to_owned(), message: error.to_string() }),
    }
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, ServerError> {
    let chain = certificates(certificate)?;
    let fail = |message: String| ServerError::Tls { path: key.to_owned(), message };
    let pem = std::fs::read(key).map_err(|source| ServerError::Read { path: key.to_owned(), source })?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| fail(e.to_string()))?;
    certified(chain, &key).map_err(fail)
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'static>) -> Result<Arc<CertifiedKey>, String> {
    let signer = rustls::crypto::ring::sign::any_supported_type(key).map_err(|e| e.to_string())?;
    let pair = CertifiedKey::new(chain, signer);
    pair.keys_match().map_err(|e| e.to_string())?;
    Ok(Arc::new(pair))
}

/// As upstream without `tlsCertFile`: nobody can verify it, so an API server needs `--kubelet-certificate-authority` unset.
fn self_signed(node_name: &str) -> Result<Arc<CertifiedKey>, ServerError> {
    let fail = |message: String| ServerError::Tls { path: "self-signed certificate".into(), message };
    let pair = rcgen::generate_simple_self_signed(vec![node_name.to_owned(), "localhost".to_owned()])
        .map_err(|e| fail(e.to_string()))?;
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).map_err(|e| fail(e.to_owned()))?;
    certified(vec![pair.cert.der().clone()], &key).map_err(fail)
}
