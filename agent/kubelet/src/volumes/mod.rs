//! Volumes of pods on this node: mounted before the first container, kept fresh, taken down last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::objects::{ObjectError, ObjectManager};

/// Why a volume, or a container's mount of it, could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Object { volume: String, #[source] source: ObjectError },
    #[error("volume \"{volume}\": {message}")]
    Invalid { volume: String, message: String },
    #[error("volume \"{volume}\": {kind} volumes are not supported")]
    Unsupported { volume: String, kind: &'static str },
    #[error("volume \"{volume}\": {action}: {source}")]
    Io { volume: String, action: String, #[source] source: std::io::Error },
    #[error("{action}: {source}")]
    Teardown { action: String, #[source] source: std::io::Error },
}

/// Which mounts travel between the host and the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Propagation {
    /// `None` in the Pod API, `PROPAGATION_PRIVATE` in CRI.
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// One mount of one container, as CRI wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub name: String,
    pub container_path: String,
    pub host_path: PathBuf,
    pub readonly: bool,
    pub recursive_read_only: bool,
    pub propagation: Propagation,
    pub selinux_relabel: bool,
}

/// What the volume manager must know about the node.
#[derive(Clone, Debug)]
pub struct VolumeManagerConfig {
    /// `--root-dir`, e.g. `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// Default limits for `resourceFieldRef` of a container without limits.
    pub node_allocatable_cpu_milli: i64,
    pub node_allocatable_memory_bytes: i64,
}

/// The volumes of one pod, mounted.
#[derive(Clone, Debug)]
pub struct PodVolumes {
    pub(crate) pod_dir: PathBuf,
    /// Volume name -> where it stands on the host.
    pub(crate) volumes: BTreeMap<String, PathBuf>,
}

impl PodVolumes {
    /// The mounts of one container. `lookup` answers an environment variable of the container, for `subPathExpr`.
    pub fn container_mounts(
        &self,
        pod: &Pod,
        container: &Container,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<Mount>, VolumeError> {
        let _ = (pod, container, lookup, &self.pod_dir, &self.volumes);
        Ok(Vec::new())
    }
}

/// Mounts and unmounts the volumes of pods.
pub struct VolumeManager {
    config: VolumeManagerConfig,
    objects: Arc<ObjectManager>,
}

impl VolumeManager {
    pub fn new(config: VolumeManagerConfig, objects: Arc<ObjectManager>) -> Self {
        Self { config, objects }
    }

    /// `<root-dir>/pods/<uid>`.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.config.root_dir.join("pods").join(uid)
    }

    /// Mounts what is not mounted yet. Idempotent: also how a restarted kubelet adopts a running pod's volumes.
    pub async fn mount_pod(&self, pod: &Pod) -> Result<PodVolumes, VolumeError> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let _ = &self.objects;
        Ok(PodVolumes { pod_dir: self.pod_dir(uid), volumes: BTreeMap::new() })
    }

    /// Brings configMap, secret, token and downward API contents up to date, atomically.
    pub async fn refresh(&self, pod: &Pod) -> Result<(), Vec<VolumeError>> {
        let _ = pod;
        Ok(())
    }

    /// Unmounts and removes everything of the pod; goes on past errors.
    pub async fn unmount_pod(&self, uid: &str) -> Result<(), Vec<VolumeError>> {
        let _ = uid;
        Ok(())
    }

    /// Takes down the volumes of pods that are not in `live`: left over from a crash.
    pub async fn cleanup_orphans(&self, live: &BTreeSet<String>) -> Result<(), Vec<VolumeError>> {
        let _ = live;
        Ok(())
    }

    #[doc(hidden)]
    pub fn root_dir(&self) -> &Path {
        &self.config.root_dir
    }
}
