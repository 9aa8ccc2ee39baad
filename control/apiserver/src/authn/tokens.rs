//! Service account tokens: JWTs that we sign and check, upstream's claims (`pkg/serviceaccount/claims.go`).

use std::sync::Arc;

use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::keys::{SigningKey, VerificationKey, signing_key, verification_key};
use super::memo::Memo;
use super::{Clock, UserInfo};
use crate::admission::fields::{str_at, uid};
use crate::reader::ObjectReader;

/// Projected tokens of this life are extended to a year and marked, so that clients that never
/// re-read their token go on working (upstream BoundServiceAccountTokenVolume migration).
pub const WARN_ONLY_EXPIRATION_S: i64 = 60 * 60 + 7;
/// What they are extended to.
pub const EXTENDED_EXPIRATION_S: i64 = 365 * 24 * 60 * 60;
/// Tolerated difference between clocks.
const LEEWAY_S: i64 = 60;
/// A JWT longer than this is refused unread.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{what} is not usable: {detail}")]
    Key { what: String, detail: String },
    #[error("the token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
    #[error("the token is no JWT of ours: {0}")]
    Malformed(&'static str),
    #[error("the token's signature is invalid")]
    Signature,
    #[error("token audiences {found:?} is invalid for the target audiences {wanted:?}")]
    Audience { found: Vec<String>, wanted: Vec<String> },
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYetValid,
    #[error("service account {0} not found")]
    NoServiceAccount(String),
    #[error("{kind} UID ({live}) does not match the token's claim ({claimed})")]
    Uid { kind: &'static str, live: String, claimed: String },
    #[error("service account token has been invalidated: bound {0} is gone")]
    Invalidated(String),
}

#[derive(Clone)]
pub struct TokenIssuerConfig {
    /// `--service-account-issuer`, e.g. `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// `--api-audiences`; the issuer where empty.
    pub api_audiences: Vec<String>,
    /// PEM of the private key (EC P-256) that signs.
    pub signing_key_pem: String,
    /// PEM of further public keys (EC P-256 or RSA) that verify only (rotation).
    pub verification_keys_pem: Vec<String>,
    pub clock: Clock,
}

/// A name and UID in the private claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The `kubernetes.io` claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaims {
    #[serde(default)]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<ObjectRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectRef>,
    #[serde(default)]
    pub serviceaccount: ObjectRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// All claims of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    pub exp: i64,
    #[serde(default)]
    pub iat: i64,
    pub iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(rename = "kubernetes.io", default)]
    pub kubernetes: KubernetesClaims,
    #[serde(default)]
    pub nbf: i64,
    pub sub: String,
}

/// RFC 7519 lets `aud` be one string or a list.
fn one_or_many<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Aud {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Aud::deserialize(d)? {
        Aud::One(a) => vec![a],
        Aud::Many(a) => a,
    })
}

/// What a good token says.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    pub user: UserInfo,
    /// The asked audiences that the token is good for.
    pub audiences: Vec<String>,
}

/// Signs and verifies.
pub struct TokenIssuer {
    config: TokenIssuerConfig,
    signing: SigningKey,
    others: Vec<VerificationKey>,
    /// Claims whose signature was checked; times and bound objects are checked on every use.
    verified: Memo<Arc<Claims>>,
}

impl TokenIssuer {
    pub fn new(mut config: TokenIssuerConfig) -> Result<Self, TokenError> {
        if config.api_audiences.is_empty() {
            config.api_audiences = vec![config.issuer.clone()];
        }
        let signing = signing_key(&config.signing_key_pem)?;
        let others = config
            .verification_keys_pem
            .iter()
            .map(|pem| verification_key(pem))
            .filter(|key| key.as_ref().map_or(true, |k| k.id != signing.public.id))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { config, signing, others, verified: Memo::new(1024) })
    }

    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// Audiences that identify this API server.
    #[must_use]
    pub fn api_audiences(&self) -> &[String] {
        &self.config.api_audiences
    }

    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        (self.config.clock)()
    }

    /// `/.well-known/openid-configuration`.
    #[must_use]
    pub fn openid_configuration(&self) -> Value {
        let mut algorithms: Vec<String> = self.keys().map(|k| format!("{:?}", k.algorithm)).collect();
        algorithms.sort();
        algorithms.dedup();
        json!({
            "issuer": self.config.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.config.issuer.trim_end_matches('/')),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }

    /// `/openid/v1/jwks` (media type `application/jwk-set+json`).
    #[must_use]
    pub fn jwks(&self) -> Value {
        json!({"keys": self.keys().map(|k| k.jwk.clone()).collect::<Vec<_>>()})
    }

    fn keys(&self) -> impl Iterator<Item = &VerificationKey> {
        std::iter::once(&self.signing.public).chain(&self.others)
    }

    /// The signed form of `claims`; `iss` is set here.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let mut header = Header::new(self.signing.public.algorithm);
        header.typ = None;
        header.kid = Some(self.signing.public.id.clone());
        let claims = Claims { iss: self.config.issuer.clone(), ..claims.clone() };
        jsonwebtoken::encode(&header, &claims, &self.signing.key).map_err(TokenError::Sign)
    }

    /// Whether `token` claims to be from this issuer (unverified): others may then be asked.
    #[must_use]
    pub fn is_ours(&self, token: &str) -> bool {
        token.len() <= MAX_TOKEN_BYTES && unverified_issuer(token).is_some_and(|iss| iss == self.config.issuer)
    }

    /// Signature, issuer, audience, times, and that everything it is bound to still lives.
    /// `audiences` empty: this API server's own.
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        reader: &dyn ObjectReader,
    ) -> Result<VerifiedToken, TokenError> {
        let claims = self.checked_signature(token)?;
        if claims.iss != self.config.issuer {
            return Err(TokenError::Malformed("another issuer"));
        }
        let wanted = if audiences.is_empty() { self.api_audiences() } else { audiences };
        let matched: Vec<String> = wanted.iter().filter(|a| claims.aud.contains(a)).cloned().collect();
        if matched.is_empty() {
            return Err(TokenError::Audience { found: claims.aud.clone(), wanted: wanted.to_vec() });
        }
        let now_s = self.now().as_second();
        check_times(&claims, now_s)?;
        check_bound_objects(&claims, now_s, reader)?;
        Ok(VerifiedToken { user: user(&claims), audiences: matched })
    }

    fn checked_signature(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed("too long"));
        }
        let memo_key = Memo::<Arc<Claims>>::key(&[token.as_bytes()]);
        if let Some(claims) = self.verified.get(&memo_key) {
            return Ok(claims);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed("bad header"))?;
        let candidates: Vec<&VerificationKey> = match &header.kid {
            Some(kid) => self.keys().filter(|k| k.id == *kid).collect(),
            None => self.keys().collect(),
        };
        // The key decides the algorithm, never the token's header alone.
        for key in candidates.into_iter().filter(|k| k.algorithm == header.alg) {
            let mut validation = Validation::new(key.algorithm);
            validation.validate_exp = false;
            validation.validate_nbf = false;
            validation.validate_aud = false;
            validation.required_spec_claims.clear();
            if let Ok(data) = jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
                let claims = Arc::new(data.claims);
                self.verified.put(memo_key, claims.clone());
                return Ok(claims);
            }
        }
        Err(TokenError::Signature)
    }
}

