//! `config.toml` of our containerd, version 2 of its format, which 1.6 to 2.x read.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::instance::Instance;

/// The sandbox image, carried inside this program.
const PAUSE_IMAGE: &str = "orlop.local/pause:1.0";

/// Where distributions put the CNI plugins.
const CNI_BIN_DIRS: &[&str] = &["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// What differs between nodes.
#[derive(Clone, Debug)]
pub(crate) struct ContainerdConfig {
    pub(crate) systemd_cgroup: bool,
    /// Without CAP_SYS_RESOURCE a negative `oom_score_adj` makes every sandbox fail.
    pub(crate) restrict_oom_score_adj: bool,
    pub(crate) cni_bin_dir: PathBuf,
}

impl ContainerdConfig {
    pub(crate) fn detect(systemd_cgroup: bool) -> Result<Self> {
        Ok(Self { systemd_cgroup, restrict_oom_score_adj: !has_sys_resource(), cni_bin_dir: cni_bin_dir()? })
    }

    pub(crate) fn render(&self, instance: &Instance) -> String {
        let path = |p: PathBuf| toml_string(&p);
        format!(
            r#"# Written by orlop at every start; changes are lost.
version = 2
root = {root}
state = {state}
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = {socket}

[debug]
  level = "warn"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = {oom}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  tolerate_missing_hugetlb_controller = true
  disable_tcp_service = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = {cni_bin}
  conf_dir = {cni_conf}
  max_conf_num = 1

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = {systemd}
"#,
            root = path(instance.containerd_dir().join("root")),
            state = path(instance.run_dir().join("containerd")),
            socket = path(instance.containerd_socket()),
            oom = self.restrict_oom_score_adj,
            cni_bin = toml_string(&self.cni_bin_dir),
            cni_conf = path(instance.cni_conf_dir()),
            systemd = self.systemd_cgroup,
        )
    }
}

/// TOML's basic strings escape like JSON's.
fn toml_string(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy().into_owned()).to_string()
}

fn cni_bin_dir() -> Result<PathBuf> {
    match CNI_BIN_DIRS.iter().map(Path::new).find(|d| d.join("bridge").is_file()) {
        Some(dir) => Ok(dir.to_owned()),
        None => bail!(
            "there are no CNI plugins: `bridge` is in none of {} (Debian: apt-get install containernetworking-plugins)",
            CNI_BIN_DIRS.join(", ")
        ),
    }
}

/// CAP_SYS_RESOURCE is bit 24 of the effective set.
fn has_sys_resource() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:").and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()))
        .is_none_or(|set| set & (1 << 24) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_stay_one_string() {
        let instance = Instance::new(Path::new("/a \"b\"")).unwrap();
        let config = ContainerdConfig {
            systemd_cgroup: true,
            restrict_oom_score_adj: false,
            cni_bin_dir: "/opt/cni/bin".into(),
        };
        let text = config.render(&instance);
        assert!(text.contains(r#"root = "/a \"b\"/containerd/root""#), "{text}");
        assert!(text.contains("SystemdCgroup = true"));
        assert!(text.contains("restrict_oom_score_adj = false"));
    }
}
