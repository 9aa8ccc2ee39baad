//! DefaultStorageClass and DefaultIngressClass: the class of those who name none.

use std::sync::Arc;

use orlop_api::status::Status;
use serde_json::Value;

use super::fields::{annotation, name, str_at};
use super::{AdmissionPlugin, AdmissionRequest};
use crate::reader::{Object, ObjectReader};

/// The newest class with a true annotation; of equally old ones the first by name.
fn default_of(classes: Vec<Object>, keys: &[&str]) -> Option<Object> {
    let mut marked: Vec<Object> =
        classes.into_iter().filter(|c| keys.iter().any(|k| annotation(c, k) == Some("true"))).collect();
    marked.sort_by(|a, b| {
        let created = |o: &Object| str_at(o, "/metadata/creationTimestamp").to_owned();
        created(b).cmp(&created(a)).then_with(|| name(a).cmp(name(b)))
    });
    marked.into_iter().next()
}

pub(super) struct DefaultStorageClass {
    reader: Arc<dyn ObjectReader>,
}

impl DefaultStorageClass {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }
}

#[async_trait::async_trait]
impl AdmissionPlugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !request.creates("", "persistentvolumeclaims") {
            return Ok(());
        }
        let Some(claim) = request.object.as_deref_mut() else { return Ok(()) };
        // An empty string is an answer too: no class at all.
        let named = claim.pointer("/spec/storageClassName").is_some_and(|c| !c.is_null())
            || annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some();
        if named || !claim.get("spec").is_some_and(Value::is_object) {
            return Ok(());
        }
        let keys = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        if let Some(class) = default_of(self.reader.list("storage.k8s.io", "storageclasses", None), &keys) {
            claim["spec"]["storageClassName"] = name(&class).into();
        }
        Ok(())
    }
}

pub(super) struct DefaultIngressClass {
    reader: Arc<dyn ObjectReader>,
}

impl DefaultIngressClass {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }
}

#[async_trait::async_trait]
impl AdmissionPlugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !request.creates("networking.k8s.io", "ingresses") {
            return Ok(());
        }
        let Some(ingress) = request.object.as_deref_mut() else { return Ok(()) };
        let named = ingress.pointer("/spec/ingressClassName").is_some_and(|c| !c.is_null())
            || annotation(ingress, "kubernetes.io/ingress.class").is_some();
        if named || !ingress.get("spec").is_some_and(Value::is_object) {
            return Ok(());
        }
        let keys = ["ingressclass.kubernetes.io/is-default-class"];
        if let Some(class) = default_of(self.reader.list("networking.k8s.io", "ingressclasses", None), &keys) {
            ingress["spec"]["ingressClassName"] = name(&class).into();
        }
        Ok(())
    }
}
