//! Mounts, refreshes and takes down the volumes of pods. One pod at a time holds its own lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use k8s_openapi::api::core::v1::{Pod, Volume};
use orlop_host::mounts;
use orlop_host::safe_path::is_plain_name;

use super::atomic_writer::{self, Payload};
use super::container_mounts::{MountedVolume, PodVolumes};
use super::downward::NodeAllocatable;
use super::error::VolumeError;
use super::{empty_dir, host_path, payload};
use crate::objects::ObjectManager;

/// What the volume manager must know about the node.
#[derive(Clone, Debug)]
pub struct VolumeManagerConfig {
    /// `--root-dir`, e.g. `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// Stands in for limits that a container lacks.
    pub allocatable: NodeAllocatable,
}

/// Mounts and unmounts the volumes of pods.
pub struct VolumeManager {
    root_dir: PathBuf,
    allocatable: NodeAllocatable,
    objects: Arc<ObjectManager>,
    locks: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl VolumeManager {
    /// Resolves symlinks in the root directory once: the kernel lists mounts by real paths.
    pub fn new(config: VolumeManagerConfig, objects: Arc<ObjectManager>) -> Self {
        let root_dir = fs::canonicalize(&config.root_dir).unwrap_or(config.root_dir);
        Self { root_dir, allocatable: config.allocatable, objects, locks: Mutex::default() }
    }

    /// `<root-dir>/pods/<uid>`.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    /// Mounts what is not mounted yet and brings the rest up to date. Idempotent: also how a restarted kubelet adopts a
    /// running pod's volumes.
    pub async fn mount_pod(&self, pod: &Pod) -> Result<PodVolumes, VolumeError> {
        let uid = uid_of(pod)?;
        let lock = self.lock(uid);
        let _held = lock.lock().await;
        let pod_dir = self.pod_dir(uid);
        make_private(&self.root_dir.join("pods"))?;
        make_private(&pod_dir)?;
        let mut mounted = BTreeMap::new();
        for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            mounted.insert(volume.name.clone(), self.mount_volume(pod, &pod_dir, volume).await?);
        }
        Ok(PodVolumes { pod_dir, volumes: mounted })
    }

