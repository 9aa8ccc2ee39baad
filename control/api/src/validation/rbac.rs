//! Roles and bindings.

use serde_json::Value;

use super::read::{Errors, child, items, set, text};
use super::{content, label_selector, push_messages};
use crate::field::{FieldError, Path};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn check(kind: &str, object: &Value, errs: &mut Errors) {
    match kind {
        "Role" => rules(object, true, errs),
        "ClusterRole" => {
            rules(object, false, errs);
            if let Some(rule) = set(object, "aggregationRule") {
                let path = Path::new("aggregationRule").child("clusterRoleSelectors");
                if items(rule, "clusterRoleSelectors").is_empty() {
                    let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                    errs.push(FieldError::required(&path, detail));
                }
                for (i, selector) in items(rule, "clusterRoleSelectors").iter().enumerate() {
                    label_selector(selector, &path.index(i), errs);
                }
            }
        }
        "RoleBinding" => binding(object, &["Role", "ClusterRole"], true, errs),
        "ClusterRoleBinding" => binding(object, &["ClusterRole"], false, errs),
        _ => {}
    }
}

fn rules(role: &Value, namespaced: bool, errs: &mut Errors) {
    for (i, rule) in items(role, "rules").iter().enumerate() {
        let path = Path::new("rules").index(i);
        let empty = |key: &str| items(rule, key).is_empty();
        if empty("verbs") {
            errs.push(FieldError::required(path.child("verbs"), "verbs must contain at least one value"));
        }
        if !empty("nonResourceURLs") {
            let mut invalid = |detail: &str| {
                let urls = child(rule, "nonResourceURLs").clone();
                errs.push(FieldError::invalid(path.child("nonResourceURLs"), urls, detail));
            };
            if namespaced {
                invalid("namespaced rules cannot apply to non-resource URLs");
            }
            if !(empty("apiGroups") && empty("resources") && empty("resourceNames")) {
                invalid("rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if empty("apiGroups") {
            let detail = "resource rules must supply at least one api group";
            errs.push(FieldError::required(path.child("apiGroups"), detail));
        }
        if empty("resources") {
            let detail = "resource rules must supply at least one resource";
            errs.push(FieldError::required(path.child("resources"), detail));
        }
    }
}

fn binding(object: &Value, kinds: &[&str], namespaced: bool, errs: &mut Errors) {
    let role = child(object, "roleRef");
    let path = Path::new("roleRef");
    if text(role, "apiGroup") != GROUP {
        errs.push(FieldError::not_supported(path.child("apiGroup"), text(role, "apiGroup"), &[GROUP]));
    }
    if !kinds.contains(&text(role, "kind")) {
        errs.push(FieldError::not_supported(path.child("kind"), text(role, "kind"), kinds));
    }
    match text(role, "name") {
        "" => errs.push(FieldError::required(path.child("name"), "")),
        name => push_messages(errs, &path.child("name"), name, content::path_segment_name(name)),
    }
    for (i, subject) in items(object, "subjects").iter().enumerate() {
        let path = Path::new("subjects").index(i);
        let (kind, name, group) = (text(subject, "kind"), text(subject, "name"), text(subject, "apiGroup"));
        if name.is_empty() {
            errs.push(FieldError::required(path.child("name"), ""));
        }
        let wanted = match kind {
            "ServiceAccount" => {
                if !name.is_empty() {
                    push_messages(errs, &path.child("name"), name, content::dns1123_subdomain(name));
                }
                if !namespaced && text(subject, "namespace").is_empty() {
                    errs.push(FieldError::required(path.child("namespace"), ""));
                }
                ""
            }
            "User" | "Group" => GROUP,
            other => {
                let kinds = ["ServiceAccount", "User", "Group"];
                errs.push(FieldError::not_supported(path.child("kind"), other, &kinds));
                continue;
            }
        };
        if group != wanted {
            errs.push(FieldError::not_supported(path.child("apiGroup"), group, &[wanted]));
        }
    }
}
