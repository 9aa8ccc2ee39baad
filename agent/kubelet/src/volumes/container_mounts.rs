//! From a container's `volumeMounts` to the mounts that the runtime makes, sub-paths resolved safely.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, VolumeMount};
use nix::sys::stat::fstat;
use orlop_host::mounts::{self, BindOptions};
use orlop_host::safe_path::{SafeRoot, Symlinks, proc_path};

use super::error::VolumeError;
use super::expansion::expand;

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
    /// Name of the volume.
    pub name: String,
    pub container_path: String,
    pub host_path: PathBuf,
    pub readonly: bool,
    /// `recursiveReadOnly: Enabled`.
    pub recursive_read_only: bool,
    /// `recursiveReadOnly: IfPossible`: the caller knows whether the runtime handler can.
    pub recursive_read_only_if_possible: bool,
    pub propagation: Propagation,
    pub selinux_relabel: bool,
}

/// The volumes of one pod, mounted.
#[derive(Clone, Debug)]
pub struct PodVolumes {
    pub(super) pod_dir: PathBuf,
    /// Volume name -> where it stands on the host.
    pub(super) volumes: BTreeMap<String, MountedVolume>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountedVolume {
    pub(super) path: PathBuf,
    /// A kind that is always read-only for containers: projected, configMap, secret, downwardAPI.
    pub(super) read_only: bool,
    pub(super) selinux_relabel: bool,
}

impl PodVolumes {
    /// The mounts of one container. `lookup` answers an environment variable of the container, for `subPathExpr`.
    pub fn container_mounts(
        &self,
        container: &Container,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<Mount>, VolumeError> {
        let wanted = container.volume_mounts.iter().flatten().enumerate();
        wanted.map(|(index, mount)| self.container_mount(container, index, mount, lookup)).collect()
    }

    /// Where a volume stands on the host.
    pub fn host_path(&self, volume: &str) -> Option<&Path> {
        self.volumes.get(volume).map(|v| v.path.as_path())
    }

    fn container_mount(
        &self,
        container: &Container,
        index: usize,
        mount: &VolumeMount,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Mount, VolumeError> {
        let volume = self
            .volumes
            .get(&mount.name)
            .ok_or_else(|| VolumeError::NotMounted { volume: mount.name.clone(), container: container.name.clone() })?;
        let fail = |message: String| VolumeError::SubPath {
            volume: mount.name.clone(),
            container: container.name.clone(),
            message,
        };
        let sub_path = match (mount.sub_path.as_deref(), mount.sub_path_expr.as_deref()) {
            (Some(sub), _) if !sub.is_empty() => Some(sub.to_owned()),
            (_, Some(expression)) if !expression.is_empty() => Some(
                expand(expression, lookup)
                    .map_err(|name| fail(format!("missing value for {name:?} in subPathExpr")))?,
            ),
            _ => None,
        };
        let host_path = match sub_path {
            None => volume.path.clone(),
            Some(sub) => {
                check_sub_path(&sub).map_err(&fail)?;
                let place =
                    SubPathPlace { pod_dir: &self.pod_dir, volume: &mount.name, container: &container.name, index };
                bind_sub_path(&volume.path, Path::new(&sub), &place).map_err(|error| fail(error.to_string()))?
            }
        };
        let container_path =
            if mount.mount_path.starts_with('/') { mount.mount_path.clone() } else { format!("/{}", mount.mount_path) };
        let recursive = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
        let readonly = mount.read_only.unwrap_or(false) || volume.read_only;
        Ok(Mount {
            name: mount.name.clone(),
            container_path,
            host_path,
            readonly,
            recursive_read_only: recursive == "Enabled",
            recursive_read_only_if_possible: recursive == "IfPossible",
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::Private,
            },
            selinux_relabel: volume.selinux_relabel,
        })
    }
}

fn check_sub_path(sub: &str) -> Result<(), String> {
    let path = Path::new(sub);
    if path.is_absolute() {
        return Err(format!("error SubPath {sub:?} must not be an absolute path"));
    }
    if path.components().any(|c| matches!(c, Component::ParentDir)) {
        return Err(format!("unable to provision SubPath {sub:?}: must not contain '..'"));
    }
    Ok(())
}

/// `<pod-dir>/volume-subpaths/<volume>/<container>/<index>`: upstream's layout.
struct SubPathPlace<'a> {
    pod_dir: &'a Path,
    volume: &'a str,
    container: &'a str,
    index: usize,
}

/// Binds what `sub` names inside the volume to a place of the kubelet's own. The runtime gets that place: the
/// container may swap the sub-path for a symlink as it likes afterwards.
fn bind_sub_path(volume: &Path, sub: &Path, place: &SubPathPlace<'_>) -> io::Result<PathBuf> {
    // The volume's own path may be any symlink of the host's (hostPath): that much is trusted.
    let root_path = fs::canonicalize(volume)?;
    let root = SafeRoot::open(&root_path)?;
    let source = match root.handle(sub, Symlinks::Beneath) {
        Ok(handle) => handle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Missing directories get the mode of the volume itself.
            let mode = fs::metadata(&root_path)?.mode() & 0o7777;
            root.make_dirs(sub, mode)?
        }
        Err(error) => return Err(error),
    };
    let parent = place.pod_dir.join("volume-subpaths").join(place.volume).join(place.container);
    fs::create_dir_all(&parent)?;
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o750))?;
    let target = parent.join(place.index.to_string());
    if prepare_target(&source, &target)? {
        return Ok(target);
    }
    // Recursive: a sub-path may hold mounts of its own.
    mounts::bind(&proc_path(&source), &target, BindOptions { recursive: true, read_only: false })?;
    Ok(target)
}

/// Makes the mount point; true if the right thing is mounted there already, from before a restart.
fn prepare_target(source: &OwnedFd, target: &Path) -> io::Result<bool> {
    let wanted = fstat(source)?;
    if mounts::is_mount_point(target)? {
        let there = fs::symlink_metadata(target)?;
        if (there.dev(), there.ino()) == (wanted.st_dev, wanted.st_ino) {
            return Ok(true);
        }
        mounts::unmount(target).or_else(|_| mounts::unmount_lazy(target))?;
    }
    let is_dir = wanted.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR;
    match fs::symlink_metadata(target) {
        Ok(there) if there.is_dir() == is_dir => return Ok(false),
        Ok(there) if there.is_dir() => fs::remove_dir(target)?,
        Ok(_) => fs::remove_file(target)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if is_dir {
        fs::create_dir(target)?;
    } else {
        fs::File::options().write(true).create_new(true).open(target)?;
    }
    Ok(false)
}
