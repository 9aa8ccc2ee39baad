//! On real mounts, in a mount namespace of the test's own; objects come from a scripted API server.

use super::*;
use serde_json::{Value, json};
use std::collections::BTreeMap as Map;

type Objects = Arc<Mutex<Map<String, Value>>>;

/// Answers GETs by path, and every TokenRequest with a token that counts up.
fn client(objects: &Objects) -> kube::Client {
    let objects = Arc::clone(objects);
    let tokens = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let path = request.uri().path().to_owned();
        let answer = if path.ends_with("/token") {
            let n = tokens.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Some(json!({ "metadata": {}, "spec": { "audiences": [], "expirationSeconds": 3600 },
                "status": { "token": format!("token-{n}"), "expirationTimestamp": "2030-01-01T00:00:00Z" } }))
        } else {
            objects.lock().unwrap().get(&path).cloned()
        };
        let (code, body) = match answer {
            Some(body) => (200, body),
            None => (
                404,
                json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404,
                "reason": "NotFound", "message": "not found" }),
            ),
        };
        let body = serde_json::to_vec(&body).unwrap();
        async move {
            Ok::<_, std::convert::Infallible>(
                http::Response::builder().status(code).body(kube::client::Body::from(body)).unwrap(),
            )
        }
    });
    kube::Client::new(service, "default")
}

fn pod(uid: &str, volumes: &Value, mounts: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": uid, "labels": { "app": "x" } },
        "spec": { "volumes": volumes, "containers": [{ "name": "c", "volumeMounts": mounts }] },
    }))
    .unwrap()
}

fn container_mounts(volumes: &PodVolumes, pod: &Pod) -> Result<Vec<super::super::Mount>, VolumeError> {
    let lookup = |name: &str| (name == "POD").then(|| "p".to_owned());
    volumes.container_mounts(&pod.spec.as_ref().unwrap().containers[0], &lookup)
}

/// Runs `test` with a manager in a private mount namespace.
fn with_manager<F: AsyncFnOnce(VolumeManager, Objects) + Send>(what: &str, test: F) {
    let dir = tempfile::tempdir().unwrap();
    let root_dir = dir.path().to_owned();
    mounts::in_private_namespace_or_skip(what, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let objects: Objects = Arc::default();
            let manager = VolumeManager::new(
                VolumeManagerConfig {
                    root_dir,
                    allocatable: NodeAllocatable { memory_bytes: 64 << 20, ..NodeAllocatable::default() },
                },
                Arc::new(ObjectManager::new(Some(client(&objects)))),
            );
            test(manager, objects).await;
        });
    });
}

