//! The sandbox's and the containers' configuration for CRI: pure, from what was gathered before.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use orlop_runtime::cri;

use super::dns::{self, NodeDns};
use super::env::Environment;
use super::labels;
use super::security::{self, SecurityError};
use crate::container_manager::ContainerResources;
use crate::pod::PodExt;
use crate::volumes::{Mount, Propagation};

/// `NAMESPACE_NAME_UID`, the name of a pod's log directory.
#[must_use]
pub fn pod_log_dir(logs_dir: &Path, pod: &Pod) -> PathBuf {
    logs_dir.join(format!("{}_{}_{}", pod.namespace_str(), pod.name_str(), pod.uid_str()))
}

/// `NAME/N.log`, below the pod's log directory.
#[must_use]
pub fn container_log_path(name: &str, restart_count: i32) -> String {
    format!("{name}/{restart_count}.log")
}

/// The sandbox.
pub fn sandbox_config(
    pod: &Pod,
    attempt: u32,
    node_dns: &NodeDns,
    logs_dir: &Path,
    cgroup_parent: String,
    seccomp_dir: &Path,
) -> Result<cri::PodSandboxConfig, SecurityError> {
    let (hostname, domain) = dns::hostname(pod, &node_dns.cluster_domain);
    let fqdn = pod.spec.as_ref().and_then(|s| s.set_hostname_as_fqdn).unwrap_or(false) && !domain.is_empty();
    let hostname = match (pod.host_network(), fqdn) {
        // In the host's UTS namespace the name is the host's.
        (true, _) => String::new(),
        (false, true) => format!("{hostname}.{domain}"),
        (false, false) => hostname,
    };
    let sysctls: HashMap<String, String> = pod
        .spec
        .as_ref()
        .and_then(|s| s.security_context.as_ref()?.sysctls.as_ref())
        .into_iter()
        .flatten()
        .map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone()))
        .collect();
    Ok(cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod.name_str().to_owned(),
            namespace: pod.namespace_str().to_owned(),
            uid: pod.uid_str().to_owned(),
            attempt,
        }),
        hostname,
        log_directory: pod_log_dir(logs_dir, pod).to_string_lossy().into_owned(),
        dns_config: Some(dns::pod_dns(pod, node_dns)),
        port_mappings: port_mappings(pod),
        labels: labels::sandbox_labels(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent,
            security_context: Some(security::sandbox_context(pod, seccomp_dir)?),
            sysctls,
            ..Default::default()
        }),
        windows: None,
    })
}

fn port_mappings(pod: &Pod) -> Vec<cri::PortMapping> {
    if pod.host_network() {
        // The ports are the host's already.
        return Vec::new();
    }
    let sidecars = pod.init_containers().iter().filter(|c| crate::pod::is_sidecar(c));
    pod.containers()
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.as_deref().unwrap_or_default())
        .map(|port| cri::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp,
                Some("SCTP") => cri::Protocol::Sctp,
                _ => cri::Protocol::Tcp,
            }
            .into(),
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// What a container's configuration is made from.
#[derive(Debug)]
pub struct ContainerInputs<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub restart_count: i32,
    /// The runtime's reference of the image.
    pub image_ref: String,
    pub image: Option<&'a cri::Image>,
    pub env: &'a Environment,
    pub mounts: Vec<Mount>,
    /// `/etc/hosts` made by us, where no volume of the user's is there.
    pub hosts_file: Option<PathBuf>,
    /// Fresh file behind `terminationMessagePath`.
    pub termination_file: Option<PathBuf>,
    pub resources: ContainerResources,
    pub seccomp_dir: &'a Path,
    /// For ephemeral containers: the container whose processes they see.
    pub target_id: Option<String>,
}

/// One container.
pub fn container_config(inputs: ContainerInputs<'_>) -> Result<cri::ContainerConfig, SecurityError> {
    let ContainerInputs { pod, container, restart_count, env, .. } = inputs;
    let expand = |list: &Option<Vec<String>>| list.iter().flatten().map(|text| env.expand(text)).collect::<Vec<_>>();
    let security =
        security::container_context(pod, container, inputs.target_id.as_deref(), inputs.seccomp_dir, inputs.image)?;
    let mut mounts: Vec<cri::Mount> = inputs.mounts.iter().map(cri_mount).collect();
    if let Some(hosts) = &inputs.hosts_file
        && !mounts.iter().any(|m| m.container_path == "/etc/hosts")
    {
        mounts.push(plain_mount("/etc/hosts", hosts));
    }
    let message_path = container.termination_message_path.as_deref().unwrap_or_default();
    if let Some(file) = &inputs.termination_file
        && !message_path.is_empty()
    {
        mounts.push(plain_mount(message_path, file));
    }
    let image = container.image.clone().unwrap_or_default();
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: container.name.clone(),
            attempt: u32::try_from(restart_count).unwrap_or(0),
        }),
        image: Some(cri::ImageSpec { image: inputs.image_ref, user_specified_image: image, ..Default::default() }),
        command: expand(&container.command),
        args: expand(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: env.iter().map(|(key, value)| cri::KeyValue { key: key.to_owned(), value: value.to_owned() }).collect(),
        mounts,
        labels: labels::container_labels(pod, container),
        annotations: labels::container_annotations(pod, container, restart_count),
        log_path: container_log_path(&container.name, restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(cri_resources(&inputs.resources)),
            security_context: Some(security),
        }),
        ..Default::default()
    })
}

fn plain_mount(container_path: &str, host_path: &Path) -> cri::Mount {
    cri::Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.to_string_lossy().into_owned(),
        ..Default::default()
    }
}

fn cri_mount(mount: &Mount) -> cri::Mount {
    cri::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.to_string_lossy().into_owned(),
        readonly: mount.readonly,
        recursive_read_only: mount.recursive_read_only,
        selinux_relabel: mount.selinux_relabel,
        propagation: match mount.propagation {
            Propagation::Private => cri::MountPropagation::PropagationPrivate,
            Propagation::HostToContainer => cri::MountPropagation::PropagationHostToContainer,
            Propagation::Bidirectional => cri::MountPropagation::PropagationBidirectional,
        }
        .into(),
        ..Default::default()
    }
}

/// Grants in CRI's shape.
#[must_use]
pub fn cri_resources(resources: &ContainerResources) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit_in_bytes,
        memory_swap_limit_in_bytes: resources.memory_swap_limit_in_bytes,
        oom_score_adj: resources.oom_score_adj,
        hugepage_limits: resources
            .hugepage_limits
            .iter()
            .map(|(page_size, limit)| cri::HugepageLimit { page_size: page_size.clone(), limit: *limit })
            .collect(),
        unified: resources.unified.clone().into_iter().collect(),
        ..Default::default()
    }
}
