//! ConfigMaps, Secrets and service account tokens that pods on this node refer to.
//!
//! A kubelet is `system:node:NAME` under the Node authorizer: it may read only single objects
//! that a pod bound to it refers to, so everything here is asked for by name, never listed.

mod cache;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;

use cache::ObjectCache;
use tokens::TokenCache;

/// How long an answer serves before it is asked for again. Pods are synced every minute: each sync sees a fresh one.
const TTL: Duration = Duration::from_secs(20);
/// An API server that does not answer must not hold a pod's worker for good.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Objects kept at most, of each kind.
const MAX_CACHED: usize = 2048;

/// Why an object that a pod refers to could not be had.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ObjectError {
    /// The object does not exist; `optional` references pass over it.
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, namespace: String, name: String },
    /// There is no API server: a standalone kubelet has no objects.
    #[error("{kind} \"{namespace}/{name}\" needs an API server, and this kubelet runs standalone")]
    Standalone { kind: &'static str, namespace: String, name: String },
    /// The API server refused or did not answer.
    #[error("failed to get {kind} \"{namespace}/{name}\": {message}")]
    Api { kind: &'static str, namespace: String, name: String, message: String },
}

impl ObjectError {
    /// True when the API server said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// What a service account token is asked for: the fields of `serviceAccountToken` projections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenSpec {
    /// Intended audience; empty means the API server's own.
    pub audience: String,
    /// Asked life time, seconds; the API server may shorten it.
    pub expiration_s: i64,
}

/// Reads the objects that pods refer to, with a bounded cache.
pub struct ObjectManager {
    client: Option<kube::Client>,
    config_maps: ObjectCache<ConfigMap>,
    secrets: ObjectCache<Secret>,
    tokens: TokenCache,
}

impl ObjectManager {
    /// `client` is none for a standalone kubelet.
    pub fn new(client: Option<kube::Client>) -> Self {
        Self {
            client,
            config_maps: ObjectCache::new(TTL, MAX_CACHED),
            secrets: ObjectCache::new(TTL, MAX_CACHED),
            tokens: TokenCache::new(),
        }
    }

    pub async fn get_config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, ObjectError> {
        let client = self.client("configmap", namespace, name)?;
        self.config_maps
            .get(namespace, name, async || {
                let api: Api<ConfigMap> = Api::namespaced(client, namespace);
                bounded("configmap", namespace, name, api.get(name)).await
            })
            .await
    }

    pub async fn get_secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, ObjectError> {
        let client = self.client("secret", namespace, name)?;
        self.secrets
            .get(namespace, name, async || {
                let api: Api<Secret> = Api::namespaced(client, namespace);
                bounded("secret", namespace, name, api.get(name)).await
            })
            .await
    }

    /// A token of the pod's service account, bound to the pod; renewed at 80 % of its life or after a day.
    pub async fn service_account_token(&self, pod: &Pod, spec: &TokenSpec) -> Result<String, ObjectError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
        let client = self.client("serviceaccount", namespace, account)?;
        self.tokens.get(&client, pod, namespace, account, spec).await
    }

    /// Drops what is cached for this pod only: its tokens.
    pub fn forget_pod(&self, uid: &str) {
        self.tokens.forget_pod(uid);
    }

    fn client(&self, kind: &'static str, namespace: &str, name: &str) -> Result<kube::Client, ObjectError> {
        self.client.clone().ok_or_else(|| ObjectError::Standalone {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        })
    }
}

/// Runs one request within [`REQUEST_LIMIT`].
async fn bounded<T>(
    kind: &'static str,
    namespace: &str,
    name: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ObjectError> {
    match tokio::time::timeout(REQUEST_LIMIT, request).await {
        Ok(answer) => answer.map_err(|error| api_error(kind, namespace, name, &error)),
        Err(_) => Err(ObjectError::Api {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            message: "the API server did not answer in time".to_owned(),
        }),
    }
}

fn api_error(kind: &'static str, namespace: &str, name: &str, error: &kube::Error) -> ObjectError {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    match error {
        kube::Error::Api(status) if status.code == 404 => ObjectError::NotFound { kind, namespace, name },
        kube::Error::Api(status) => ObjectError::Api { kind, namespace, name, message: status.message.clone() },
        other => ObjectError::Api { kind, namespace, name, message: other.to_string() },
    }
}