    /// Brings configMap, secret, token and downward API contents up to date, atomically; goes on past errors.
    pub async fn refresh(&self, pod: &Pod) -> Result<(), Vec<VolumeError>> {
        let uid = uid_of(pod).map_err(|e| vec![e])?;
        let lock = self.lock(uid);
        let _held = lock.lock().await;
        let pod_dir = self.pod_dir(uid);
        let mut errors = Vec::new();
        for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            // A volume that was never mounted, or is gone again, is not brought back here.
            let stands =
                content_plugin(volume).is_some_and(|plugin| volume_dir(&pod_dir, plugin, &volume.name).is_dir());
            if stands {
                errors.extend(self.mount_volume(pod, &pod_dir, volume).await.err());
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Unmounts and removes everything of the pod's directory; goes on past errors.
    pub async fn unmount_pod(&self, uid: &str) -> Result<(), Vec<VolumeError>> {
        if !is_plain_name(uid) {
            return Err(vec![VolumeError::Uid(uid.to_owned())]);
        }
        let lock = self.lock(uid);
        let _held = lock.lock().await;
        self.objects.forget_pod(uid);
        let pod_dir = self.pod_dir(uid);
        blocking(move || take_down(&pod_dir)).await
    }

    /// Takes down the volumes of pods that are not in `live`: left over from a crash, or from while this was not running.
    pub async fn cleanup_orphans(&self, live: &BTreeSet<String>) -> Result<(), Vec<VolumeError>> {
        let mut errors = Vec::new();
        for uid in self.pods_on_disk() {
            if !live.contains(&uid) {
                tracing::info!(uid, "removing the volumes of a pod that is gone");
                errors.extend(self.unmount_pod(&uid).await.err().into_iter().flatten());
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// UIDs that have a directory.
    pub fn pods_on_disk(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root_dir.join("pods")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_plain_name(name)).collect()
    }

    async fn mount_volume(&self, pod: &Pod, pod_dir: &Path, volume: &Volume) -> Result<MountedVolume, VolumeError> {
        if !is_plain_name(&volume.name) {
            return Err(VolumeError::invalid(&volume.name, "the name of a volume must be a file name"));
        }
        if let Some(source) = &volume.host_path {
            let (name, source) = (volume.name.clone(), source.clone());
            let path = blocking(move || host_path::prepare(&name, &source)).await?;
            return Ok(MountedVolume { path, read_only: false, selinux_relabel: false });
        }
        if let Some(source) = &volume.empty_dir {
            let path = volume_dir(pod_dir, "kubernetes.io~empty-dir", &volume.name);
            let (name, source, pod, node, at) =
                (volume.name.clone(), source.clone(), pod.clone(), self.allocatable, path.clone());
            blocking(move || empty_dir::set_up(&name, &source, &pod, node, &at)).await?;
            return Ok(MountedVolume { path, read_only: false, selinux_relabel: true });
        }
        let Some(plugin) = content_plugin(volume) else {
            return Err(VolumeError::Unsupported { volume: volume.name.clone(), kind: kind_of(volume) });
        };
        let sources = payload::Sources { objects: &self.objects, pod, node: self.allocatable };
        let payload = payload::of_volume(&sources, volume).await?.unwrap_or_default();
        let path = volume_dir(pod_dir, plugin, &volume.name);
        let (name, at, group) = (volume.name.clone(), path.clone(), payload::fs_group(pod));
        // Tokens and Secrets never touch a disk.
        let in_memory = volume.secret.is_some() || volume.projected.is_some();
        blocking(move || write_content(&name, &at, &payload, group, in_memory)).await?;
        Ok(MountedVolume { path, read_only: true, selinux_relabel: true })
    }

    fn lock(&self, uid: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(uid).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(uid.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

fn uid_of(pod: &Pod) -> Result<&str, VolumeError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    if is_plain_name(uid) { Ok(uid) } else { Err(VolumeError::Uid(uid.to_owned())) }
}

/// Volumes are open to every user of their pod: the directory above keeps the node's other users out.
fn make_private(dir: &Path) -> Result<(), VolumeError> {
    let made = fs::create_dir_all(dir).and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o750)));
    made.map_err(|source| VolumeError::PodDir { path: dir.to_owned(), source })
}

/// Upstream's directory names: the plugin's name with `/` escaped as `~`.
fn volume_dir(pod_dir: &Path, plugin: &str, volume: &str) -> PathBuf {
    pod_dir.join("volumes").join(plugin).join(volume)
}

/// The plugin of a volume whose content is files that the kubelet writes.
fn content_plugin(volume: &Volume) -> Option<&'static str> {
    if volume.config_map.is_some() {
        Some("kubernetes.io~configmap")
    } else if volume.secret.is_some() {
        Some("kubernetes.io~secret")
    } else if volume.projected.is_some() {
        Some("kubernetes.io~projected")
    } else if volume.downward_api.is_some() {
        Some("kubernetes.io~downward-api")
    } else {
        None
    }
}

/// The kind of a volume that is not supported, as its field is named.
fn kind_of(volume: &Volume) -> &'static str {
    let kinds = [
        (volume.persistent_volume_claim.is_some(), "persistentVolumeClaim"),
        (volume.csi.is_some(), "csi"),
        (volume.ephemeral.is_some(), "ephemeral"),
        (volume.image.is_some(), "image"),
        (volume.nfs.is_some(), "nfs"),
        (volume.iscsi.is_some(), "iscsi"),
        (volume.fc.is_some(), "fc"),
        (volume.flex_volume.is_some(), "flexVolume"),
        (volume.git_repo.is_some(), "gitRepo"),
    ];
    kinds.iter().find(|(is, _)| *is).map_or("this kind of", |(_, kind)| kind)
}

fn write_content(
    volume: &str,
    path: &Path,
    payload: &Payload,
    group: Option<u32>,
    in_memory: bool,
) -> Result<(), VolumeError> {
    let io = |action: &str| VolumeError::io(volume, format!("{action} {}", path.display()));
    fs::create_dir_all(path).map_err(io("create"))?;
    if in_memory && !mounts::is_mount_point(path).map_err(io("inspect"))? {
        mounts::tmpfs(path, None, 0o1777, true).map_err(io("mount tmpfs on"))?;
    }
    let mode = fs::metadata(path).map_err(io("stat"))?.permissions().mode();
    if mode & 0o777 != 0o777 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(io("chmod"))?;
    }
    atomic_writer::write(path, payload, group, &stamp()).map_err(io("write"))?;
    Ok(())
}

/// `2026_01_31_12_00_00.123456789`: the directory name that upstream's writer uses.
fn stamp() -> String {
    jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f").to_string()
}

/// Unmounts all below `pod_dir`, then removes it. As long as anything is mounted below, nothing is removed: it could be
/// somebody else's data.
fn take_down(pod_dir: &Path) -> Result<(), Vec<VolumeError>> {
    let teardown = |action: String, source: io::Error| VolumeError::Teardown { action, source };
    let mut errors: Vec<VolumeError> = Vec::new();
    if let Err(failed) = mounts::unmount_below(pod_dir) {
        errors.extend(failed.into_iter().map(|(path, e)| teardown(format!("unmount {}", path.display()), e)));
    }
    match mounts::list() {
        Ok(all) if all.iter().any(|m| m.mount_point.starts_with(pod_dir)) => {
            let busy = io::Error::new(io::ErrorKind::ResourceBusy, "something is still mounted below it");
            errors.push(teardown(format!("remove {}", pod_dir.display()), busy));
        }
        Ok(_) => match fs::remove_dir_all(pod_dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                errors.push(teardown(format!("remove {}", pod_dir.display()), error));
            }
            _ => {}
        },
        Err(error) => errors.push(teardown("list mounts".to_owned(), error)),
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Runs file system work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the runtime is shutting down, and nobody waits for the answer any more.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
