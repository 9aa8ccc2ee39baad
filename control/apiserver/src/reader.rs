//! What authentication, authorization and admission may see of the stored objects: reads from the
//! watch caches, never the store itself.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

/// A live object: the decoded JSON, shared and never copied per reader.
pub type Object = Arc<Value>;

/// Cached, synchronous reads, keyed by (API group, plural resource): `("", "pods")`, `("apps", "deployments")`.
#[async_trait]
pub trait ObjectReader: Send + Sync {
    fn get(&self, group: &str, resource: &str, namespace: Option<&str>, name: &str) -> Option<Object>;
    /// `namespace: None` is all namespaces.
    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Object>;
    /// Changes whenever any object of the resource changes; for callers that keep an index of their own.
    fn revision(&self, group: &str, resource: &str) -> u64;
    /// Create, bypassing admission and authorization (bootstrap objects, allocators). `AlreadyExists` is an error Status.
    async fn create(&self, group: &str, resource: &str, object: Value) -> Result<Object, orlop_api::status::Status>;
    /// Update with optimistic concurrency by `metadata.resourceVersion` where it is set.
    async fn update(&self, group: &str, resource: &str, object: Value) -> Result<Object, orlop_api::status::Status>;
    async fn delete(
        &self,
        group: &str,
        resource: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<(), orlop_api::status::Status>;
}
