//! The whole kubelet, standalone, on a fake runtime: static pods live, crash, are taken over and go.

use std::path::Path;

use k8s_openapi::api::core::v1::{ContainerState, Pod};
use orlop_runtime::cri;
use orlop_runtime::fake::{FakeRuntime, Fault};

use super::*;
use crate::pod::PodExt;

struct Node {
    dir: tempfile::TempDir,
    fake: FakeRuntime,
    containers: Arc<ContainerManager>,
    shutdown: CancellationToken,
    handle: KubeletHandle,
}

async fn node(test: &str) -> Option<Node> {
    node_with(test, Duration::from_millis(300)).await
}

/// `None` where this machine lets nobody make cgroups. `period` is the longest crash back-off.
async fn node_with(test: &str, period: Duration) -> Option<Node> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("manifests")).unwrap();
    let fake = FakeRuntime::start(&dir.path().join("cri.sock")).unwrap();
    fake.state().add_image("busybox:1");
    let root = format!("/orlop-test-kubelet-{test}-{}", std::process::id());
    let containers = match container_manager::for_this_machine(ContainerManagerConfig::for_tests(&root)) {
        Ok(containers) => containers,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "no cgroups: {error}");
            eprintln_skip(&error.to_string());
            return None;
        }
    };
    if let Err(error) = containers.setup().await {
        assert!(std::env::var_os("CI").is_none(), "no cgroups: {error}");
        eprintln_skip(&error.to_string());
        return None;
    }
    let shutdown = CancellationToken::new();
    let mut options = options(dir.path(), &fake);
    options.max_container_restart_period = period;
    let handle = Kubelet::start_with(options, None, Arc::clone(&containers), shutdown.clone()).await.unwrap();
    Some(Node { dir, fake, containers, shutdown, handle })
}

#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn eprintln_skip(reason: &str) {
    eprintln!("SKIP {reason}");
}

fn options(dir: &Path, fake: &FakeRuntime) -> KubeletOptions {
    let mut options = KubeletOptions::new("n1");
    options.root_dir = dir.join("kubelet");
    options.state_dir = dir.join("state");
    options.pod_logs_dir = dir.join("logs");
    options.pod_manifest_path = Some(dir.join("manifests"));
    options.runtime.endpoint = fake.endpoint();
    options.node_ips = vec!["192.0.2.1".parse().unwrap()];
    options.max_container_restart_period = Duration::from_millis(300);
    options.resolver_config = PathBuf::new();
    options
}

impl Node {
    fn write(&self, name: &str, text: &str) {
        // As editors do: the new file takes the place of the old.
        let temporary = self.dir.path().join(name);
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.dir.path().join("manifests").join(name)).unwrap();
    }

    async fn eventually<T>(&self, what: &str, mut check: impl FnMut(&Node) -> Option<T>) -> T {
        for _ in 0..600 {
            if let Some(found) = check(self) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let pods: Vec<_> = self.handle.pods().into_iter().map(|p| (p.key(), p.status)).collect();
        // One guard at a time: both look at the same lock.
        let containers = self.fake.state().containers.clone();
        let calls = self.fake.calls();
        panic!("{what}: last seen {pods:#?}\ncontainers {containers:#?}\ncalls {calls:?}");
    }

    async fn ready(&self, key: &str) -> Pod {
        self.eventually(&format!("{key} ready"), |node| node.pod(key).filter(|pod| condition(pod, "Ready"))).await
    }

    fn pod(&self, key: &str) -> Option<Pod> {
        self.handle.pods().into_iter().find(|pod| pod.key() == key)
    }

    /// The agent dies without a word, and comes back.
    async fn restart(mut self) -> Self {
        self.shutdown.cancel();
        self.handle.stopped().await;
        self.shutdown = CancellationToken::new();
        let options = options(self.dir.path(), &self.fake);
        self.handle =
            Kubelet::start_with(options, None, Arc::clone(&self.containers), self.shutdown.clone()).await.unwrap();
        self
    }

    async fn finish(self) {
        self.shutdown.cancel();
        self.handle.stopped().await;
        self.containers.destroy_all().await.unwrap();
    }
}

fn condition(pod: &Pod, kind: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == kind && c.status == "True")
}

fn state(pod: &Pod) -> (ContainerState, ContainerState, i32) {
    let status = &pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0];
    (status.state.clone().unwrap_or_default(), status.last_state.clone().unwrap_or_default(), status.restart_count)
}