fn unverified_issuer(token: &str) -> Option<String> {
    use base64::Engine as _;
    let payload = token.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&bytes).ok()?;
    Some(str_at(&claims, "/iss").to_owned())
}

fn check_times(claims: &Claims, now_s: i64) -> Result<(), TokenError> {
    if now_s.saturating_sub(LEEWAY_S) > claims.exp {
        return Err(TokenError::Expired);
    }
    let starts = claims.nbf.max(claims.iat);
    if now_s.saturating_add(LEEWAY_S) < starts {
        return Err(TokenError::NotYetValid);
    }
    Ok(())
}

fn check_bound_objects(claims: &Claims, now_s: i64, reader: &dyn ObjectReader) -> Result<(), TokenError> {
    let k = &claims.kubernetes;
    let ns = k.namespace.as_str();
    let expected = format!("system:serviceaccount:{ns}:{}", k.serviceaccount.name);
    if ns.is_empty() || k.serviceaccount.name.is_empty() || claims.sub != expected {
        return Err(TokenError::Malformed("subject and service account differ"));
    }
    let account = reader
        .get("", "serviceaccounts", Some(ns), &k.serviceaccount.name)
        .ok_or_else(|| TokenError::NoServiceAccount(format!("{ns}/{}", k.serviceaccount.name)))?;
    check_alive("service account", &account, &k.serviceaccount, now_s)?;
    let mut bound = vec![("secret", "secrets", Some(ns), &k.secret), ("pod", "pods", Some(ns), &k.pod)];
    if k.pod.is_none() {
        // A pod-bound token only carries its node; the pod's life decides.
        bound.push(("node", "nodes", None, &k.node));
    }
    for (kind, resource, namespace, reference) in bound {
        let Some(reference) = reference else { continue };
        let live = reader
            .get("", resource, namespace, &reference.name)
            .ok_or_else(|| TokenError::Invalidated(format!("{kind} {:?}", reference.name)))?;
        check_alive(kind, &live, reference, now_s)?;
    }
    Ok(())
}

fn check_alive(kind: &'static str, live: &Value, claimed: &ObjectRef, now_s: i64) -> Result<(), TokenError> {
    if uid(live) != claimed.uid {
        return Err(TokenError::Uid { kind, live: uid(live).to_owned(), claimed: claimed.uid.clone() });
    }
    let deleted = str_at(live, "/metadata/deletionTimestamp");
    if let Ok(deleted) = deleted.parse::<jiff::Timestamp>()
        && deleted.as_second() < now_s - LEEWAY_S
    {
        return Err(TokenError::Invalidated(format!("{kind} {:?}", claimed.name)));
    }
    Ok(())
}

/// Groups that every service account of a namespace is in.
#[must_use]
pub fn service_account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

fn user(claims: &Claims) -> UserInfo {
    let k = &claims.kubernetes;
    let mut user = UserInfo {
        name: claims.sub.clone(),
        uid: k.serviceaccount.uid.clone(),
        groups: service_account_groups(&k.namespace),
        ..UserInfo::default()
    };
    let mut extra = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    for (what, reference) in [("pod", &k.pod), ("node", &k.node)] {
        if let Some(reference) = reference {
            extra(&format!("{what}-name"), &reference.name);
            extra(&format!("{what}-uid"), &reference.uid);
        }
    }
    user
}
