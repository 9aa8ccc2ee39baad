//! Security contexts in CRI's terms: namespaces, users, capabilities, profiles, masked paths.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, SecurityContext};
use orlop_runtime::cri;

use crate::pod::PodExt;

/// Why a security context can't be honoured (`CreateContainerConfigError`): it fails closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    #[error("localhostProfile must be set if seccompProfile type is Localhost.")]
    SeccompProfile,
    #[error("seccomp localhostProfile {0:?} must be a relative path below the profile directory")]
    SeccompPath(String),
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    RunsAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    UserName { pod: String, container: String, user: String },
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    AsksForRoot { pod: String, container: String },
}

const MASKED: [&str; 13] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/interrupts",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Namespaces that the pod shares. `target` is the container whose processes an ephemeral container sees.
#[must_use]
pub fn namespaces(pod: &Pod, target: Option<&str>) -> cri::NamespaceOption {
    let spec = pod.spec.as_ref();
    let flag = |value: Option<bool>| value.unwrap_or(false);
    let pid = if let Some(target) = target {
        return cri::NamespaceOption {
            pid: cri::NamespaceMode::Target.into(),
            target_id: target.to_owned(),
            ..namespaces(pod, None)
        };
    } else if flag(spec.and_then(|s| s.host_pid)) {
        cri::NamespaceMode::Node
    } else if flag(spec.and_then(|s| s.share_process_namespace)) {
        cri::NamespaceMode::Pod
    } else {
        cri::NamespaceMode::Container
    };
    let node_or_pod = |node: bool| if node { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod };
    cri::NamespaceOption {
        network: node_or_pod(pod.host_network()).into(),
        ipc: node_or_pod(flag(spec.and_then(|s| s.host_ipc))).into(),
        pid: pid.into(),
        ..Default::default()
    }
}

/// A privileged container needs a privileged sandbox.
#[must_use]
pub fn has_privileged(pod: &Pod) -> bool {
    pod.init_containers()
        .iter()
        .chain(pod.containers())
        .any(|c| c.security_context.as_ref().and_then(|s| s.privileged).unwrap_or(false))
}

fn seccomp(kind: &str, localhost: Option<&str>, dir: &Path) -> Result<cri::SecurityProfile, SecurityError> {
    use cri::security_profile::ProfileType;
    Ok(match kind {
        "RuntimeDefault" => profile(ProfileType::RuntimeDefault, String::new()),
        "Localhost" => {
            let name = localhost.filter(|name| !name.is_empty()).ok_or(SecurityError::SeccompProfile)?;
            let relative = Path::new(name);
            let inside = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !inside {
                return Err(SecurityError::SeccompPath(name.to_owned()));
            }
            profile(ProfileType::Localhost, dir.join(relative).to_string_lossy().into_owned())
        }
        _ => profile(ProfileType::Unconfined, String::new()),
    })
}

fn profile(kind: cri::security_profile::ProfileType, localhost_ref: String) -> cri::SecurityProfile {
    cri::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

/// The sandbox's own context.
pub fn sandbox_context(pod: &Pod, seccomp_dir: &Path) -> Result<cri::LinuxSandboxSecurityContext, SecurityError> {
    let own = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let value = |number: Option<i64>| number.map(|value| cri::Int64Value { value });
    let mut groups: Vec<i64> = own.and_then(|s| s.fs_group).into_iter().collect();
    groups.extend(own.and_then(|s| s.supplemental_groups.clone()).unwrap_or_default());
    // Upstream runs the pause container under the runtime's profile whatever the pod says, unless it is privileged.
    let _ = seccomp_dir;
    Ok(cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, None)),
        run_as_user: value(own.and_then(|s| s.run_as_user)),
        run_as_group: value(own.and_then(|s| s.run_as_group).filter(|_| own.is_some_and(|s| s.run_as_user.is_some()))),
        supplemental_groups: groups,
        supplemental_groups_policy: groups_policy(own.and_then(|s| s.supplemental_groups_policy.as_deref())),
        privileged: has_privileged(pod),
        seccomp: Some(profile(cri::security_profile::ProfileType::RuntimeDefault, String::new())),
        selinux_options: own.and_then(|s| s.se_linux_options.as_ref()).map(|o| cri::SeLinuxOption {
            user: o.user.clone().unwrap_or_default(),
            role: o.role.clone().unwrap_or_default(),
            r#type: o.type_.clone().unwrap_or_default(),
            level: o.level.clone().unwrap_or_default(),
        }),
        ..Default::default()
    })
}

fn groups_policy(policy: Option<&str>) -> i32 {
    if policy == Some("Strict") { cri::SupplementalGroupsPolicy::Strict } else { cri::SupplementalGroupsPolicy::Merge }
        .into()
}

