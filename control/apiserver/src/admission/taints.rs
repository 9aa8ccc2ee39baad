//! TaintNodesByCondition and DefaultTolerationSeconds: how long Pods stay on a node that is lost.

use orlop_api::status::Status;
use serde_json::{Value, json};

use super::fields::{list_at, list_mut, str_at};
use super::{AdmissionPlugin, AdmissionRequest, Operation};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// `--default-not-ready-toleration-seconds` and its twin.
const TOLERATION_S: i64 = 300;

/// A new node takes no Pods before it was seen ready.
pub(super) struct TaintNodesByCondition;

#[async_trait::async_trait]
impl AdmissionPlugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !request.creates("", "nodes") {
            return Ok(());
        }
        let Some(node) = request.object.as_deref_mut() else { return Ok(()) };
        let tainted = list_at(node, "/spec/taints")
            .iter()
            .any(|t| str_at(t, "/key") == NOT_READY && str_at(t, "/effect") == "NoSchedule");
        if !tainted
            && let Some(spec) = super::fields::object_mut(node, "spec")
            && let Some(taints) = list_mut(spec, "taints")
        {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}

/// Pods leave a lost node after five minutes, unless they say otherwise.
pub(super) struct DefaultTolerationSeconds;

#[async_trait::async_trait]
impl AdmissionPlugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is("", "pods") || !request.subresource.is_empty() {
            return Ok(());
        }
        let Some(pod) = request.object.as_deref_mut() else { return Ok(()) };
        let tolerates = |key: &str| {
            list_at(pod, "/spec/tolerations").iter().any(|t| {
                let (own, effect) = (str_at(t, "/key"), str_at(t, "/effect"));
                (own == key || own.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            })
        };
        let missing: Vec<&str> = [NOT_READY, UNREACHABLE].into_iter().filter(|k| !tolerates(k)).collect();
        if missing.is_empty() || !pod.get("spec").is_some_and(Value::is_object) {
            return Ok(());
        }
        if let Some(list) = list_mut(&mut pod["spec"], "tolerations") {
            list.extend(missing.iter().map(|key| {
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_S})
            }));
        }
        Ok(())
    }
}
