//! Kept while it serves, made anew when not, and readable as YAML.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::pki::{Pki, PkiRequest};

#[test]
fn kept_until_something_in_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let request = PkiRequest {
        node_name: "n1".to_owned(),
        node_ips: Vec::new(),
        advertise_address: "10.0.0.5".parse().unwrap(),
        service_ips: Vec::new(),
        cluster_domain: "cluster.local".to_owned(),
        extra_sans: Vec::new(),
    };
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let late: jiff::Timestamp = "2026-12-20T00:00:00Z".parse().unwrap();
    let pki = Pki::load_or_create(&dir.path().join("pki"), &request, start).unwrap();
    let path = dir.path().join("admin.kubeconfig");
    let server = "https://10.0.0.5:6443";
    assert!(reconcile(&path, &pki.ca, server, start).unwrap(), "first start");
    assert!(!reconcile(&path, &pki.ca, server, start).unwrap(), "second start");
    assert!(reconcile(&path, &pki.ca, "https://10.0.0.5:7443", start).unwrap(), "another port");
    assert!(reconcile(&path, &pki.ca, "https://10.0.0.5:7443", late).unwrap(), "ends soon");
    fs::write(&path, "what?").unwrap();
    assert!(reconcile(&path, &pki.ca, server, start).unwrap(), "damaged");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let read = kube::config::Kubeconfig::read_from(&path).unwrap();
    assert_eq!(read.current_context.as_deref(), Some("kubernetes-admin@kubernetes"));
    assert_eq!(read.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some(server));
    assert!(read.auth_infos[0].auth_info.as_ref().unwrap().client_certificate_data.is_some());
}