/// The container's context, what it does not say itself taken from the pod's.
pub fn container_context(
    pod: &Pod,
    container: &Container,
    target: Option<&str>,
    seccomp_dir: &Path,
    image: Option<&cri::Image>,
) -> Result<cri::LinuxContainerSecurityContext, SecurityError> {
    let default = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&default);
    let of_pod = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let run_as_user = own.run_as_user.or_else(|| of_pod?.run_as_user);
    let run_as_group = own.run_as_group.or_else(|| of_pod?.run_as_group);
    let image_uid = image.and_then(|i| i.uid.as_ref()).map(|uid| uid.value);
    let image_user = image.map(|i| i.username.as_str()).filter(|name| !name.is_empty());
    if own.run_as_non_root.or_else(|| of_pod?.run_as_non_root) == Some(true) {
        check_non_root(pod, container, run_as_user, image_uid, image_user)?;
    }
    let privileged = own.privileged.unwrap_or(false);
    let seccomp_profile = own.seccomp_profile.as_ref().or_else(|| of_pod?.seccomp_profile.as_ref());
    let seccomp = match seccomp_profile {
        Some(wanted) => seccomp(&wanted.type_, wanted.localhost_profile.as_deref(), seccomp_dir)?,
        None => profile(cri::security_profile::ProfileType::Unconfined, String::new()),
    };
    let apparmor = own.app_armor_profile.as_ref().or_else(|| of_pod?.app_armor_profile.as_ref()).map(|wanted| {
        use cri::security_profile::ProfileType;
        match wanted.type_.as_str() {
            "RuntimeDefault" => profile(ProfileType::RuntimeDefault, String::new()),
            "Localhost" => profile(ProfileType::Localhost, wanted.localhost_profile.clone().unwrap_or_default()),
            _ => profile(ProfileType::Unconfined, String::new()),
        }
    });
    let mut groups: Vec<i64> = of_pod.and_then(|s| s.fs_group).into_iter().collect();
    groups.extend(of_pod.and_then(|s| s.supplemental_groups.clone()).unwrap_or_default());
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|&p| p.to_owned()).collect() };
    Ok(cri::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|c| cri::Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(namespaces(pod, target)),
        // An image's numeric user is handed over too, as upstream does; its name goes by the runtime.
        run_as_user: run_as_user.or(image_uid.filter(|_| image_user.is_none())).map(|value| cri::Int64Value { value }),
        run_as_username: if run_as_user.is_none() { image_user.unwrap_or_default().to_owned() } else { String::new() },
        run_as_group: run_as_group.map(|value| cri::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups,
        supplemental_groups_policy: groups_policy(of_pod.and_then(|s| s.supplemental_groups_policy.as_deref())),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp),
        apparmor,
        selinux_options: own.se_linux_options.as_ref().or_else(|| of_pod?.se_linux_options.as_ref()).map(|o| {
            cri::SeLinuxOption {
                user: o.user.clone().unwrap_or_default(),
                role: o.role.clone().unwrap_or_default(),
                r#type: o.type_.clone().unwrap_or_default(),
                level: o.level.clone().unwrap_or_default(),
            }
        }),
        ..Default::default()
    })
}

fn check_non_root(
    pod: &Pod,
    container: &Container,
    run_as_user: Option<i64>,
    image_uid: Option<i64>,
    image_user: Option<&str>,
) -> Result<(), SecurityError> {
    let (pod, container) = (pod.format(), container.name.clone());
    match (run_as_user, image_uid, image_user) {
        (Some(0), _, _) => Err(SecurityError::AsksForRoot { pod, container }),
        (Some(_), _, _) => Ok(()),
        (None, _, Some(user)) => Err(SecurityError::UserName { pod, container, user: user.to_owned() }),
        (None, Some(uid), None) if uid != 0 => Ok(()),
        (None, _, None) => Err(SecurityError::RunsAsRoot { pod, container }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodSpec, SeccompProfile};

    #[test]
    fn seccomp_fails_closed() {
        let pod = Pod { spec: Some(PodSpec::default()), ..Default::default() };
        let with = |kind: &str, localhost: Option<&str>| Container {
            security_context: Some(SecurityContext {
                seccomp_profile: Some(SeccompProfile {
                    type_: kind.into(),
                    localhost_profile: localhost.map(str::to_owned),
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let check = |kind: &str, localhost: Option<&str>| {
            container_context(&pod, &with(kind, localhost), None, Path::new("/s"), None)
                .map(|context| context.seccomp.unwrap().localhost_ref)
        };
        assert_eq!(check("RuntimeDefault", None), Ok(String::new()));
        assert_eq!(check("Localhost", Some("a/b.json")), Ok("/s/a/b.json".to_owned()));
        assert_eq!(check("Localhost", Some("")), Err(SecurityError::SeccompProfile));
        assert_eq!(check("Localhost", Some("../x")), Err(SecurityError::SeccompPath("../x".into())));
        assert_eq!(check("Localhost", Some("/x")), Err(SecurityError::SeccompPath("/x".into())));
    }

    #[test]
    fn non_root_is_checked() {
        let pod = Pod { spec: Some(PodSpec::default()), ..Default::default() };
        let check = |user: Option<i64>, image: cri::Image| {
            let container = Container {
                security_context: Some(SecurityContext {
                    run_as_non_root: Some(true),
                    run_as_user: user,
                    ..Default::default()
                }),
                ..Default::default()
            };
            container_context(&pod, &container, None, Path::new("/s"), Some(&image)).is_ok()
        };
        let image = |uid: Option<i64>, name: &str| cri::Image {
            uid: uid.map(|value| cri::Int64Value { value }),
            username: name.into(),
            ..Default::default()
        };
        assert!(check(Some(5), image(None, "")));
        assert!(!check(Some(0), image(None, "")));
        assert!(check(None, image(Some(7), "")));
        assert!(!check(None, image(Some(0), "")));
        assert!(!check(None, image(None, "nginx")));
        assert!(!check(None, image(None, "")));
    }
}
