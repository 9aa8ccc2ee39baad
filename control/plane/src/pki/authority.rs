//! Certificate authorities: made once, kept for good.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};

use super::PkiError;
use super::pair::{self, Pair};

/// Ten years, as kubeadm's.
const VALID_DAYS: i64 = 3650;

/// A CA that signs leaves.
pub(crate) struct Authority {
    pub(crate) cert_pem: String,
    pub(crate) issuer: Issuer<'static, KeyPair>,
    /// Raw public key bits, to know leaves of another CA.
    pub(crate) key_id: Vec<u8>,
    pub(crate) created: bool,
}

/// Reads `NAME.crt` and `NAME.key` below `dir`, or makes them.
pub(crate) fn load_or_create(
    dir: &Path,
    name: &str,
    common_name: &str,
    now: jiff::Timestamp,
) -> Result<Authority, PkiError> {
    let pair = Pair::at(dir, name);
    let (cert, key) = (pair.read_cert()?, pair.read_key()?);
    let (cert_pem, key, created) = match (cert, key) {
        (Some(cert_pem), Some(key)) => (cert_pem, key, false),
        (Some(_), None) => return Err(PkiError::MissingCaKey { cert: pair.cert, key: pair.key }),
        (None, key) => {
            // A key alone is what a power cut between the two writes of the first start leaves.
            let key = match key {
                Some(key) => key,
                None => pair::new_key(&pair.key)?,
            };
            let cert = params(common_name, now).self_signed(&key).map_err(|e| PkiError::issue(&pair.cert, e))?;
            pair.write(&cert.pem(), &key)?;
            (cert.pem(), key, true)
        }
    };
    let facts = pair::facts(&pair.cert, &cert_pem)?;
    if !facts.is_ca {
        return Err(PkiError::damaged(&pair.cert, "it is no CA certificate"));
    }
    if facts.public_key != key_spki(&key) {
        return Err(PkiError::CaMismatch { cert: pair.cert, key: pair.key });
    }
    if facts.not_after_s < now.as_second() {
        return Err(PkiError::CaExpired { cert: pair.cert });
    }
    let issuer = Issuer::from_ca_cert_pem(&cert_pem, key).map_err(|e| PkiError::damaged(&pair.cert, e))?;
    Ok(Authority { cert_pem, issuer, key_id: facts.subject_key_id, created })
}

pub(crate) fn key_spki(key: &KeyPair) -> Vec<u8> {
    use rcgen::PublicKeyData as _;
    key.subject_public_key_info()
}

fn params(common_name: &str, now: jiff::Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    pair::set_validity(&mut params, now, VALID_DAYS);
    params
}

/// A fresh P-256 key.
pub(crate) fn generate(path: &Path) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| PkiError::issue(path, e))
}
