//! Authentication by certificate or token, authorization by the API server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::identity::User;

/// `authentication.webhook.cacheTTL`.
const TOKEN_TTL: Duration = Duration::from_secs(120);
/// `authorization.webhook.cacheAuthorizedTTL` and `cacheUnauthorizedTTL`.
const ALLOW_TTL: Duration = Duration::from_secs(300);
const DENY_TTL: Duration = Duration::from_secs(30);
/// Answers kept; an unauthenticated flood of tokens can't grow past it.
const MAX_CACHED: usize = 1024;
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What somebody wants to do: `verb` on `nodes/<subresource>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Access {
    pub(super) verb: &'static str,
    /// Any of these is enough: the fine-grained one first, then the coarse one (KEP-2862).
    pub(super) subresources: &'static [&'static str],
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unauthorized,
    Forbidden(String),
    /// The API server could not be asked.
    Unavailable(String),
}

/// Decides on every request.
pub(super) struct Gate {
    node_name: String,
    client: Option<kube::Client>,
    tokens: Cache<[u8; 32], Option<Arc<User>>>,
    decisions: Cache<(User, &'static str, &'static str), bool>,
}

impl Gate {
    pub(super) fn new(node_name: String, client: Option<kube::Client>) -> Self {
        Self { node_name, client, tokens: Cache::new(), decisions: Cache::new() }
    }

    /// Lets the request pass, or says why not.
    pub(super) async fn admit(
        &self,
        certificate: Option<Arc<User>>,
        headers: &HeaderMap,
        access: &Access,
    ) -> Result<Arc<User>, Refusal> {
        let user = match certificate {
            Some(user) => user,
            None => self.by_token(headers).await?,
        };
        self.authorize(&user, access).await?;
        Ok(user)
    }

    async fn by_token(&self, headers: &HeaderMap) -> Result<Arc<User>, Refusal> {
        let header = headers.get(http::header::AUTHORIZATION).and_then(|h| h.to_str().ok());
        let token = header.and_then(|h| h.strip_prefix("Bearer ")).map(str::trim);
        let (Some(token), Some(client)) = (token, &self.client) else { return Err(Refusal::Unauthorized) };
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Unauthorized);
        }
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.tokens.get(&key) {
            return known.ok_or(Refusal::Unauthorized);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(client.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(|e| unavailable(&e))?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|info| {
            Arc::new(User {
                name: info.username.unwrap_or_default(),
                uid: info.uid.unwrap_or_default(),
                groups: info.groups.unwrap_or_default(),
                extra: info.extra.unwrap_or_default(),
            })
        });
        let user = user.filter(|u| !u.name.is_empty());
        self.tokens.put(key, user.clone(), if user.is_some() { TOKEN_TTL } else { DENY_TTL });
        user.ok_or(Refusal::Unauthorized)
    }

    async fn authorize(&self, user: &User, access: &Access) -> Result<(), Refusal> {
        if user.is_master() {
            return Ok(());
        }
        let Some(client) = &self.client else { return Err(self.forbidden(user, access)) };
        for subresource in access.subresources {
            let key = (user.clone(), access.verb, *subresource);
            let allowed = match self.decisions.get(&key) {
                Some(allowed) => allowed,
                None => {
                    let allowed = self.ask(client, user, access.verb, subresource).await?;
                    self.decisions.put(key, allowed, if allowed { ALLOW_TTL } else { DENY_TTL });
                    allowed
                }
            };
            if allowed {
                return Ok(());
            }
        }
        Err(self.forbidden(user, access))
    }

    async fn ask(&self, client: &kube::Client, user: &User, verb: &str, subresource: &str) -> Result<bool, Refusal> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: Some(user.uid.clone()).filter(|u| !u.is_empty()),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()).filter(|e| !e.is_empty()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(self.node_name.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(client.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(|e| unavailable(&e))?;
        Ok(answer.status.is_some_and(|s| s.allowed && s.denied != Some(true)))
    }

    fn forbidden(&self, user: &User, access: &Access) -> Refusal {
        Refusal::Forbidden(format!(
            "Forbidden (user={}, verb={}, resource=nodes, subresource(s)=[{}])",
            user.name,
            access.verb,
            access.subresources.join(" ")
        ))
    }
}

fn unavailable(error: &kube::Error) -> Refusal {
    Refusal::Unavailable(format!("the API server could not be asked: {error}"))
}

/// The access that a request needs. Whatever runs something in a container needs `create`, also when WebSockets make it
/// a GET: `get nodes/proxy` alone must not be a shell.
pub(super) fn access_of(method: &Method, path: &str) -> Access {
    let verb = match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let (verb, subresources): (_, &[&str]) = match first {
        "exec" | "attach" | "portForward" | "run" => ("create", &["proxy"]),
        "pods" | "runningpods" => (verb, &["pods", "proxy"]),
        "healthz" => (verb, &["healthz", "proxy"]),
        "configz" => (verb, &["configz", "proxy"]),
        "stats" => (verb, &["stats"]),
        "metrics" => (verb, &["metrics"]),
        "logs" => (verb, &["log"]),
        "checkpoint" => (verb, &["checkpoint"]),
        _ => (verb, &["proxy"]),
    };
    Access { verb, subresources }
}

/// A bounded map whose entries expire.
struct Cache<K, V> {
    entries: Mutex<BTreeMap<K, (Instant, V)>>,
}

impl<K: Ord + Clone, V: Clone> Cache<K, V> {
    fn new() -> Self {
        Self { entries: Mutex::default() }
    }

    fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(until, _)| Instant::now() < *until).map(|(_, value)| value.clone())
    }

    fn put(&self, key: K, value: V, ttl: Duration) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if entries.len() >= MAX_CACHED {
            entries.retain(|_, (until, _)| now < *until);
        }
        if entries.len() >= MAX_CACHED
            && let Some(first) = entries.iter().min_by_key(|(_, (until, _))| *until).map(|(k, _)| k.clone())
        {
            entries.remove(&first);
        }
        entries.insert(key, (now + ttl, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_need_their_own_subresources() {
        let check = |method: Method, path: &str, verb: &str, subresources: &[&str]| {
            let access = access_of(&method, path);
            assert_eq!((access.verb, access.subresources), (verb, subresources), "{method} {path}");
        };
        check(Method::GET, "/pods", "get", &["pods", "proxy"]);
        check(Method::GET, "/runningpods/", "get", &["pods", "proxy"]);
        check(Method::GET, "/metrics/cadvisor", "get", &["metrics"]);
        check(Method::GET, "/stats/summary", "get", &["stats"]);
        check(Method::GET, "/containerLogs/a/b/c", "get", &["proxy"]);
        check(Method::GET, "/exec/a/b/c", "create", &["proxy"]);
        check(Method::POST, "/run/a/b/c", "create", &["proxy"]);
        check(Method::GET, "/healthz/ping", "get", &["healthz", "proxy"]);
        check(Method::GET, "/podsx", "get", &["proxy"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_expires_and_is_bounded() {
        let cache: Cache<usize, bool> = Cache::new();
        cache.put(0, true, Duration::from_secs(10));
        assert_eq!(cache.get(&0), Some(true));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(cache.get(&0), None);
        for i in 0..3 * MAX_CACHED {
            cache.put(i, true, Duration::from_secs(10));
        }
        assert!(cache.entries.lock().unwrap().len() <= MAX_CACHED);
    }
}
