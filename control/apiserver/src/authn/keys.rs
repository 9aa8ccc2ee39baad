//! The keys of service account tokens: PEM in, signers, verifiers and JWKS out.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use p256::pkcs8::{DecodePrivateKey, EncodePublicKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

use super::tokens::TokenError;

/// A key that checks signatures.
pub(crate) struct VerificationKey {
    /// base64url of SHA-256 over the key's SubjectPublicKeyInfo, as upstream computes it.
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
    pub(crate) jwk: Value,
}

/// The key that signs, with its public half.
pub(crate) struct SigningKey {
    pub(crate) key: EncodingKey,
    pub(crate) public: VerificationKey,
}

/// A P-256 private key in PKCS#8 or SEC1 PEM.
pub(crate) fn signing_key(pem: &str) -> Result<SigningKey, TokenError> {
    let bad = |detail: String| TokenError::Key { what: "the service account signing key".to_owned(), detail };
    let secret = p256::SecretKey::from_pkcs8_pem(pem)
        .or_else(|_| p256::SecretKey::from_sec1_pem(pem))
        .map_err(|_| bad("expected an EC P-256 private key in PEM".to_owned()))?;
    // jsonwebtoken reads PKCS#8 only.
    let der = p256::pkcs8::EncodePrivateKey::to_pkcs8_der(&secret).map_err(|e| bad(e.to_string()))?;
    let spki = secret.public_key().to_public_key_der().map_err(|e| bad(e.to_string()))?;
    Ok(SigningKey { key: EncodingKey::from_ec_der(der.as_bytes()), public: from_spki(spki.as_bytes())? })
}

/// A public key (`PUBLIC KEY`) or certificate in PEM: EC P-256, or RSA.
pub(crate) fn verification_key(pem_text: &str) -> Result<VerificationKey, TokenError> {
    let bad = |detail: String| TokenError::Key { what: "a service account verification key".to_owned(), detail };
    let block = pem::parse(pem_text).map_err(|e| bad(e.to_string()))?;
    match block.tag() {
        "PUBLIC KEY" => from_spki(block.contents()),
        "CERTIFICATE" => {
            let (_, cert) = x509_parser::certificate::X509Certificate::from_der(block.contents())
                .map_err(|e| bad(e.to_string()))?;
            from_spki(cert.public_key().raw)
        }
        "PRIVATE KEY" | "EC PRIVATE KEY" => Ok(signing_key(pem_text)?.public),
        other => Err(bad(format!("PEM block {other:?} is neither a public key nor a certificate"))),
    }
}

fn from_spki(der: &[u8]) -> Result<VerificationKey, TokenError> {
    let bad = |detail: String| TokenError::Key { what: "a service account public key".to_owned(), detail };
    let (_, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|e| bad(e.to_string()))?;
    let id = URL_SAFE_NO_PAD.encode(Sha256::digest(der));
    match spki.parsed().map_err(|e| bad(e.to_string()))? {
        PublicKey::EC(point) => {
            let (Some(x), Some(y), 65) = (point.data().get(1..33), point.data().get(33..65), point.data().len()) else {
                return Err(bad("only the curve P-256 is supported for ES256".to_owned()));
            };
            let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
            let key = DecodingKey::from_ec_components(&x, &y).map_err(|e| bad(e.to_string()))?;
            let jwk = json!({"use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256", "x": x, "y": y});
            Ok(VerificationKey { id, algorithm: Algorithm::ES256, key, jwk })
        }
        PublicKey::RSA(rsa) => {
            let trim = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(&bytes[bytes.iter().take_while(|b| **b == 0).count()..]);
            let (n, e) = (trim(rsa.modulus), trim(rsa.exponent));
            let key = DecodingKey::from_rsa_components(&n, &e).map_err(|e| bad(e.to_string()))?;
            let jwk = json!({"use": "sig", "kty": "RSA", "kid": id, "alg": "RS256", "n": n, "e": e});
            Ok(VerificationKey { id, algorithm: Algorithm::RS256, key, jwk })
        }
        _ => Err(bad("only EC P-256 and RSA keys are supported".to_owned())),
    }
}
