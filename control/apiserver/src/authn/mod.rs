//! Who is asking.
//!
//! Order of the authenticators, upstream's: request header (front proxy), client certificate,
//! bearer token, anonymous. A credential that is there and wrong is 401; none at all is anonymous.

pub mod impersonation;
mod keys;
mod memo;
mod request_header;
pub mod reviews;
pub mod token_request;
pub mod tokens;
pub mod x509;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use orlop_api::status::Status;
use rustls_pki_types::CertificateDer;

use crate::reader::ObjectReader;
use tokens::{TokenError, TokenIssuer};
use x509::ChainVerifier;

/// WebSocket subprotocol that carries a bearer token, base64url after the last dot.
const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// The authenticated caller (upstream `user.Info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    pub const ANONYMOUS: &'static str = "system:anonymous";
    pub const MASTERS: &'static str = "system:masters";
    pub const AUTHENTICATED: &'static str = "system:authenticated";
    pub const UNAUTHENTICATED: &'static str = "system:unauthenticated";

    /// A caller with a name and groups; `system:authenticated` is added.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        groups.push(Self::AUTHENTICATED.to_owned());
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// The caller without any credential.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: Self::ANONYMOUS.to_owned(), groups: vec![Self::UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    #[must_use]
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// Source of wall-clock time, passed in so that tests decide what is expired.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Front proxy (aggregated API servers' way of passing the user on), upstream `--requestheader-*`.
#[derive(Clone, Debug)]
pub struct RequestHeaderConfig {
    /// CAs that sign front proxies; never used for ordinary client certificates.
    pub ca: Vec<CertificateDer<'static>>,
    /// Allowed common names; empty allows all.
    pub allowed_names: Vec<String>,
}

/// What [`Authenticator::new`] needs.
#[derive(Clone)]
pub struct AuthnConfig {
    /// CAs of client certificates (`--client-ca-file`).
    pub client_ca: Vec<CertificateDer<'static>>,
    pub request_header: Option<RequestHeaderConfig>,
    /// Signs and checks service account tokens.
    pub tokens: Arc<TokenIssuer>,
    /// `--anonymous-auth`.
    pub anonymous: bool,
    pub clock: Clock,
}

/// Why a credential was refused. Goes to the log; the client only reads `Unauthorized`.
#[derive(Debug, thiserror::Error)]
pub enum AuthnError {
    #[error("client certificate")]
    Certificate(#[from] x509::CertificateError),
    #[error("bearer token")]
    Token(#[from] TokenError),
}

/// Turns a request's credentials into a [`UserInfo`].
pub struct Authenticator {
    config: AuthnConfig,
    reader: Arc<dyn ObjectReader>,
    client_ca: Option<ChainVerifier>,
    front_proxy_ca: Option<ChainVerifier>,
}

impl Authenticator {
    /// Fails when a CA bundle is not usable.
    pub fn new(config: AuthnConfig, reader: Arc<dyn ObjectReader>) -> Result<Self, AuthnError> {
        let verifier = |ca: &[CertificateDer<'static>]| (!ca.is_empty()).then(|| ChainVerifier::new(ca)).transpose();
        let client_ca = verifier(&config.client_ca)?;
        let front_proxy_ca = match &config.request_header {
            Some(front) => verifier(&front.ca)?,
            None => None,
        };
        Ok(Self { config, reader, client_ca, front_proxy_ca })
    }

    /// `peer_certs`: the chain that the TLS client showed, leaf first, its possession of the key
    /// proved by the handshake, the chain itself not yet verified (see [`x509::client_cert_requester`]).
    pub fn authenticate(
        &self,
        parts: &http::request::Parts,
        peer_certs: Option<&[CertificateDer<'_>]>,
    ) -> Result<Arc<UserInfo>, Status> {
        let chain = peer_certs.unwrap_or_default();
        if let Some(user) = self.front_proxy_user(&parts.headers, chain) {
            return Ok(Arc::new(user));
        }
        let mut refused = None;
        if !chain.is_empty() {
            match self.certificate_user(chain) {
                Ok(user) => return Ok(Arc::new(with_authenticated(user))),
                Err(error) => refused = Some(error),
            }
        }
        if let Some(token) = bearer_token(&parts.headers) {
            match self.authenticate_token(&token, &[]) {
                Ok((user, _)) => return Ok(Arc::new(user)),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            None if self.config.anonymous => Ok(Arc::new(UserInfo::anonymous())),
            None => Err(Status::unauthorized()),
            Some(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::debug!(%error, cause, "unable to authenticate the request");
                Err(Status::unauthorized())
            }
        }
    }

    /// The user of a bearer token, and which of `audiences` (empty: this server's) it is good for.
    pub fn authenticate_token(&self, token: &str, audiences: &[String]) -> Result<(UserInfo, Vec<String>), AuthnError> {
        let verified = self.config.tokens.verify(token, audiences, self.reader.as_ref())?;
        Ok((with_authenticated(verified.user), verified.audiences))
    }

    fn certificate_user(&self, chain: &[CertificateDer<'_>]) -> Result<UserInfo, AuthnError> {
        let verifier = self.client_ca.as_ref().ok_or(x509::CertificateError::Missing)?;
        let subject = verifier.verify(chain, (self.config.clock)())?;
        Ok(x509::user(&subject)?)
    }

    fn front_proxy_user(&self, headers: &http::HeaderMap, chain: &[CertificateDer<'_>]) -> Option<UserInfo> {
        let (front, verifier) = (self.config.request_header.as_ref()?, self.front_proxy_ca.as_ref()?);
        if chain.is_empty() || !headers.contains_key("x-remote-user") {
            return None;
        }
        let subject = verifier.verify(chain, (self.config.clock)()).ok()?;
        if !front.allowed_names.is_empty() && !front.allowed_names.contains(&subject.common_name) {
            return None;
        }
        request_header::user(headers).map(with_authenticated)
    }
}

/// Everybody whom a credential proved is in `system:authenticated`, once.
fn with_authenticated(mut user: UserInfo) -> UserInfo {
    if !user.in_group(UserInfo::AUTHENTICATED) && !user.in_group(UserInfo::UNAUTHENTICATED) {
        user.groups.push(UserInfo::AUTHENTICATED.to_owned());
    }
    user
}

/// The token of `Authorization: Bearer T`, or the one that a browser's WebSocket can only send as a
/// subprotocol; other schemes are no credential of ours.
fn bearer_token(headers: &http::HeaderMap) -> Option<Cow<'_, str>> {
    if let Some(value) = headers.get(http::header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(Cow::Borrowed(token));
    }
    let offered = headers.get(http::header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let encoded = offered.split(',').find_map(|p| p.trim().strip_prefix(WEBSOCKET_TOKEN))?;
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok().filter(|t| !t.is_empty()).map(Cow::Owned)
}

#[cfg(test)]
mod tests;