fn manifest(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - name: c\n    image: busybox:1\n    imagePullPolicy: IfNotPresent\n    command: [sleep, \"1000\"]\n{more}"
    )
}

#[tokio::test]
async fn a_static_pod_lives_and_goes() {
    let Some(node) = node("life").await else { return };
    node.write("bad.yaml", "kind: [");
    node.write("web.yaml", &manifest("web", ""));
    let pod = node.ready("default/web-n1").await;
    let status = pod.status.as_ref().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(status.pod_ip.as_deref().is_some_and(|ip| ip.starts_with("10.88.")));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    let config = node.fake.state().container_named("c").unwrap().config.clone();
    assert_eq!(config.labels["io.kubernetes.pod.uid"], pod.uid_str());
    assert_eq!(config.command, ["sleep", "1000"]);
    assert!(config.mounts.iter().any(|m| m.container_path == "/etc/hosts"));

    // A changed manifest is another pod, which waits until the old one is gone.
    node.write("web.yaml", &manifest("web", "    env: [{name: A, value: b}]\n"));
    let first = pod.uid_str().to_owned();
    node.eventually("replaced", |node| {
        node.pod("default/web-n1").filter(|p| p.uid_str() != first && condition(p, "Ready"))
    })
    .await;
    let config = node.fake.state().container_named("c").unwrap().config.clone();
    assert!(config.envs.iter().any(|e| e.key == "A" && e.value == "b"));

    std::fs::remove_file(node.dir.path().join("manifests/web.yaml")).unwrap();
    node.eventually("gone", |node| node.fake.state().sandboxes.is_empty().then_some(())).await;
    node.eventually("records gone", |node| {
        std::fs::read_dir(node.dir.path().join("state/pods")).unwrap().next().is_none().then_some(())
    })
    .await;
    node.finish().await;
}

#[tokio::test]
async fn a_crash_is_restarted_with_back_off() {
    let Some(node) = node("crash").await else { return };
    node.write("web.yaml", &manifest("web", ""));
    node.ready("default/web-n1").await;
    for restarts in 1..=2 {
        let id = node.fake.state().container_named("c").unwrap().id.clone();
        node.fake.exit_container(&id, 137, "OOMKilled");
        let pod = node
            .eventually("restarted", |node| {
                node.pod("default/web-n1").filter(|pod| state(pod).2 == restarts && condition(pod, "Ready"))
            })
            .await;
        let (now, last, _) = state(&pod);
        assert!(now.running.is_some());
        let last = last.terminated.unwrap();
        assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("OOMKilled")));
    }
    // One dead container is kept for --previous.
    node.eventually("old containers removed", |node| (node.fake.state().containers.len() == 2).then_some(())).await;
    node.finish().await;
}

