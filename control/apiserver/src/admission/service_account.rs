//! ServiceAccount: every Pod runs as one, with its token, CA and namespace mounted.

use std::sync::Arc;
use std::time::Duration;

use orlop_api::status::Status;
use rand::Rng as _;
use serde_json::{Value, json};

use super::fields::{annotation, list_at, list_mut, name, str_at};
use super::pod_refs::{self, MIRROR_ANNOTATION};
use super::{AdmissionPlugin, AdmissionRequest, Operation, get_soon};
use crate::reader::{Object, ObjectReader};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
/// Upstream's alphabet of generated names: no vowels, nothing that looks alike.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// The default account is made by a controller right after its namespace.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct ServiceAccount {
    reader: Arc<dyn ObjectReader>,
}

impl ServiceAccount {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }

    async fn account(&self, request: &AdmissionRequest<'_>, account: &str) -> Result<Object, Status> {
        let ns = request.namespace.unwrap_or_default();
        let patience = if account == "default" { PATIENCE } else { Duration::from_millis(50) };
        get_soon(self.reader.as_ref(), "serviceaccounts", Some(ns), account, patience).await.ok_or_else(|| {
            request.forbid(format!(
                "error looking up service account {ns}/{account}: serviceaccount {account:?} not found"
            ))
        })
    }
}

fn account_name(pod: &Value) -> &str {
    str_at(pod, "/spec/serviceAccountName")
}

#[async_trait::async_trait]
impl AdmissionPlugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !request.creates("", "pods") {
            return Ok(());
        }
        let Some(pod) = request.object.as_deref_mut() else { return Ok(()) };
        if annotation(pod, MIRROR_ANNOTATION).is_some() || !pod.get("spec").is_some_and(Value::is_object) {
            return Ok(());
        }
        if account_name(pod).is_empty() {
            // The old name of the field, which clients may still send alone.
            let old = str_at(pod, "/spec/serviceAccount").to_owned();
            pod["spec"]["serviceAccountName"] = if old.is_empty() { "default".into() } else { old.into() };
        }
        pod["spec"]["serviceAccount"] = pod["spec"]["serviceAccountName"].clone();
        let wanted = account_name(pod).to_owned();
        let account = self.account(request, &wanted).await?;
        let Some(pod) = request.object.as_deref_mut() else { return Ok(()) };
        if automounts(pod, &account) {
            mount_token(pod);
        }
        if list_at(pod, "/spec/imagePullSecrets").is_empty() {
            let secrets: Vec<Value> =
                list_at(&account, "/imagePullSecrets").iter().map(|s| json!({"name": str_at(s, "/name")})).collect();
            if !secrets.is_empty() {
                pod["spec"]["imagePullSecrets"] = secrets.into();
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let ephemeral = request.operation == Operation::Update && request.subresource == "ephemeralcontainers";
        if !request.is("", "pods") || !(request.creates("", "pods") || ephemeral) {
            return Ok(());
        }
        let Some(pod) = request.new_object() else { return Ok(()) };
        if annotation(pod, MIRROR_ANNOTATION).is_some() {
            return mirror(pod).map_err(|why| request.forbid(why));
        }
        let wanted = account_name(pod);
        if wanted.is_empty() {
            let ns = request.namespace.unwrap_or_default();
            return Err(request.forbid(format!("no service account specified for pod {ns}/{}", name(pod))));
        }
        let account = self.account(request, wanted).await?;
        if annotation(&account, ENFORCE_MOUNTABLE) == Some("true") {
            limit_secrets(pod, &account).map_err(|why| request.forbid(why))?;
        }
        Ok(())
    }
}

/// A mirror Pod is the node's word: it may reach nothing by itself.
fn mirror(pod: &Value) -> Result<(), &'static str> {
    if !account_name(pod).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if !pod_refs::secrets(pod).is_empty() {
        return Err("a mirror pod may not reference secrets");
    }
    let projects = list_at(pod, "/spec/volumes")
        .iter()
        .flat_map(|v| list_at(v, "/projected/sources"))
        .any(|s| s.get("serviceAccountToken").is_some_and(|t| !t.is_null()));
    if projects {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

fn limit_secrets(pod: &Value, account: &Value) -> Result<(), String> {
    let listed = |key: &str, secret: &str| list_at(account, key).iter().any(|s| str_at(s, "/name") == secret);
    let pulls: Vec<&str> = list_at(pod, "/spec/imagePullSecrets").iter().map(|s| str_at(s, "/name")).collect();
    for (i, secret) in pulls.iter().enumerate() {
        if !listed("/imagePullSecrets", secret) {
            let account = name(account);
            return Err(format!(
                "imagePullSecrets[{i}].name=\"{secret}\" is not allowed because service account {account} does not reference that imagePullSecret"
            ));
        }
    }
    for secret in pod_refs::secrets(pod).iter().filter(|s| !pulls.contains(&s.as_str())) {
        if !listed("/secrets", secret) {
            let account = name(account);
            return Err(format!(
                "secret.secretName=\"{secret}\" is not allowed because service account {account} does not reference that secret"
            ));
        }
    }
    Ok(())
}

/// The Pod's word wins, then the account's; the default is yes.
fn automounts(pod: &Value, account: &Value) -> bool {
    let said = |v: Option<&Value>| v.and_then(Value::as_bool);
    said(pod.pointer("/spec/automountServiceAccountToken"))
        .or_else(|| said(account.pointer("/automountServiceAccountToken")))
        .unwrap_or(true)
}

fn mount_token(pod: &mut Value) {
    let existing =
        list_at(pod, "/spec/volumes").iter().map(|v| str_at(v, "/name")).find(|n| n.starts_with(VOLUME_PREFIX));
    let (volume, there) = match existing {
        Some(found) => (found.to_owned(), true),
        None => (format!("{VOLUME_PREFIX}{}", suffix()), false),
    };
    let mut needed = false;
    for kind in ["/spec/initContainers", "/spec/containers"] {
        for container in pod.pointer_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            if list_at(container, "/volumeMounts").iter().any(|m| str_at(m, "/mountPath") == MOUNT_PATH) {
                continue;
            }
            if let Some(mounts) = list_mut(container, "volumeMounts") {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
                needed = true;
            }
        }
    }
    if needed && !there {
        let spec = &mut pod["spec"];
        if let Some(volumes) = list_mut(spec, "volumes") {
            volumes.push(token_volume(&volume));
        }
    }
}

fn suffix() -> String {
    let mut rng = rand::rng();
    (0..5).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

fn token_volume(volume: &str) -> Value {
    json!({
        "name": volume,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": crate::authn::tokens::WARN_ONLY_EXPIRATION_S, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
            "defaultMode": 0o644,
        },
    })
}
