//! Priority: a Pod's number comes from its PriorityClass; only one class is the default.

use std::sync::Arc;

use orlop_api::status::Status;
use serde_json::Value;

use super::fields::{bool_at, name, str_at};
use super::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::reader::{Object, ObjectReader};

const GROUP: &str = "scheduling.k8s.io";
const CLASSES: &str = "priorityclasses";

pub(super) struct Priority {
    reader: Arc<dyn ObjectReader>,
}

impl Priority {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }

    /// Of several defaults (possible only by a race) the smallest counts, as upstream.
    fn default_class(&self) -> Option<Object> {
        let classes = self.reader.list(GROUP, CLASSES, None);
        classes.into_iter().filter(|c| bool_at(c, "/globalDefault")).min_by_key(|c| value(c))
    }

    fn set_priority(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(pod) = request.new_object().filter(|p| p.get("spec").is_some_and(Value::is_object)) else {
            return Ok(());
        };
        let wanted = str_at(pod, "/spec/priorityClassName").to_owned();
        let class = if wanted.is_empty() {
            self.default_class()
        } else {
            let found = self.reader.get(GROUP, CLASSES, None, &wanted);
            Some(found.ok_or_else(|| request.forbid(format!("no PriorityClass with name {wanted} was found")))?)
        };
        let computed = class.as_deref().map(value).unwrap_or_default();
        let policy = class.as_deref().map(|c| str_at(c, "/preemptionPolicy")).filter(|p| !p.is_empty());
        let policy = policy.unwrap_or("PreemptLowerPriority");
        if let Some(given) = pod.pointer("/spec/priority").and_then(Value::as_i64)
            && given != computed
        {
            return Err(request.forbid(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
            )));
        }
        let given = str_at(pod, "/spec/preemptionPolicy");
        if !given.is_empty() && given != policy {
            return Err(request.forbid(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        if let Some(pod) = request.object.as_deref_mut() {
            if let (true, Some(class)) = (wanted.is_empty(), &class) {
                pod["spec"]["priorityClassName"] = name(class).into();
            }
            pod["spec"]["priority"] = computed.into();
            pod["spec"]["preemptionPolicy"] = policy.into();
        }
        Ok(())
    }
}

fn value(class: &Value) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or_default()
}

#[async_trait::async_trait]
impl AdmissionPlugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if request.creates("", "pods") {
            return self.set_priority(request);
        }
        // An update that leaves the number out keeps it.
        if request.operation == Operation::Update && request.is("", "pods") && request.subresource.is_empty() {
            let old =
                request.old_object.map(|o| (o["spec"]["priority"].clone(), o["spec"]["preemptionPolicy"].clone()));
            if let (Some(pod), Some((priority, policy))) = (request.object.as_deref_mut(), old) {
                for (key, kept) in [("priority", priority), ("preemptionPolicy", policy)] {
                    if pod["spec"].get(key).is_none_or(Value::is_null) && !kept.is_null() {
                        pod["spec"][key] = kept;
                    }
                }
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is(GROUP, CLASSES) {
            return Ok(());
        }
        let Some(class) = request.new_object().filter(|c| bool_at(c, "/globalDefault")) else { return Ok(()) };
        match self.default_class() {
            Some(other) if name(&other) != name(class) => Err(request.forbid(format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                name(&other)
            ))),
            _ => Ok(()),
        }
    }
}
