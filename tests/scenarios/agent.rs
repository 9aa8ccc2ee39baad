//! Control plane and node apart, over TLS: `orlop server` here, `orlop agent` and the drop-in faces there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use orlop_tests::stack::orlop_bin;
use orlop_tests::{Sh, Stack, StackOptions, eventually, ready_or_skip};

use crate::DEMO;

#[test]
fn server_and_agent_apart() {
    let Some(()) = ready_or_skip("server_and_agent_apart") else { return };
    let mut stack = Stack::prepare(StackOptions::default());
    let plane = stack.dir.path().join("plane");
    let data = format!("--data-dir={}", plane.display());
    let advertise = format!("--advertise-address={}", stack.namespaces.node_ip());
    let _server = stack.beside(&["server", &data, &advertise]);
    stack.kubeconfig = plane.join("admin.kubeconfig");
    let mode = fs::metadata(&stack.kubeconfig).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "the administrator's kubeconfig");

    stack.run_as(
        "agent",
        vec![
            format!("--kubeconfig={}", stack.kubeconfig.display()),
            format!("--client-ca-file={}", plane.join("pki/ca.crt").display()),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        ],
    );
    stack.apply(DEMO);
    let pods = stack.ready_pods("demo", "app=web", 3);
    let service = stack.get(&["service", "web", "-n", "demo"]);
    let url = format!("http://{}/motd", service["spec"]["clusterIP"].as_str().unwrap());
    eventually("the Service", || {
        let out = stack.on_node(&["curl", "-s", "-m", "2", &url]).run();
        if out.stdout.contains("lowest deck") { Ok(()) } else { Err(out.to_string()) }
    });
    let name = pods[0]["metadata"]["name"].as_str().unwrap();
    let ips: Vec<&str> = pods.iter().filter_map(|p| p["status"]["podIP"].as_str()).collect();
    assert!(ips.iter().all(|ip| ip.starts_with("10.244.0.")), "{ips:?} are not of the node's pod CIDR; {name}");
}

/// The faces read upstream's command line; what they can't do they say.
#[test]
fn the_faces_of_upstream() {
    let Some(()) = ready_or_skip("the_faces_of_upstream") else { return };
    let dir = tempfile::tempdir().unwrap();
    for face in ["kubelet", "kube-proxy"] {
        let path = dir.path().join(face);
        symlink(orlop_bin(), &path).unwrap();
        let program = path.display().to_string();
        let help = Sh::new(&[&program, "--help"]).run();
        assert!(help.ok().contains("--kubeconfig"), "{help}");
        let unknown = Sh::new(&[&program, "--no-such-flag=1"]).run();
        assert_eq!(unknown.code, 2, "{unknown}");
        assert!(unknown.stderr.contains("unknown flag: --no-such-flag"), "{unknown}");
        let missing = Sh::new(&[&program, "--kubeconfig=/nonexistent.conf", "--v=2"]).run();
        assert!(missing.err().contains("/nonexistent.conf"), "{missing}");
    }
    let version = Sh::new(&[&orlop_bin(), "version", "--output=json"]).run();
    assert!(version.ok().contains("v1.36"), "{version}");
}
