//! Client certificates: CN is the user, O the groups.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::UserInfo;
use super::memo::Memo;

/// Subject attribute that carries the user's UID (upstream AllowParsingUserUIDFromCertAuth).
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("the CA bundle holds no usable certificate: {0}")]
    CaBundle(String),
    #[error("the client sent no certificate")]
    Missing,
    #[error("the client certificate was refused")]
    Refused(#[source] rustls::Error),
    #[error("the client certificate can't be parsed: {0}")]
    Malformed(String),
    #[error("the client certificate has no common name")]
    NoCommonName,
}

/// What a verified certificate says.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) common_name: String,
    pub(crate) organizations: Vec<String>,
    pub(crate) uid: String,
    /// The certificate's own validity, re-checked on every use of the memory.
    not_before_s: i64,
    not_after_s: i64,
}

/// Verifies chains against one CA bundle; remembers what it verified.
pub(crate) struct ChainVerifier {
    verifier: Arc<dyn ClientCertVerifier>,
    seen: Memo<Arc<Subject>>,
}

impl ChainVerifier {
    pub(crate) fn new(ca: &[CertificateDer<'static>]) -> Result<Self, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider)
            .build()
            .map_err(|e| CertificateError::CaBundle(e.to_string()))?;
        Ok(Self { verifier, seen: Memo::new(256) })
    }

    /// The subject of `chain` (leaf first), once chain, validity and key usage hold.
    pub(crate) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: jiff::Timestamp,
    ) -> Result<Arc<Subject>, CertificateError> {
        let (leaf, intermediates) = chain.split_first().ok_or(CertificateError::Missing)?;
        let parts: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
        let key = Memo::<Arc<Subject>>::key(&parts);
        let now_s = now.as_second();
        if let Some(subject) = self.seen.get(&key)
            && (subject.not_before_s..=subject.not_after_s).contains(&now_s)
        {
            return Ok(subject);
        }
        let unix = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now_s).unwrap_or_default()));
        self.verifier.verify_client_cert(leaf, intermediates, unix).map_err(CertificateError::Refused)?;
        let subject = Arc::new(parse(leaf)?);
        // An intermediate may expire before its leaf: only bare leaves are remembered.
        if intermediates.is_empty() {
            self.seen.put(key, subject.clone());
        }
        Ok(subject)
    }
}

fn roots(ca: &[CertificateDer<'static>]) -> Result<RootCertStore, CertificateError> {
    let mut store = RootCertStore::empty();
    for cert in ca {
        store.add(cert.clone()).map_err(|e| CertificateError::CaBundle(e.to_string()))?;
    }
    Ok(store)
}

fn parse(leaf: &CertificateDer<'_>) -> Result<Subject, CertificateError> {
    let (_, cert) = X509Certificate::from_der(leaf).map_err(|e| CertificateError::Malformed(e.to_string()))?;
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().ok().map(str::to_owned);
    let name = cert.subject();
    // The last CN counts, as in Go's pkix.Name.
    let common_name = name.iter_common_name().filter_map(text).last().unwrap_or_default();
    let uid = name.iter_attributes().find(|a| a.attr_type().to_id_string() == UID_OID).and_then(text);
    Ok(Subject {
        common_name,
        organizations: name.iter_organization().filter_map(text).collect(),
        uid: uid.unwrap_or_default(),
        not_before_s: cert.validity().not_before.timestamp(),
        not_after_s: cert.validity().not_after.timestamp(),
    })
}

/// CN, O and UID as a user; without a CN there is none.
pub(crate) fn user(subject: &Subject) -> Result<UserInfo, CertificateError> {
    if subject.common_name.is_empty() {
        return Err(CertificateError::NoCommonName);
    }
    Ok(UserInfo {
        name: subject.common_name.clone(),
        uid: subject.uid.clone(),
        groups: subject.organizations.clone(),
        ..UserInfo::default()
    })
}

/// For the TLS listener: asks for a client certificate and makes the client prove that it holds its
/// key, but leaves the chain to [`super::Authenticator`], so that a bad certificate is a 401 answer
/// and not a broken handshake (as upstream, `RequestClientCert`). `ca`: all CAs that are worth
/// naming to the client (client CA, front proxy CA).
pub fn client_cert_requester(ca: &[CertificateDer<'static>]) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(Arc::new(Requester { hints: roots(ca)?.subjects(), provider }))
}

#[derive(Debug)]
struct Requester {
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Requester {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
