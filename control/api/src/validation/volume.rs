//! Volumes of a Pod: one source each, and what the source needs.

use serde_json::Value;

use super::container::field_reference;
use super::read::{Errors, child, int, items, set, text};
use super::{content, push_messages, storage};
use crate::field::{FieldError, Path};
use crate::quantity::Quantity;

/// The volumes of a Pod that are well formed, by name.
pub(super) struct Volumes<'a>(Vec<&'a Value>);

impl Volumes<'_> {
    fn find(&self, name: &str) -> Option<&Value> {
        self.0.iter().copied().find(|v| text(v, "name") == name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether the volume is backed by a claim, as block devices must be.
    pub(super) fn is_claim(&self, name: &str) -> bool {
        let source = |key| self.find(name).is_some_and(|v| set(v, key).is_some());
        source("persistentVolumeClaim") || source("ephemeral")
    }
}

/// `ValidateVolumes`.
pub(super) fn all<'a>(volumes: &'a [Value], path: &Path, errs: &mut Errors) -> Volumes<'a> {
    let mut good: Vec<&Value> = Vec::new();
    for (i, volume) in volumes.iter().enumerate() {
        let at = path.index(i);
        let before = errs.len();
        source(volume, &at, errs);
        let name = text(volume, "name");
        if name.is_empty() {
            errs.push(FieldError::required(at.child("name"), ""));
        } else {
            push_messages(errs, &at.child("name"), name, content::dns1123_label(name));
        }
        if good.iter().any(|v| text(v, "name") == name) {
            errs.push(FieldError::duplicate(at.child("name"), name));
        }
        if errs.len() == before {
            good.push(volume);
        }
    }
    Volumes(good)
}

fn source(volume: &Value, path: &Path, errs: &mut Errors) {
    let fields = volume.as_object().into_iter().flatten();
    let mut given = fields.filter(|(key, value)| *key != "name" && !value.is_null());
    let Some((kind, source)) = given.next() else {
        errs.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    for (extra, _) in given {
        errs.push(FieldError::forbidden(path.child(extra), "may not specify more than 1 volume type"));
    }
    let path = path.child(kind);
    let mut required = |key: &str| {
        if text(source, key).is_empty() {
            errs.push(FieldError::required(path.child(key), ""));
        }
    };
    match kind.as_str() {
        "hostPath" => {
            required("path");
            no_backsteps(text(source, "path"), &path.child("path"), errs);
            let types =
                ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
            let kind = text(source, "type");
            if !types.contains(&kind) {
                errs.push(FieldError::not_supported(path.child("type"), kind, &types));
            }
        }
        "emptyDir" => {
            if let Some(limit) = set(source, "sizeLimit") {
                let negative = Quantity::from_value(limit).map_or(true, |q| q.sign() < 0);
                if negative {
                    let detail = "SizeLimit field must be a valid resource quantity";
                    errs.push(FieldError::forbidden(path.child("sizeLimit"), detail));
                }
            }
        }
        "secret" | "configMap" => {
            required(if kind == "secret" { "secretName" } else { "name" });
            mode(source, "defaultMode", &path, errs);
            key_paths(source, &path, errs);
        }
        "downwardAPI" => {
            mode(source, "defaultMode", &path, errs);
            downward(source, &path, errs);
        }
        "projected" => projected(source, &path, errs),
        "persistentVolumeClaim" => required("claimName"),
        "nfs" => {
            required("server");
            required("path");
            let target = text(source, "path");
            if !target.is_empty() && !target.starts_with('/') {
                errs.push(FieldError::invalid(path.child("path"), target, "must be an absolute path"));
            }
        }
        "csi" => required("driver"),
        "image" => {
            required("reference");
            let policy = text(source, "pullPolicy");
            let policies = ["Always", "IfNotPresent", "Never"];
            if !policies.contains(&policy) {
                errs.push(FieldError::not_supported(path.child("pullPolicy"), policy, &policies));
            }
        }
        "ephemeral" => match set(source, "volumeClaimTemplate") {
            None => errs.push(FieldError::required(path.child("volumeClaimTemplate"), "")),
            Some(template) => {
                let path = path.child("volumeClaimTemplate").child("spec");
                storage::claim_spec(child(template, "spec"), &path, errs);
            }
        },
        _ => {}
    }
}

fn mode(source: &Value, key: &str, path: &Path, errs: &mut Errors) {
    if let Some(mode) = int(source, key).filter(|m| !(0..=0o777).contains(m)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errs.push(FieldError::invalid(path.child(key), mode, detail));
    }
}

fn key_paths(source: &Value, path: &Path, errs: &mut Errors) {
    for (i, item) in items(source, "items").iter().enumerate() {
        let path = path.child("items").index(i);
        for key in ["key", "path"] {
            if text(item, key).is_empty() {
                errs.push(FieldError::required(path.child(key), ""));
            }
        }
        reserved_path(text(item, "path"), &path.child("path"), errs);
        mode(item, "mode", &path, errs);
    }
}

const DOWNWARD_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

fn downward(source: &Value, path: &Path, errs: &mut Errors) {
    for (i, file) in items(source, "items").iter().enumerate() {
        let path = path.child("items").index(i);
        if text(file, "path").is_empty() {
            errs.push(FieldError::required(path.child("path"), ""));
        }
        reserved_path(text(file, "path"), &path.child("path"), errs);
        match (set(file, "fieldRef"), set(file, "resourceFieldRef")) {
            (Some(_), Some(_)) => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errs.push(FieldError::invalid(&path, "resource", detail));
            }
            (Some(field), None) => field_reference(field, DOWNWARD_FIELDS, &path.child("fieldRef"), errs),
            (None, Some(resource)) => {
                for key in ["containerName", "resource"] {
                    if text(resource, key).is_empty() {
                        errs.push(FieldError::required(path.child("resourceFieldRef").child(key), ""));
                    }
                }
            }
            (None, None) => {
                errs.push(FieldError::required(&path, "one of fieldRef and resourceFieldRef is required"));
            }
        }
        mode(file, "mode", &path, errs);
    }
}

