//! Who is asking.
//!
//! Order of the authenticators, upstream's: request header (front proxy), client certificate,
//! bearer token, anonymous. A credential that is there and wrong is 401; none at all is anonymous.

pub mod impersonation;
pub mod reviews;
pub mod token_request;
pub mod tokens;
pub mod x509;

use std::collections::BTreeMap;
use std::sync::Arc;

use orlop_api::status::Status;
use rustls_pki_types::CertificateDer;

use crate::reader::ObjectReader;
use tokens::TokenIssuer;

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

/// Turns a request's credentials into a [`UserInfo`].
pub struct Authenticator {
    config: AuthnConfig,
    reader: Arc<dyn ObjectReader>,
}

impl Authenticator {
    #[must_use]
    pub fn new(config: AuthnConfig, reader: Arc<dyn ObjectReader>) -> Self {
        Self { config, reader }
    }

    /// `peer_certs`: the chain that the TLS client showed, leaf first, its possession of the key
    /// proved by the handshake, the chain itself not yet verified (see [`x509::client_cert_requester`]).
    pub fn authenticate(
        &self,
        parts: &http::request::Parts,
        peer_certs: Option<&[CertificateDer<'_>]>,
    ) -> Result<Arc<UserInfo>, Status> {
        let _ = (parts, peer_certs, &self.config, &self.reader);
        Err(crate::admission::reject::unauthorized())
    }
}
