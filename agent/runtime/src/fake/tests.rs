//! The client against the fake: the calls, their errors, and a runtime that hangs or is away.

use std::time::Duration;

use super::{FakeRuntime, Fault};
use crate::{ImagePull, Retry, RuntimeClient, RuntimeOptions, cri};

fn sandbox_config(name: &str) -> cri::PodSandboxConfig {
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: name.into(),
            uid: "u".into(),
            namespace: "n".into(),
            attempt: 0,
        }),
        ..Default::default()
    }
}

fn container_config(name: &str) -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(cri::ImageSpec { image: "img".into(), ..Default::default() }),
        ..Default::default()
    }
}

#[tokio::test]
async fn life_of_a_container() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::start(&dir.path().join("s")).unwrap();
    let client = fake.client().unwrap();
    client.check_version().await.unwrap();
    let mut events = client.container_events().await.unwrap();
    let sandbox = client.run_pod_sandbox(sandbox_config("p"), "").await.unwrap();
    let id = client.create_container(&sandbox, container_config("c"), sandbox_config("p")).await.unwrap();
    client.start_container(&id).await.unwrap();
    assert_eq!(client.container_status(&id).await.unwrap().state(), cri::ContainerState::ContainerRunning);
    assert_eq!(client.exec_sync(&id, vec!["true".into()], Duration::from_secs(1)).await.unwrap().exit_code, 0);
    client.stop_container(&id, 1).await.unwrap();
    assert_eq!(client.container_status(&id).await.unwrap().exit_code, 143);
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(events.next().await.unwrap().unwrap().container_event_type());
    }
    assert_eq!(kinds.last(), Some(&cri::ContainerEventType::ContainerStoppedEvent));
    client.stop_pod_sandbox(&sandbox).await.unwrap();
    client.remove_pod_sandbox(&sandbox).await.unwrap();
    assert!(client.container_status(&id).await.unwrap_err().is_not_found());
    // Teardown of what is gone is success.
    client.stop_container(&id, 1).await.unwrap();
    client.remove_container(&id).await.unwrap();
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::start(&dir.path().join("s")).unwrap();
    let client = fake.client().unwrap();
    assert!(client.image_status("nope").await.unwrap().is_none());
    let error = client.pull_image(ImagePull { image: "nope".into(), ..Default::default() }).await.unwrap_err();
    assert!(error.is_not_found() && error.message().starts_with("rpc error: code = NotFound desc = "), "{error}");
    fake.inject("RunPodSandbox", 1, &Fault::Fail(tonic::Code::Internal, "cni".into()));
    let error = client.run_pod_sandbox(sandbox_config("p"), "").await.unwrap_err();
    assert_eq!(error.retry(), Retry::Backoff);
    assert!(client.container_events().await.is_ok());
    fake.state().no_events = true;
    assert!(client.container_events().await.unwrap_err().is_unimplemented());
}

#[tokio::test]
async fn hanging_and_absent_runtimes_give_errors() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::start(&dir.path().join("s")).unwrap();
    let options =
        RuntimeOptions { endpoint: fake.endpoint(), request_timeout: Duration::from_millis(50), ..Default::default() };
    let client = RuntimeClient::new(options).unwrap();
    fake.inject("Status", 1, &Fault::Hang);
    let error = client.status(false).await.unwrap_err();
    assert!(error.is_deadline(), "{error}");
    let options = RuntimeOptions { endpoint: format!("unix://{}/none", dir.path().display()), ..Default::default() };
    let error = RuntimeClient::new(options).unwrap().version().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}
