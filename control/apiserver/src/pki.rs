//! PEM in, what rustls wants out.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::StartError;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// All certificates of a PEM text; none at all is an error.
pub(crate) fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(StartError::Pki { what, detail: "no certificate in it".to_owned() }),
        Err(error) => Err(StartError::Pki { what, detail: error.to_string() }),
    }
}

pub(crate) fn private_key(what: &'static str, pem: &str) -> Result<PrivateKeyDer<'static>, StartError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| StartError::Pki { what, detail: error.to_string() })
}