fn projected(source: &Value, path: &Path, errs: &mut Errors) {
    const TYPES: &[&str] =
        &["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
    mode(source, "defaultMode", path, errs);
    for (i, projection) in items(source, "sources").iter().enumerate() {
        let path = path.child("sources").index(i);
        let mut given = TYPES.iter().copied().filter(|t| set(projection, t).is_some());
        let Some(kind) = given.next() else {
            errs.push(FieldError::required(&path, "must specify a volume type"));
            continue;
        };
        for extra in given {
            errs.push(FieldError::forbidden(path.child(extra), "may not specify more than 1 volume type per source"));
        }
        let (inner, path) = (child(projection, kind), path.child(kind));
        match kind {
            "secret" | "configMap" => {
                if text(inner, "name").is_empty() {
                    errs.push(FieldError::required(path.child("name"), ""));
                }
                key_paths(inner, &path, errs);
            }
            "downwardAPI" => downward(inner, &path, errs),
            "serviceAccountToken" => {
                if let Some(seconds) = int(inner, "expirationSeconds") {
                    let at = path.child("expirationSeconds");
                    if seconds < 600 {
                        let detail = "may not specify a duration less than 10 minutes";
                        errs.push(FieldError::invalid(at, seconds, detail));
                    } else if seconds > 1 << 32 {
                        let detail = "may not specify a duration larger than 2^32 seconds";
                        errs.push(FieldError::invalid(at, seconds, detail));
                    }
                }
                if text(inner, "path").is_empty() {
                    errs.push(FieldError::required(path.child("path"), ""));
                }
                reserved_path(text(inner, "path"), &path.child("path"), errs);
            }
            _ => reserved_path(text(inner, "path"), &path.child("path"), errs),
        }
    }
}

/// `validateLocalDescendingPath`: relative, and never upwards.
pub(super) fn descending_path(target: &str, path: &Path, errs: &mut Errors) {
    if target.starts_with('/') {
        errs.push(FieldError::invalid(path, target, "must be a relative path"));
    }
    no_backsteps(target, path, errs);
}

fn no_backsteps(target: &str, path: &Path, errs: &mut Errors) {
    if target.split('/').any(|part| part == "..") {
        errs.push(FieldError::invalid(path, target, "must not contain '..'"));
    }
}

/// `ValidateLocalNonReservedPath`: names that start with two dots belong to the atomic writer.
fn reserved_path(target: &str, path: &Path, errs: &mut Errors) {
    descending_path(target, path, errs);
    if target.starts_with("..") && !target.starts_with("../") {
        errs.push(FieldError::invalid(path, target, "must not start with '..'"));
    }
}
