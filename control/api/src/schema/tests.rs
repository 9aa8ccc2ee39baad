use super::*;
use crate::registry::RESOURCES;

#[test]
fn every_registry_kind_has_a_schema() {
    for row in RESOURCES {
        let schema = of(row.group, row.version, row.kind).unwrap_or_else(|| panic!("{row:?}"));
        assert_eq!(schema.go_name(), row.kind);
        for sub in row.subresources {
            // Options of connects (exec, proxy, …) come as query parameters.
            if !sub.kind.ends_with("Options") {
                assert!(of(sub.group, sub.version, sub.kind).is_some(), "{sub:?}");
            }
        }
    }
}

#[test]
fn navigates() {
    let deployment = of_object("apps/v1", "Deployment").unwrap();
    assert_eq!(deployment.at(&["spec", "replicas"]).unwrap().ty, Type::Int32);
    let containers = deployment.at(&["spec", "template", "spec", "containers"]).unwrap();
    assert_eq!(containers.facts.merge_key, Some("name"));
    assert_eq!(containers.ty.go_name(), "[]v1.Container");
    let container = containers.ty.items().and_then(Type::as_struct).unwrap();
    assert_eq!(container.field("resources").unwrap().ty.as_struct().unwrap().go_name(), "ResourceRequirements");
    assert!(deployment.at(&["metadata", "labels"]).unwrap().ty.values().is_some());
    assert_eq!(deployment.at(&["metadata", "creationTimestamp"]).unwrap().ty, Type::Time);
    let limits = container.field("resources").unwrap().ty.as_struct().unwrap().field("limits").unwrap();
    assert_eq!(limits.ty.values(), Some(&Type::Quantity));
    let port = of("", "v1", "Service").unwrap().at(&["spec", "ports", "targetPort"]).unwrap();
    assert_eq!(port.ty, Type::IntOrString);
    assert_eq!(of("", "v1", "Secret").unwrap().field("data").unwrap().ty.values(), Some(&Type::Bytes));
    assert!(of("", "v1", "Nothing").is_none());
}

#[test]
fn facts_name_real_fields() {
    let fields: usize = graph().structs.iter().map(|s| s.fields.len()).sum();
    let with_facts: usize =
        graph().structs.iter().flat_map(|s| &s.fields).filter(|f| f.facts != FieldFacts::default()).count();
    assert!(graph().structs.len() > 500 && fields > 2000, "{} {fields}", graph().structs.len());
    assert_eq!(with_facts, facts::FIELDS.len());
    assert_eq!(graph().structs.iter().filter(|s| s.atomic).count(), facts::ATOMIC_STRUCTS.len());
}
