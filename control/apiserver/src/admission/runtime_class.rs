//! RuntimeClass: a Pod's overhead and where it can run come from the class it names.

use std::sync::Arc;

use orlop_api::status::Status;
use serde_json::Value;

use super::fields::{list_at, list_mut, object_mut, str_at};
use super::{AdmissionPlugin, AdmissionRequest};
use crate::reader::ObjectReader;

pub(super) struct RuntimeClass {
    reader: Arc<dyn ObjectReader>,
}

impl RuntimeClass {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }
}

#[async_trait::async_trait]
impl AdmissionPlugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !request.creates("", "pods") {
            return Ok(());
        }
        let Some(pod) = request.new_object() else { return Ok(()) };
        let wanted = str_at(pod, "/spec/runtimeClassName").to_owned();
        let said = pod.pointer("/spec/overhead").filter(|o| o.as_object().is_some_and(|m| !m.is_empty())).cloned();
        if wanted.is_empty() {
            if said.is_some() {
                return Err(request.forbid("pod rejected: Pod Overhead set without corresponding RuntimeClass"));
            }
            return Ok(());
        }
        let Some(class) = self.reader.get("node.k8s.io", "runtimeclasses", None, &wanted) else {
            return Err(request.forbid(format!("pod rejected: RuntimeClass {wanted:?} not found")));
        };
        let overhead = class.pointer("/overhead/podFixed").filter(|o| o.is_object()).cloned();
        if said.is_some() && said != overhead {
            return Err(request.forbid("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"));
        }
        let selector = class.pointer("/scheduling/nodeSelector").and_then(Value::as_object);
        for (key, value) in selector.into_iter().flatten() {
            let own = request.new_object().and_then(|p| p.get("spec")?.get("nodeSelector")?.get(key));
            if own.is_some_and(|o| o != value) {
                return Err(request.forbid(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    value.as_str().unwrap_or_default(),
                    own.and_then(Value::as_str).unwrap_or_default()
                )));
            }
        }
        let Some(spec) = request.object.as_deref_mut().and_then(|p| object_mut(p, "spec")) else { return Ok(()) };
        if let Some(overhead) = overhead {
            spec["overhead"] = overhead;
        }
        if let Some(selector) = selector.filter(|s| !s.is_empty())
            && let Some(own) = object_mut(spec, "nodeSelector")
        {
            selector.iter().for_each(|(k, v)| own[k] = v.clone());
        }
        let tolerations = list_at(&class, "/scheduling/tolerations");
        if !tolerations.is_empty()
            && let Some(own) = list_mut(spec, "tolerations")
        {
            let missing: Vec<Value> = tolerations.iter().filter(|t| !own.contains(t)).cloned().collect();
            own.extend(missing);
        }
        Ok(())
    }
}
