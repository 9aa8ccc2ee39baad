//! The control plane as its user meets it: a data directory, a kubeconfig, two starts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use orlop_plane::{Plane, PlaneConfig, PlaneError, Step, UserInfo, start};
use tokio_util::sync::CancellationToken;

struct Running {
    plane: Plane,
    shutdown: CancellationToken,
    steps: Arc<Mutex<Vec<Step>>>,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.plane.stopped()).await.expect("stops");
    }
}

fn config(dir: &Path, steps: &Arc<Mutex<Vec<Step>>>) -> PlaneConfig {
    let loopback: IpAddr = "127.0.0.1".parse().unwrap();
    let mut config = PlaneConfig::new(dir.to_owned(), "n1".to_owned(), vec![loopback], Arc::new(jiff::Timestamp::now));
    config.bind_address = loopback;
    config.secure_port = 0;
    let steps = steps.clone();
    config.progress = Arc::new(move |step| steps.lock().unwrap().push(step.clone()));
    config
}

async fn run(dir: &Path) -> Running {
    let (steps, shutdown) = (Arc::default(), CancellationToken::new());
    let plane = start(config(dir, &steps), shutdown.clone()).await.expect("starts");
    Running { plane, shutdown, steps }
}

/// What `kubectl` does with the file.
async fn kubectl(plane: &Plane) -> Client {
    let kubeconfig = Kubeconfig::read_from(plane.admin_kubeconfig_path()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Polls a level until it holds.
async fn eventually<F: Future<Output = Option<T>>, T>(what: &str, mut probe: impl FnMut() -> F) -> T {
    for _ in 0..200 {
        if let Some(found) = probe().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never saw: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn first_start_and_second_start() {
    let dir = tempfile::tempdir().unwrap();
    let running = run(dir.path()).await;
    let steps = running.steps.lock().unwrap().clone();
    assert!(matches!(steps[0], Step::Store { keys: 0, .. }), "{steps:?}");
    assert!(matches!(steps[1], Step::Certificates { issued: 8, .. }), "{steps:?}");
    assert!(matches!(steps[3], Step::Kubeconfig { written: true, .. }), "{steps:?}");
    assert_eq!(steps.len(), 6);

    // Over TLS, with the certificate in the kubeconfig.
    let admin = kubectl(&running.plane).await;
    let kubernetes = Api::<Service>::namespaced(admin.clone(), "default").get("kubernetes").await.unwrap();
    assert_eq!(kubernetes.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.1"));
    // The controllers run, and may do what they must.
    let accounts = Api::<ServiceAccount>::namespaced(admin.clone(), "default");
    eventually("the default service account", || async { accounts.get_opt("default").await.unwrap() }).await;
    let maps = Api::<ConfigMap>::namespaced(admin.clone(), "default");
    eventually("kube-root-ca.crt", || async { maps.get_opt("kube-root-ca.crt").await.unwrap() }).await;
    let mine = ConfigMap {
        metadata: ObjectMeta { name: Some("mine".to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("a".to_owned(), "b".to_owned())])),
        ..ConfigMap::default()
    };
    let uid = maps.create(&PostParams::default(), &mine).await.unwrap().uid();
    running.stop().await;

    let running = run(dir.path()).await;
    let steps = running.steps.lock().unwrap().clone();
    assert!(matches!(steps[1], Step::Certificates { issued: 0, .. }), "{steps:?}");
    let admin = kubectl(&running.plane).await;
    let maps = Api::<ConfigMap>::namespaced(admin, "default");
    assert_eq!(maps.get("mine").await.unwrap().uid(), uid);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_are_held_to_their_rights() {
    let dir = tempfile::tempdir().unwrap();
    let running = run(dir.path()).await;
    let as_user = |name: &str, groups: &[&str]| running.plane.client(UserInfo::new(name, groups));
    let code = |result: Result<(), kube::Error>| match result {
        Ok(()) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(other) => panic!("{other}"),
    };
    let list = |client: Client| async move {
        Api::<Secret>::all(client).list(&kube::api::ListParams::default()).await.map(drop)
    };
    assert_eq!(code(list(as_user("root", &["system:masters"])).await), 200);
    assert_eq!(code(list(as_user("jane", &[])).await), 403);
    assert_eq!(code(list(as_user("system:node:n1", &["system:nodes"])).await), 403);
    assert_eq!(code(list(as_user("system:kube-scheduler", &[])).await), 403);
    let namespaces = Api::<Namespace>::all(as_user("jane", &[]));
    let error = namespaces.get("default").await.unwrap_err().to_string();
    assert!(error.contains("User \"jane\" cannot get resource \"namespaces\""), "{error}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_starts_name_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let running = run(dir.path()).await;
    let steps = Arc::default();
    let fail = async |change: &dyn Fn(&mut PlaneConfig)| {
        let mut config = config(dir.path(), &steps);
        change(&mut config);
        match start(config, CancellationToken::new()).await {
            Ok(_) => panic!("started"),
            Err(error) => error,
        }
    };
    let locked = fail(&|_| {}).await;
    assert!(locked.to_string().contains("in use by another process"), "{locked}");
    let port = running.plane.local_addr().port();
    let other = tempfile::tempdir().unwrap();
    let taken = fail(&|c| {
        c.secure_port = port;
        c.data_dir = other.path().to_owned();
    })
    .await;
    assert!(taken.to_string().contains("--secure-port"), "{taken}");
    // The failed start let go of its directory.
    run(other.path()).await.stop().await;
    let ranges = fail(&|c| c.cluster_cidrs = vec!["10.96.4.0/24".parse().unwrap()]).await;
    assert!(matches!(ranges, PlaneError::Config { flag: "--cluster-cidr", .. }), "{ranges}");
    running.stop().await;
    std::fs::write(dir.path().join("VERSION"), "9").unwrap();
    let newer = fail(&|_| {}).await;
    assert!(newer.to_string().contains("newer version of orlop"), "{newer}");
    std::fs::write(dir.path().join("VERSION"), "1").unwrap();
    std::fs::write(dir.path().join("pki/ca.crt"), "garbage").unwrap();
    let damaged = fail(&|_| {}).await;
    assert!(damaged.to_string().contains("ca.crt is damaged"), "{damaged}");
}
