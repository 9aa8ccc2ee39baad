//! Views on a `Pod`: the few questions that every part of the kubelet asks of one.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};
use k8s_openapi::jiff::Timestamp;

/// Annotation on a mirror pod: the hash of the static pod that it shows.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Annotation on a static pod: its hash, which is its UID.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Annotation: where the pod came from: `file`, `http` or `api`.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation: when the kubelet first saw the pod.
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";

/// Grace period of a pod that names none, seconds.
pub const DEFAULT_GRACE_PERIOD_S: i64 = 30;

/// What kind of container of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    Init,
    Regular,
    Ephemeral,
}

/// Short names for what is deep inside a `Pod`.
pub trait PodExt {
    /// `metadata.uid`; empty if there is none.
    fn uid_str(&self) -> &str;
    fn name_str(&self) -> &str;
    /// `metadata.namespace`, `default` if there is none.
    fn namespace_str(&self) -> &str;
    /// `name_namespace(uid)`: how upstream's messages call a pod.
    fn format(&self) -> String;
    /// `namespace/name`.
    fn key(&self) -> String;
    fn annotation(&self, key: &str) -> Option<&str>;
    /// Comes from a file or URL.
    fn is_static(&self) -> bool;
    /// Is the API server's picture of a static pod.
    fn is_mirror(&self) -> bool;
    fn phase(&self) -> &str;
    fn is_terminal_phase(&self) -> bool;
    fn restart_policy(&self) -> &str;
    fn host_network(&self) -> bool;
    fn grace_period_s(&self) -> i64;
    /// `metadata.deletionGracePeriodSeconds`, where deletion was asked for.
    fn deletion_grace_s(&self) -> Option<i64>;
    fn init_containers(&self) -> &[Container];
    fn containers(&self) -> &[Container];
    fn ephemeral_containers(&self) -> &[EphemeralContainer];
    /// A container of any kind, ephemeral ones as containers.
    fn find_container(&self, name: &str) -> Option<(ContainerKind, Container)>;
}

impl PodExt for Pod {
    fn uid_str(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn name_str(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace_str(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn format(&self) -> String {
        format!("{}_{}({})", self.name_str(), self.namespace_str(), self.uid_str())
    }

    fn key(&self) -> String {
        format!("{}/{}", self.namespace_str(), self.name_str())
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn is_static(&self) -> bool {
        self.annotation(CONFIG_SOURCE).is_some_and(|source| source != "api") && !self.is_mirror()
    }

    fn is_mirror(&self) -> bool {
        self.annotation(CONFIG_MIRROR).is_some()
    }

    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
    }

    fn is_terminal_phase(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    fn restart_policy(&self) -> &str {
        self.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
    }

    fn host_network(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
    }

    fn grace_period_s(&self) -> i64 {
        self.deletion_grace_s()
            .or_else(|| self.spec.as_ref()?.termination_grace_period_seconds)
            .unwrap_or(DEFAULT_GRACE_PERIOD_S)
    }

    fn deletion_grace_s(&self) -> Option<i64> {
        self.metadata.deletion_timestamp.as_ref()?;
        Some(
            self.metadata
                .deletion_grace_period_seconds
                .or_else(|| self.spec.as_ref()?.termination_grace_period_seconds)
                .unwrap_or(DEFAULT_GRACE_PERIOD_S),
        )
    }

    fn init_containers(&self) -> &[Container] {
        self.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
    }

    fn containers(&self) -> &[Container] {
        self.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default()
    }

    fn ephemeral_containers(&self) -> &[EphemeralContainer] {
        self.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default()
    }

    fn find_container(&self, name: &str) -> Option<(ContainerKind, Container)> {
        let by_name = |list: &[Container]| list.iter().find(|c| c.name == name).cloned();
        by_name(self.containers())
            .map(|c| (ContainerKind::Regular, c))
            .or_else(|| by_name(self.init_containers()).map(|c| (ContainerKind::Init, c)))
            .or_else(|| {
                let found = self.ephemeral_containers().iter().find(|c| c.name == name)?;
                Some((ContainerKind::Ephemeral, ephemeral_as_container(found)))
            })
    }
}

/// A sidecar: an init container that goes on running beside the regular ones.
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// An ephemeral container in the shape of any other.
#[must_use]
pub fn ephemeral_as_container(container: &EphemeralContainer) -> Container {
    Container {
        args: container.args.clone(),
        command: container.command.clone(),
        env: container.env.clone(),
        env_from: container.env_from.clone(),
        image: container.image.clone(),
        image_pull_policy: container.image_pull_policy.clone(),
        name: container.name.clone(),
        resources: container.resources.clone(),
        security_context: container.security_context.clone(),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        termination_message_path: container.termination_message_path.clone(),
        termination_message_policy: container.termination_message_policy.clone(),
        tty: container.tty,
        volume_devices: container.volume_devices.clone(),
        volume_mounts: container.volume_mounts.clone(),
        working_dir: container.working_dir.clone(),
        ..Container::default()
    }
}

/// Nanoseconds since 1970, as CRI counts; zero and before are "never".
#[must_use]
pub fn timestamp_from_nanos(nanos: i64) -> Option<Timestamp> {
    if nanos <= 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(nanos)).ok()
}

/// Now, in whole seconds: what a `metav1.Time` can carry.
#[must_use]
pub fn now_seconds() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
