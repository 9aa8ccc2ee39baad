//! What is kept, what is renewed, what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn request() -> PkiRequest {
    PkiRequest {
        node_name: "n1".to_owned(),
        node_ips: vec!["10.0.0.5".parse().unwrap()],
        advertise_address: "10.0.0.5".parse().unwrap(),
        service_ips: vec!["10.96.0.1".parse().unwrap()],
        cluster_domain: "cluster.local".to_owned(),
        extra_sans: Vec::new(),
    }
}

fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

const START: &str = "2026-01-01T00:00:00Z";

fn pki(dir: &Path, request: &PkiRequest, now: &str) -> Result<Pki, PkiError> {
    Pki::load_or_create(dir, request, at(now))
}

#[test]
fn the_first_start_makes_all_files_and_the_second_none() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("pki");
    let first = pki(&dir, &request(), START).unwrap();
    assert_eq!(first.issued, 8);
    for name in [
        "ca.crt",
        "ca.key",
        "apiserver.crt",
        "apiserver.key",
        "apiserver-kubelet-client.crt",
        "apiserver-kubelet-client.key",
        "front-proxy-ca.crt",
        "front-proxy-ca.key",
        "front-proxy-client.crt",
        "front-proxy-client.key",
        "sa.key",
        "sa.pub",
        "kubelet/kubelet.crt",
        "kubelet/kubelet-client.key",
    ] {
        let mode = fs::metadata(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")).permissions().mode();
        let wanted = if name.ends_with(".key") { 0o600 } else { 0o644 };
        assert_eq!(mode & 0o777, wanted, "{name}");
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let second = pki(&dir, &request(), "2026-11-01T00:00:00Z").unwrap();
    assert_eq!(second.issued, 0);
    assert_eq!(first.ca.cert_pem, second.ca.cert_pem);
    assert_eq!(first.sa_key_pem, second.sa_key_pem);
}

#[test]
fn leaves_say_what_upstream_says() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki(dir.path(), &request(), START).unwrap();
    let read = |path: &Path| facts(path, &fs::read_to_string(path).unwrap()).unwrap();
    let client = read(&pki.kubelet.client_cert);
    assert_eq!(client.common_name, "system:node:n1");
    assert_eq!(client.organizations, BTreeSet::from(["system:nodes".to_owned()]));
    let server = read(&dir.path().join("apiserver.crt"));
    for san in ["kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1", "::1", "10.96.0.1", "10.0.0.5", "n1"]
    {
        assert!(server.sans.contains(san), "{san} in {:?}", server.sans);
    }
    assert_eq!(server.not_after_s, at("2027-01-01T00:00:00Z").as_second());
    assert_eq!(read(&dir.path().join("ca.crt")).not_after_s, at(START).as_second() + 3650 * 86_400);
}

#[test]
fn leaves_are_renewed_when_they_must_be() {
    let dir = tempfile::tempdir().unwrap();
    let check = |change: &dyn Fn(&mut PkiRequest), now: &str, issued: usize, what: &str| {
        let mut asked = request();
        change(&mut asked);
        assert_eq!(pki(dir.path(), &asked, now).unwrap().issued, issued, "{what}");
    };
    check(&|_| {}, START, 8, "first start");
    check(&|r| r.extra_sans.push("api.example.org".to_owned()), START, 1, "another name of the API server");
    check(&|r| r.node_ips = vec!["10.0.0.6".parse().unwrap()], START, 2, "another node address");
    check(&|r| r.node_name = "n2".to_owned(), START, 3, "another node name");
    check(&|_| {}, START, 3, "and back");
    check(&|_| {}, "2026-12-15T00:00:00Z", 5, "17 days before the end");
    fs::remove_file(dir.path().join("apiserver.key")).unwrap();
    check(&|_| {}, "2026-12-15T00:00:00Z", 1, "a lost key");
    fs::copy(dir.path().join("front-proxy-client.key"), dir.path().join("apiserver.key")).unwrap();
    check(&|_| {}, "2026-12-15T00:00:00Z", 1, "a key of another certificate");
}

#[test]
fn a_new_ca_renews_its_leaves() {
    let dir = tempfile::tempdir().unwrap();
    pki(dir.path(), &request(), START).unwrap();
    fs::remove_file(dir.path().join("ca.crt")).unwrap();
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    // The CA and the four leaves below it.
    assert_eq!(pki(dir.path(), &request(), START).unwrap().issued, 5);
}

#[test]
fn damage_is_named_with_its_remedy() {
    let check = |break_it: &dyn Fn(&Path), words: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        pki(dir.path(), &request(), START).unwrap();
        break_it(dir.path());
        let error = match pki(dir.path(), &request(), START) {
            Ok(_) => panic!("accepted; wanted {words:?}"),
            Err(error) => error.to_string(),
        };
        for word in words {
            assert!(error.contains(word), "{word:?} in {error:?}");
        }
    };
    check(
        &|d| fs::write(d.join("apiserver.crt"), "garbage").unwrap(),
        &["apiserver.crt is damaged", "deleted together with its key"],
    );
    check(&|d| fs::write(d.join("sa.key"), "").unwrap(), &["sa.key is damaged", "backup"]);
    check(&|d| fs::remove_file(d.join("ca.key")).unwrap(), &["ca.crt is there but its key", "ca.key"]);
    check(
        &|d| assert!(fs::copy(d.join("front-proxy-ca.key"), d.join("ca.key")).unwrap() > 0),
        &["ca.key don't belong together", "backup"],
    );
}

#[test]
fn a_power_cut_between_key_and_certificate_of_the_ca_heals() {
    let dir = tempfile::tempdir().unwrap();
    pki(dir.path(), &request(), START).unwrap();
    fs::remove_file(dir.path().join("ca.crt")).unwrap();
    let key = fs::read(dir.path().join("ca.key")).unwrap();
    pki(dir.path(), &request(), START).unwrap();
    assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), key);
}

#[test]
fn an_expired_ca_is_told() {
    let dir = tempfile::tempdir().unwrap();
    pki(dir.path(), &request(), START).unwrap();
    let error = pki(dir.path(), &request(), "2040-01-01T00:00:00Z").err().unwrap().to_string();
    assert!(error.contains("has expired"), "{error}");
}