#[tokio::test]
async fn a_restart_of_the_agent_changes_nothing() {
    let Some(mut node) = node("adopt").await else { return };
    node.fake.state().exec.insert("ready".into(), (0, String::new()));
    node.write("web.yaml", &manifest("web", "    readinessProbe: {exec: {command: [ready]}, periodSeconds: 1}\n"));
    let before = node.ready("default/web-n1").await;
    // From now on the probe would fail: only what is remembered keeps the pod ready at first.
    let period = "    readinessProbe: {exec: {command: [ready]}, periodSeconds: 1}\n";
    assert!(!period.is_empty());
    let calls = |node: &Node| {
        node.fake
            .calls()
            .iter()
            .filter(|c| matches!(c.as_str(), "RunPodSandbox" | "CreateContainer" | "StopContainer" | "StopPodSandbox"))
            .count()
    };
    let made = calls(&node);
    for _ in 0..3 {
        node = node.restart().await;
        let after = node
            .eventually("known again", |node| {
                node.pod("default/web-n1").filter(|p| condition(p, "PodReadyToStartContainers"))
            })
            .await;
        assert!(condition(&after, "Ready"), "{:#?}", after.status);
        assert_eq!(after.status, before.status, "nothing flips");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(calls(&node), made);
    node.finish().await;
}

#[tokio::test]
async fn a_pod_that_does_not_fit_is_refused() {
    let Some(node) = node("refuse").await else { return };
    let port = "    ports: [{containerPort: 80, hostPort: 8080}]\n";
    node.write("first.yaml", &manifest("first", port));
    node.ready("default/first-n1").await;
    node.write("second.yaml", &manifest("second", port));
    let failed = |node: &Node| {
        node.pod("default/second-n1")
            .filter(|p| p.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Failed")))
    };
    let pod = node.eventually("refused", failed).await;
    let status = pod.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NodePorts"));
    // A decision stays, though there is room by now.
    std::fs::remove_file(node.dir.path().join("manifests/first.yaml")).unwrap();
    node.eventually("first gone", |node| node.fake.state().sandboxes.is_empty().then_some(())).await;
    let node = node.restart().await;
    let again = node.eventually("still refused", failed).await;
    assert_eq!(again.status.unwrap().reason, status.reason);
    node.finish().await;
}

#[tokio::test]
async fn liveness_restarts_and_termination_keeps_order() {
    let Some(node) = node("live").await else { return };
    node.fake.state().exec.insert("alive".into(), (1, "no".into()));
    let probe = "    livenessProbe: {exec: {command: [alive]}, periodSeconds: 1, failureThreshold: 1}\n";
    node.write("web.yaml", &manifest("web", probe));
    node.eventually("restarted", |node| {
        node.pod("default/web-n1").filter(|pod| pod.status.is_some() && state_of(pod) >= 1)
    })
    .await;
    node.finish().await;
}

#[tokio::test]
async fn a_container_that_its_probe_kills_again_and_again_backs_off() {
    let Some(node) = node_with("live-back-off", Duration::from_secs(300)).await else { return };
    node.fake.state().exec.insert("alive".into(), (1, "no".into()));
    let probe = "    livenessProbe: {exec: {command: [alive]}, periodSeconds: 1, failureThreshold: 1}\n";
    node.write("web.yaml", &manifest("web", probe));
    let pod = node
        .eventually("backs off", |node| {
            node.pod("default/web-n1").filter(|pod| {
                let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
                statuses.into_iter().flatten().filter_map(|s| s.state.as_ref()?.waiting.as_ref()).any(|waiting| {
                    assert_ne!(waiting.reason.as_deref(), Some("RunContainerError"));
                    waiting.reason.as_deref() == Some("CrashLoopBackOff")
                })
            })
        })
        .await;
    assert!((1..=2).contains(&state_of(&pod)), "{:#?}", pod.status);
    node.finish().await;
}

fn state_of(pod: &Pod) -> i32 {
    pod.status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref())
        .and_then(|s| s.first())
        .map_or(0, |s| s.restart_count)
}

#[tokio::test]
async fn failures_of_the_runtime_are_retried_and_shown() {
    let Some(node) = node("faults").await else { return };
    node.fake.inject("RunPodSandbox", 2, &Fault::Fail(tonic_code(), "no network".into()));
    node.write("web.yaml", &manifest("web", ""));
    node.ready("default/web-n1").await;
    node.write("none.yaml", &manifest("none", "").replace("busybox:1", "missing:1"));
    let pod = node
        .eventually("pull fails", |node| {
            node.pod("default/none-n1").filter(|pod| {
                let Some(status) = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref()) else {
                    return false;
                };
                status[0]
                    .state
                    .as_ref()
                    .and_then(|s| s.waiting.as_ref())
                    .is_some_and(|w| matches!(w.reason.as_deref(), Some("ErrImagePull" | "ImagePullBackOff")))
            })
        })
        .await;
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Pending"));
    // The sandbox dies: a new one is made, the container follows.
    let sandbox = {
        let state = node.fake.state();
        state
            .containers
            .values()
            .find(|c| c.config.labels["io.kubernetes.pod.name"] == "web-n1")
            .unwrap()
            .sandbox
            .clone()
    };
    {
        let mut state = node.fake.state();
        state.sandboxes.get_mut(&sandbox).unwrap().ready = false;
    }
    node.eventually("new sandbox", |node| {
        let state = node.fake.state();
        let new = state
            .sandboxes
            .values()
            .find(|s| s.ready && s.id != sandbox && s.config.metadata.as_ref().unwrap().name == "web-n1")?;
        state
            .containers
            .values()
            .any(|c| c.sandbox == new.id && c.state == cri::ContainerState::ContainerRunning)
            .then_some(())
    })
    .await;
    node.finish().await;
}

fn tonic_code() -> orlop_runtime::fake::Code {
    orlop_runtime::fake::Code::Internal
}
