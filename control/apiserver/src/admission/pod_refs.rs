//! Which API objects a Pod refers to.

use serde_json::Value;

use super::fields::{list_at, name, str_at};

/// Marks the API server's copy of a static Pod.
pub(crate) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Containers of all three kinds.
pub(crate) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"]
        .into_iter()
        .flat_map(|pointer| list_at(pod, pointer))
}

/// Secrets: image pulls, environment, volumes.
pub(crate) fn secrets(pod: &Value) -> Vec<String> {
    let mut out = names(list_at(pod, "/spec/imagePullSecrets"), "/name");
    for container in containers(pod) {
        out.extend(names(list_at(container, "/envFrom"), "/secretRef/name"));
        out.extend(names(list_at(container, "/env"), "/valueFrom/secretKeyRef/name"));
    }
    for volume in list_at(pod, "/spec/volumes") {
        for pointer in [
            "/secret/secretName",
            "/azureFile/secretName",
            "/csi/nodePublishSecretRef/name",
            "/flexVolume/secretRef/name",
            "/iscsi/secretRef/name",
            "/rbd/secretRef/name",
            "/cephfs/secretRef/name",
            "/cinder/secretRef/name",
            "/scaleIO/secretRef/name",
            "/storageos/secretRef/name",
        ] {
            out.push(str_at(volume, pointer).to_owned());
        }
        out.extend(names(list_at(volume, "/projected/sources"), "/secret/name"));
    }
    out.retain(|n| !n.is_empty());
    out
}

pub(crate) fn config_maps(pod: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for container in containers(pod) {
        out.extend(names(list_at(container, "/envFrom"), "/configMapRef/name"));
        out.extend(names(list_at(container, "/env"), "/valueFrom/configMapKeyRef/name"));
    }
    for volume in list_at(pod, "/spec/volumes") {
        out.push(str_at(volume, "/configMap/name").to_owned());
        out.extend(names(list_at(volume, "/projected/sources"), "/configMap/name"));
    }
    out.retain(|n| !n.is_empty());
    out
}

/// PersistentVolumeClaims, those of generic ephemeral volumes (`POD-VOLUME`) among them.
pub(crate) fn claims(pod: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for volume in list_at(pod, "/spec/volumes") {
        let claim = str_at(volume, "/persistentVolumeClaim/claimName");
        if !claim.is_empty() {
            out.push(claim.to_owned());
        }
        if volume.get("ephemeral").is_some_and(|e| !e.is_null()) {
            out.push(format!("{}-{}", name(pod), str_at(volume, "/name")));
        }
    }
    out
}

/// The first kind of API object that the Pod refers to, as upstream names it; mirror Pods may have none.
pub(crate) fn first_reference(pod: &Value) -> Option<&'static str> {
    let projected = |key: &str| {
        list_at(pod, "/spec/volumes")
            .iter()
            .flat_map(|v| list_at(v, "/projected/sources"))
            .any(|s| s.get(key).is_some_and(|x| !x.is_null()))
    };
    if !str_at(pod, "/spec/serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    if !secrets(pod).is_empty() {
        return Some("secrets");
    }
    if !config_maps(pod).is_empty() {
        return Some("configmaps");
    }
    if projected("serviceAccountToken") {
        return Some("serviceaccounts (via projected volumes)");
    }
    if projected("clusterTrustBundle") {
        return Some("clustertrustbundles");
    }
    if projected("podCertificate") {
        return Some("podcertificates");
    }
    if !claims(pod).is_empty() {
        return Some("persistentvolumeclaims");
    }
    if !list_at(pod, "/spec/resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    None
}

fn names(items: &[Value], pointer: &str) -> Vec<String> {
    items.iter().map(|i| str_at(i, pointer).to_owned()).filter(|n| !n.is_empty()).collect()
}
