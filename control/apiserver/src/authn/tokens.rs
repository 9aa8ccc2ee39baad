//! Service account tokens: JWTs that we sign and check.

use serde_json::Value;

use super::Clock;

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{what} is not a usable key: {detail}")]
    Key { what: String, detail: String },
}

#[derive(Clone)]
pub struct TokenIssuerConfig {
    /// `--service-account-issuer`, e.g. `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// `--api-audiences`; the issuer where empty.
    pub api_audiences: Vec<String>,
    /// PEM of the private key (EC P-256 or RSA) that signs.
    pub signing_key_pem: String,
    /// PEM of further public keys that verify only (rotation).
    pub verification_keys_pem: Vec<String>,
    pub clock: Clock,
}

/// Signs and verifies.
pub struct TokenIssuer {
    config: TokenIssuerConfig,
}

impl TokenIssuer {
    pub fn new(config: TokenIssuerConfig) -> Result<Self, TokenError> {
        Ok(Self { config })
    }

    /// `/.well-known/openid-configuration`.
    #[must_use]
    pub fn openid_configuration(&self) -> Value {
        Value::Null
    }

    /// `/openid/v1/jwks`.
    #[must_use]
    pub fn jwks(&self) -> Value {
        Value::Null
    }
}
