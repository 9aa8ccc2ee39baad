use super::*;

#[test]
fn rows_are_found_by_plural_and_kind() {
    for row in RESOURCES {
        assert_eq!(find(row.group, row.version, row.plural), Some(row));
        assert_eq!(find_kind(row.group, row.version, row.kind), Some(row));
    }
    assert!(find("apps", "v1", "pods").is_none());
    assert_eq!(find_object("apps/v1", "Deployment").map(|r| r.plural), Some("deployments"));
    assert_eq!(find_preferred("autoscaling", "horizontalpodautoscalers").map(|r| r.version), Some("v2"));
}

#[test]
fn rows_are_well_formed() {
    for row in RESOURCES {
        assert_eq!(row.singular, row.kind.to_lowercase(), "{row:?}");
        assert!(row.verbs.is_sorted(), "{row:?}");
        assert!(row.subresources.iter().map(|s| s.name).is_sorted(), "{row:?}");
    }
}

#[test]
fn storage_is_upstreams() {
    let dir = |g, v, p| find(g, v, p).map(ResourceInfo::storage_dir).unwrap();
    assert_eq!(dir("", "v1", "nodes"), "/registry/minions/");
    assert_eq!(dir("", "v1", "services"), "/registry/services/specs/");
    assert_eq!(dir("", "v1", "endpoints"), "/registry/services/endpoints/");
    assert_eq!(dir("networking.k8s.io", "v1", "ingresses"), "/registry/ingress/");
    assert_eq!(dir("apps", "v1", "deployments"), "/registry/deployments/");
    assert_eq!(dir("events.k8s.io", "v1", "events"), dir("", "v1", "events"));
    // Only cohabitants share a directory.
    for a in RESOURCES {
        for b in RESOURCES {
            assert!(a.storage_prefix != b.storage_prefix || a.plural == b.plural, "{a:?} {b:?}");
        }
    }
}

#[test]
fn storage_version_hashes_are_upstreams() {
    let hash = |g, v, p| find(g, v, p).map(ResourceInfo::storage_version_hash).unwrap();
    assert_eq!(hash("", "v1", "configmaps"), "qFsyl6wFWjQ=");
    assert_eq!(hash("", "v1", "endpoints"), "fWeeMqaN/OA=");
    assert_eq!(hash("autoscaling", "v1", "horizontalpodautoscalers"), "qwQve8ut294=");
    assert_eq!(hash("events.k8s.io", "v1", "events"), hash("", "v1", "events"));
}

#[test]
fn groups_are_in_preference_order() {
    let names: Vec<&str> = groups().iter().map(|g| g.name).collect();
    assert_eq!(&names[..4], ["", "apiregistration.k8s.io", "apps", "events.k8s.io"]);
    assert_eq!(names.len(), 21);
    let autoscaling = groups().into_iter().find(|g| g.name == "autoscaling").unwrap();
    assert_eq!(autoscaling.versions, ["v2", "v1"]);
}