#[test]
fn every_kind_is_mounted_and_taken_down() {
    with_manager("volumes", async |manager, objects| {
        objects.lock().unwrap().extend([
            (
                "/api/v1/namespaces/ns/configmaps/cm".to_owned(),
                json!({ "data": { "a": "1" }, "binaryData": { "b": "Mg==" } }),
            ),
            ("/api/v1/namespaces/ns/secrets/s".to_owned(), json!({ "data": { "k": "dg==", "other": "eA==" } })),
        ]);
        let volumes = json!([
            { "name": "disk", "emptyDir": {} },
            { "name": "memory", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
            { "name": "cm", "configMap": { "name": "cm" } },
            { "name": "secret", "secret": { "secretName": "s", "items": [{ "key": "k", "path": "deep/key", "mode": 256 }] } },
            { "name": "none", "configMap": { "name": "none", "optional": true } },
            { "name": "down", "downwardAPI": { "items": [{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
            { "name": "all", "projected": { "sources": [
                { "serviceAccountToken": { "path": "token" } },
                { "configMap": { "name": "cm", "items": [{ "key": "a", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } }] } },
            ] } },
        ]);
        let pod = pod(
            "u1",
            &volumes,
            &json!([{ "name": "all", "mountPath": "/var/run/x" }, { "name": "disk", "mountPath": "/d", "readOnly": true, "mountPropagation": "HostToContainer" }]),
        );
        let mounted = manager.mount_pod(&pod).await.unwrap();
        let read =
            |volume: &str, file: &str| fs::read_to_string(mounted.host_path(volume).unwrap().join(file)).unwrap();
        assert_eq!((read("cm", "a").as_str(), read("cm", "b").as_str()), ("1", "2"));
        assert_eq!(read("secret", "deep/key"), "v");
        assert_eq!(read("down", "labels"), "app=\"x\"");
        assert_eq!(
            (read("all", "token").as_str(), read("all", "ca.crt").as_str(), read("all", "namespace").as_str()),
            ("token-0", "1", "ns")
        );
        assert!(mounts::is_mount_point(mounted.host_path("secret").unwrap()).unwrap(), "secrets stay in memory");
        assert!(mounts::is_mount_point(mounted.host_path("memory").unwrap()).unwrap());
        assert_eq!(
            orlop_host::file_system::stats(mounted.host_path("memory").unwrap()).unwrap().capacity_bytes,
            1 << 20
        );
        assert_eq!(fs::metadata(mounted.host_path("disk").unwrap()).unwrap().permissions().mode() & 0o7777, 0o777);
        assert_eq!(fs::metadata(manager.pod_dir("u1")).unwrap().permissions().mode() & 0o777, 0o750);
        assert!(mounted.host_path("cm").unwrap().ends_with("pods/u1/volumes/kubernetes.io~configmap/cm"));
        let mounts = container_mounts(&mounted, &pod).unwrap();
        assert_eq!(mounts.iter().map(|m| m.readonly).collect::<Vec<_>>(), [true, true]);
        assert_eq!(mounts[1].propagation, super::super::Propagation::HostToContainer);

        // A second time changes nothing, and what was written in the meantime stays.
        fs::write(mounted.host_path("memory").unwrap().join("x"), "kept").unwrap();
        manager.mount_pod(&pod).await.unwrap();
        assert_eq!(read("memory", "x"), "kept");
        assert_eq!(read("all", "token"), "token-0");

        manager.unmount_pod("u1").await.unwrap();
        assert!(!manager.pod_dir("u1").exists());
        let root = manager.root_dir.clone();
        assert!(mounts::list().unwrap().iter().all(|m| !m.mount_point.starts_with(&root)));
        manager.unmount_pod("u1").await.unwrap();
    });
}

#[test]
fn contents_follow_their_object() {
    with_manager("volume refresh", async |manager, objects| {
        tokio::time::pause();
        let path = "/api/v1/namespaces/ns/configmaps/cm".to_owned();
        objects.lock().unwrap().insert(path.clone(), json!({ "data": { "a": "1", "gone": "x" } }));
        let pod = pod("u1", &json!([{ "name": "cm", "configMap": { "name": "cm" } }]), &json!([]));
        let mounted = manager.mount_pod(&pod).await.unwrap();
        let dir = mounted.host_path("cm").unwrap();
        objects.lock().unwrap().insert(path.clone(), json!({ "data": { "a": "2" } }));
        tokio::time::advance(std::time::Duration::from_secs(61)).await;
        manager.refresh(&pod).await.unwrap();
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "2");
        assert!(!dir.join("gone").exists());
        // Deleted while in use: what is mounted stays, and the error says so.
        objects.lock().unwrap().remove(&path);
        tokio::time::advance(std::time::Duration::from_secs(61)).await;
        let errors = manager.refresh(&pod).await.unwrap_err();
        assert_eq!(errors[0].to_string(), "MountVolume.SetUp failed for volume \"cm\" : configmap \"cm\" not found");
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "2");
        manager.unmount_pod("u1").await.unwrap();
        manager.refresh(&pod).await.unwrap();
        assert!(!manager.pod_dir("u1").exists(), "a refresh brings nothing back");
    });
}

#[test]
fn sub_paths_stay_inside_their_volume() {
    with_manager("subPath", async |manager, objects| {
        objects
            .lock()
            .unwrap()
            .insert("/api/v1/namespaces/ns/configmaps/cm".to_owned(), json!({ "data": { "a": "1" } }));
        let volumes = json!([{ "name": "disk", "emptyDir": {} }, { "name": "cm", "configMap": { "name": "cm" } }]);
        let mount = |name: &str, field: &str, sub: &str| json!({ "name": name, "mountPath": "/m", field: sub });
        let base = pod("u1", &volumes, &json!([]));
        let mounted = manager.mount_pod(&base).await.unwrap();
        let disk = mounted.host_path("disk").unwrap().to_owned();
        let one = |m: Value| container_mounts(&mounted, &pod("u1", &volumes, &json!([m])));

        let made = one(mount("disk", "subPathExpr", "$(POD)/x")).unwrap().remove(0);
        assert!(disk.join("p/x").is_dir());
        assert!(made.host_path.ends_with("pods/u1/volume-subpaths/disk/c/0"));
        fs::write(disk.join("p/x/f"), "1").unwrap();
        assert_eq!(fs::read_to_string(made.host_path.join("f")).unwrap(), "1");
        // The container swaps the sub-path for a symlink: the mount that stands is not moved, and the next one is refused.
        fs::rename(disk.join("p"), disk.join("old")).unwrap();
        std::os::unix::fs::symlink("/etc", disk.join("p")).unwrap();
        assert_eq!(fs::read_to_string(made.host_path.join("f")).unwrap(), "1");
        assert!(one(mount("disk", "subPathExpr", "$(POD)/x")).is_err());
        assert!(one(mount("disk", "subPath", "p/passwd")).is_err());
        assert!(one(mount("disk", "subPath", "../../x")).is_err());
        assert!(one(mount("disk", "subPath", "/etc")).is_err());
        assert!(one(mount("disk", "subPathExpr", "$(NONE)")).is_err());
        // A key of a ConfigMap is a file behind a symlink of ours.
        let key = one(mount("cm", "subPath", "a")).unwrap().remove(0);
        assert_eq!(fs::read_to_string(&key.host_path).unwrap(), "1");
        assert_eq!(one(mount("cm", "subPath", "a")).unwrap().remove(0), key, "mounted once");
        assert!(matches!(one(mount("nothing", "subPath", "a")), Err(VolumeError::NotMounted { .. })));
        manager.unmount_pod("u1").await.unwrap();
        assert!(Path::new("/etc/passwd").exists());
    });
}

#[test]
fn what_is_not_supported_or_missing_says_so() {
    with_manager("volume errors", async |manager, _| {
        let check = async |volume: Value, want: &str| {
            let error = manager.mount_pod(&pod("u1", &json!([volume]), &json!([]))).await.unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
        };
        check(
            json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }),
            "persistentVolumeClaim volumes are not supported",
        )
        .await;
        check(json!({ "name": "v", "csi": { "driver": "d" } }), "csi volumes are not supported").await;
        check(json!({ "name": "v", "secret": { "secretName": "s" } }), "secret \"s\" not found").await;
        check(json!({ "name": "../v", "emptyDir": {} }), "must be a file name").await;
        check(
            json!({ "name": "v", "projected": { "sources": [{ "clusterTrustBundle": { "path": "p" } }] } }),
            "clusterTrustBundle",
        )
        .await;
        check(json!({ "name": "v", "downwardAPI": { "items": [{ "path": "../x", "fieldRef": { "fieldPath": "metadata.name" } }] } }), "invalid path").await;
        let error = manager.mount_pod(&pod("../..", &json!([]), &json!([]))).await.unwrap_err();
        assert!(matches!(error, VolumeError::Uid(_)));
    });
}

#[test]
fn orphans_of_a_crash_are_removed_and_others_left() {
    with_manager("orphans", async |manager, _| {
        let volumes = json!([{ "name": "m", "emptyDir": { "medium": "Memory" } }]);
        for uid in ["dead", "alive"] {
            manager.mount_pod(&pod(uid, &volumes, &json!([]))).await.unwrap();
        }
        manager.cleanup_orphans(&BTreeSet::from(["alive".to_owned()])).await.unwrap();
        assert_eq!(manager.pods_on_disk(), ["alive"]);
        let root = manager.root_dir.clone();
        assert_eq!(mounts::list().unwrap().iter().filter(|m| m.mount_point.starts_with(&root)).count(), 1);
        manager.unmount_pod("alive").await.unwrap();
    });
}
