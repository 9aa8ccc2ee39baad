//! PodSecurity: the Pod Security Standards, by the labels of a namespace.
//!
//! `enforce` refuses Pods; `warn` warns about Pods and about templates of workloads. Rules are those
//! of the newest version, whatever version a label names.

mod checks;

use std::sync::Arc;

use orlop_api::field::FieldError;
use orlop_api::status::Status;
use serde_json::Value;

use super::fields::label;
use super::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::reader::ObjectReader;

const PREFIX: &str = "pod-security.kubernetes.io/";
const MODES: [&str; 3] = ["enforce", "audit", "warn"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

/// What a namespace asks for in one mode, and how messages print it (`restricted:latest`).
fn policy(namespace: &Value, mode: &str) -> (Level, String) {
    let Some(text) = label(namespace, &format!("{PREFIX}{mode}")) else {
        return (Level::Privileged, "privileged:latest".to_owned());
    };
    // A level that can't be read counts as the strictest, as upstream.
    let level = Level::parse(text).unwrap_or(Level::Restricted);
    let version = label(namespace, &format!("{PREFIX}{mode}-version")).unwrap_or("latest");
    let shown = if level == Level::Restricted { "restricted" } else { text };
    (level, format!("{shown}:{version}"))
}

pub(super) struct PodSecurity {
    reader: Arc<dyn ObjectReader>,
}

impl PodSecurity {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }
}

/// Where the Pod's spec and metadata are in an object that makes Pods.
fn template_of(group: &str, plural: &str) -> Option<&'static str> {
    match (group, plural) {
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("", "replicationcontrollers")
        | ("batch", "jobs") => Some("/spec/template"),
        ("batch", "cronjobs") => Some("/spec/jobTemplate/spec/template"),
        ("", "podtemplates") => Some("/template"),
        _ => None,
    }
}

#[async_trait::async_trait]
impl AdmissionPlugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        if request.is("", "namespaces") && request.subresource.is_empty() {
            return request.new_object().map_or(Ok(()), check_labels);
        }
        let (group, plural) = (request.resource.group, request.resource.plural);
        let is_pod = (group, plural) == ("", "pods");
        let pointer = if is_pod {
            // What an update may change of a Pod (images, tolerations) is not what the levels are about.
            let made = request.operation == Operation::Create && request.subresource.is_empty();
            if !made && request.subresource != "ephemeralcontainers" {
                return Ok(());
            }
            ""
        } else {
            match template_of(group, plural) {
                Some(pointer) if request.subresource.is_empty() => pointer,
                _ => return Ok(()),
            }
        };
        let Some(namespace) = request.namespace.and_then(|ns| self.reader.get("", "namespaces", None, ns)) else {
            return Ok(());
        };
        let Some(pod) = request.new_object().and_then(|o| o.pointer(pointer)) else { return Ok(()) };
        let (level, shown) = policy(&namespace, "enforce");
        if is_pod {
            let found = checks::evaluate(level, pod);
            if !found.is_empty() {
                return Err(request.forbid(format!("violates PodSecurity {shown:?}: {}", found.join(", "))));
            }
        }
        let (level, shown) = policy(&namespace, "warn");
        let found = checks::evaluate(level, pod);
        if !found.is_empty() {
            request.warnings.push(format!("would violate PodSecurity {shown:?}: {}", found.join(", ")));
        }
        Ok(())
    }
}

fn check_labels(namespace: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    for mode in MODES {
        let key = format!("{PREFIX}{mode}");
        if let Some(text) = label(namespace, &key)
            && Level::parse(text).is_none()
        {
            let detail = "must be one of privileged, baseline, restricted";
            errors.push(FieldError::invalid(format!("metadata.labels[{key}]"), text, detail));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("Namespace", "", super::fields::name(namespace), &errors))
}
