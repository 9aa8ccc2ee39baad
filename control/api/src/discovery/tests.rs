use super::*;

#[test]
fn core_group() {
    let doc = api_resource_list("", "v1", &[]).unwrap();
    let resources = doc["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 39);
    let names: Vec<&str> = resources.iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted());
    let find = |name: &str| resources.iter().find(|r| r["name"] == name).unwrap();
    assert_eq!(
        find("configmaps"),
        &json!({"name": "configmaps", "singularName": "configmap", "namespaced": true, "kind": "ConfigMap",
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            "shortNames": ["cm"], "storageVersionHash": "qFsyl6wFWjQ="})
    );
    assert_eq!(
        find("pods/eviction"),
        &json!({"name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy", "version": "v1",
            "kind": "Eviction", "verbs": ["create"]})
    );
    assert!(doc.get("apiVersion").is_none());
}

#[test]
fn groups_and_versions() {
    let doc = api_group_list(&[]);
    assert_eq!(doc["groups"].as_array().unwrap().len(), 20);
    assert_eq!(
        api_group("autoscaling", &[]).unwrap(),
        json!({"kind": "APIGroup", "apiVersion": "v1", "name": "autoscaling",
            "versions": [{"groupVersion": "autoscaling/v2", "version": "v2"}, {"groupVersion": "autoscaling/v1", "version": "v1"}],
            "preferredVersion": {"groupVersion": "autoscaling/v2", "version": "v2"}})
    );
    assert!(api_group("", &[]).is_none());
    assert!(api_group("nothing", &[]).is_none());
    assert!(api_resource_list("apps", "v2", &[]).is_none());
}

#[test]
fn aggregated_documents() {
    let apis = aggregated(false, "v2", &[]);
    let apps = apis["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "apps").unwrap();
    let deployments = &apps["versions"][0]["resources"][2];
    assert_eq!(deployments["resource"], "deployments");
    assert_eq!(deployments["responseKind"], json!({"group": "", "version": "", "kind": "Deployment"}));
    assert_eq!(deployments["scope"], "Namespaced");
    assert_eq!(
        deployments["subresources"][0],
        json!({"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
            "verbs": ["get", "patch", "update"]})
    );
    let api = aggregated(true, "v2beta1", &[]);
    assert_eq!(api["apiVersion"], "apidiscovery.k8s.io/v2beta1");
    assert_eq!(api["items"].as_array().unwrap().len(), 1);
}

#[test]
fn custom_resources_join() {
    let widget = DynamicResource {
        group: "example.com".into(),
        version: "v1alpha1".into(),
        kind: "Widget".into(),
        plural: "widgets".into(),
        singular: "widget".into(),
        verbs: vec!["get".into()],
        ..DynamicResource::default()
    };
    let extra = [widget];
    assert_eq!(api_group_list(&extra)["groups"][20]["name"], "example.com");
    let list = api_resource_list("example.com", "v1alpha1", &extra).unwrap();
    assert_eq!(list["resources"][0]["kind"], "Widget");
    let items = aggregated(false, "v2", &extra);
    assert_eq!(items["items"][20]["versions"][0]["resources"][0]["scope"], "Cluster");
}
