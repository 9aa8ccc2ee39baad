//! Service account tokens of pods, asked for by TokenRequest and renewed in time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use tokio::time::Instant;

use super::{ObjectError, TokenSpec, bounded};

/// A token is renewed after this long even if it lives longer.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Spread of renewals, so that all pods of a node don't ask in the same second.
const MAX_JITTER_S: u64 = 10;

struct Token {
    token: String,
    renew_at: Instant,
    expires_at: Instant,
}

/// Tokens by pod UID and specification.
pub(super) struct TokenCache {
    tokens: Mutex<BTreeMap<(String, TokenSpec), Token>>,
}

impl TokenCache {
    pub(super) fn new() -> Self {
        Self { tokens: Mutex::default() }
    }

    pub(super) async fn get(
        &self,
        client: &kube::Client,
        pod: &Pod,
        namespace: &str,
        account: &str,
        spec: &TokenSpec,
    ) -> Result<String, ObjectError> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let key = (uid.clone(), spec.clone());
        let (kept, fresh) = match self.lock().get(&key) {
            Some(token) => {
                let now = Instant::now();
                (Some(token.token.clone()).filter(|_| now < token.expires_at), now < token.renew_at)
            }
            None => (None, false),
        };
        if let Some(token) = kept.clone().filter(|_| fresh) {
            return Ok(token);
        }
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(if spec.audience.is_empty() { Vec::new() } else { vec![spec.audience.clone()] }),
                expiration_seconds: Some(spec.expiration_s),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: Some(uid),
                }),
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let params = PostParams::default();
        let call = api.create_token_request(account, &params, &request);
        let answer = bounded("serviceaccount", namespace, account, call).await;
        match answer {
            Ok(answer) => {
                let life_s = answer.spec.and_then(|s| s.expiration_seconds).unwrap_or(spec.expiration_s);
                let token = answer.status.and_then(|s| s.token).filter(|t| !t.is_empty());
                let token = token.ok_or_else(|| ObjectError::Api {
                    kind: "serviceaccount",
                    namespace: namespace.to_owned(),
                    name: account.to_owned(),
                    message: "the TokenRequest came back without a token".to_owned(),
                })?;
                self.keep(key, token.clone(), life_s);
                Ok(token)
            }
            // A token that still holds serves while the API server is away.
            Err(error) => match kept {
                Some(token) => {
                    tracing::warn!(%error, namespace, account, "could not renew a service account token");
                    Ok(token)
                }
                None => Err(error),
            },
        }
    }

    fn keep(&self, key: (String, TokenSpec), token: String, life_s: i64) {
        let now = Instant::now();
        let life = Duration::from_secs(u64::try_from(life_s).unwrap_or(0));
        let jitter = Duration::from_secs(rand::random_range(0..=MAX_JITTER_S));
        let renew_in = life.mul_f64(0.8).min(MAX_AGE).saturating_sub(jitter);
        self.lock().insert(key, Token { token, renew_at: now + renew_in, expires_at: now + life });
    }

    pub(super) fn forget_pod(&self, uid: &str) {
        self.lock().retain(|(owner, _), _| owner != uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, TokenSpec), Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
