//! emptyDir volumes: a directory, a tmpfs, or huge pages.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use orlop_host::mounts;

use super::downward::NodeAllocatable;
use super::error::VolumeError;
use crate::container_manager::{pod_limits, value};

/// Every user of the pod may write; upstream's mode.
const MODE: u32 = 0o777;

/// Makes the volume at `path`; leaves one alone that stands.
pub(super) fn set_up(
    volume: &str,
    source: &EmptyDirVolumeSource,
    pod: &Pod,
    node: NodeAllocatable,
    path: &Path,
) -> Result<(), VolumeError> {
    let io = |action: &str| VolumeError::io(volume, format!("{action} {}", path.display()));
    fs::create_dir_all(path).map_err(io("create"))?;
    let mounted = mounts::is_mount_point(path).map_err(io("inspect"))?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            if !mounted {
                mounts::tmpfs(path, memory_size(source, pod, node), 0o1777, true).map_err(io("mount tmpfs on"))?;
            }
        }
        medium if medium == "HugePages" || medium.starts_with("HugePages-") => {
            if !mounted {
                let size = huge_page_size(volume, medium, pod)?;
                mounts::mount_fs("nodev", path, "hugetlbfs", &format!("pagesize={size}"))
                    .map_err(io("mount hugetlbfs on"))?;
            }
        }
        other => return Err(VolumeError::invalid(volume, format!("unknown storage medium {other:?}"))),
    }
    let current = fs::metadata(path).map_err(io("stat"))?.permissions().mode();
    if current & 0o777 != MODE {
        fs::set_permissions(path, fs::Permissions::from_mode((current & 0o7000) | MODE)).map_err(io("chmod"))?;
    }
    if let Some(group) = super::payload::fs_group(pod) {
        chown(path, None, Some(group)).map_err(io("chown"))?;
        let mode = fs::metadata(path).map_err(io("stat"))?.permissions().mode() & 0o7777;
        fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o2000)).map_err(io("chmod"))?;
    }
    Ok(())
}

/// The least of the node's memory, the pod's memory limit and `sizeLimit` (KEP-1967).
fn memory_size(source: &EmptyDirVolumeSource, pod: &Pod, node: NodeAllocatable) -> Option<u64> {
    let limit = pod_limits(pod).get("memory").copied();
    let candidates = [Some(node.memory_bytes), limit, source.size_limit.as_ref().map(value)];
    candidates.into_iter().flatten().filter(|bytes| *bytes > 0).min().and_then(|bytes| u64::try_from(bytes).ok())
}

/// `2M`, as hugetlbfs wants it: from the medium's name, or the one size that the pod asks for.
fn huge_page_size(volume: &str, medium: &str, pod: &Pod) -> Result<String, VolumeError> {
    let named = medium.strip_prefix("HugePages-").map(str::to_owned);
    let size = match named {
        Some(size) => size,
        None => {
            let limits = pod_limits(pod);
            let mut sizes = limits.keys().filter_map(|name| name.strip_prefix("hugepages-"));
            match (sizes.next(), sizes.next()) {
                (Some(size), None) => size.to_owned(),
                (None, _) => return Err(VolumeError::invalid(volume, "medium HugePages without hugepages requests")),
                _ => return Err(VolumeError::invalid(volume, "medium HugePages with several page sizes in the pod")),
            }
        }
    };
    let plain = size.chars().all(|c| c.is_ascii_alphanumeric());
    if !plain {
        return Err(VolumeError::invalid(volume, format!("{medium:?} names no page size")));
    }
    Ok(size.trim_end_matches('i').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tmpfs_is_as_large_as_the_tightest_bound() {
        let check = |limit: Option<&str>, pod_limit: Option<&str>, want| {
            let source: EmptyDirVolumeSource = serde_json::from_value(json!({ "sizeLimit": limit })).unwrap();
            let resources = pod_limit.map_or(json!({}), |l| json!({ "limits": { "memory": l } }));
            let pod: Pod =
                serde_json::from_value(json!({ "spec": { "containers": [{ "name": "a", "resources": resources }] } }))
                    .unwrap();
            let node = NodeAllocatable { memory_bytes: 1000, ..NodeAllocatable::default() };
            assert_eq!(memory_size(&source, &pod, node), Some(want));
        };
        check(None, None, 1000);
        check(Some("10"), None, 10);
        check(Some("10"), Some("5"), 5);
        check(Some("5000"), None, 1000);
    }
}
