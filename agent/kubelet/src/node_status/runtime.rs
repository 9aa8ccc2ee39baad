//! What node status asks of the container runtime.

use std::time::Duration;

use orlop_runtime::{RuntimeClient, cri};

/// A runtime that does not answer its status within this long is down.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// What the runtime says of itself; CRI `Status` and `Version`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeReport {
    /// `name://version`.
    pub version: String,
    /// Why the runtime is not ready; none when it is.
    pub runtime_error: Option<String>,
    /// Why the pod network is not ready; none when it is.
    pub network_error: Option<String>,
    pub handlers: Vec<RuntimeHandlerReport>,
    pub supplemental_groups_policy: bool,
}

/// One runtime handler of the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeHandlerReport {
    pub name: String,
    pub recursive_read_only_mounts: bool,
    pub user_namespaces: bool,
}

/// One image on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageReport {
    /// Digests first, then tags.
    pub names: Vec<String>,
    pub size_bytes: i64,
}

/// The runtime as node status sees it.
#[async_trait::async_trait]
pub trait NodeRuntime: Send + Sync + 'static {
    /// The error is what the Ready condition shows.
    async fn report(&self) -> Result<RuntimeReport, String>;
    async fn images(&self) -> Result<Vec<ImageReport>, String>;
}

#[async_trait::async_trait]
impl NodeRuntime for RuntimeClient {
    async fn report(&self) -> Result<RuntimeReport, String> {
        let both = async { tokio::join!(self.status(false), self.version()) };
        let down = || "container runtime is down".to_owned();
        let (status, version) = tokio::time::timeout(STATUS_LIMIT, both).await.map_err(|_| down())?;
        let (status, version) = match (status, version) {
            (Ok(status), Ok(version)) => (status, version),
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(%error, "the runtime's status is not to be had");
                return Err(down());
            }
        };
        Ok(report_of(&status, &version))
    }

    async fn images(&self) -> Result<Vec<ImageReport>, String> {
        let images = self.list_images().await.map_err(|error| error.to_string())?;
        let report = |image: cri::Image| ImageReport {
            names: image.repo_digests.into_iter().chain(image.repo_tags).collect(),
            size_bytes: i64::try_from(image.size).unwrap_or(i64::MAX),
        };
        Ok(images.into_iter().map(report).collect())
    }
}

/// Conditions in upstream's words: `NetworkReady=false reason:NetworkPluginNotReady message:…`.
fn report_of(status: &cri::StatusResponse, version: &cri::VersionResponse) -> RuntimeReport {
    let conditions = status.status.iter().flat_map(|s| &s.conditions);
    let check = |kind: &str, what: &str| match conditions.clone().find(|c| c.r#type == kind) {
        Some(c) if c.status => None,
        Some(c) => Some(format!("{what} not ready: {kind}={} reason:{} message:{}", c.status, c.reason, c.message)),
        None => Some(format!("{what} not ready: the runtime has no condition {kind}")),
    };
    RuntimeReport {
        version: format!("{}://{}", version.runtime_name, version.runtime_version),
        runtime_error: check("RuntimeReady", "container runtime"),
        network_error: check("NetworkReady", "container runtime network"),
        handlers: status
            .runtime_handlers
            .iter()
            .map(|handler| RuntimeHandlerReport {
                name: handler.name.clone(),
                recursive_read_only_mounts: handler.features.is_some_and(|f| f.recursive_read_only_mounts),
                user_namespaces: handler.features.is_some_and(|f| f.user_namespaces),
            })
            .collect(),
        supplemental_groups_policy: status.features.is_some_and(|f| f.supplemental_groups_policy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_upstreams_words() {
        let condition = |kind: &str, status, reason: &str, message: &str| cri::RuntimeCondition {
            r#type: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let status = cri::StatusResponse {
            status: Some(cri::RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", true, "", ""),
                    condition(
                        "NetworkReady",
                        false,
                        "NetworkPluginNotReady",
                        "Network plugin returns error: cni plugin not initialized",
                    ),
                ],
            }),
            ..cri::StatusResponse::default()
        };
        let version = cri::VersionResponse {
            runtime_name: "containerd".to_owned(),
            runtime_version: "1.6.20".to_owned(),
            ..cri::VersionResponse::default()
        };
        let report = report_of(&status, &version);
        assert_eq!(report.version, "containerd://1.6.20");
        assert_eq!(report.runtime_error, None);
        assert_eq!(
            report.network_error.as_deref(),
            Some(
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                 message:Network plugin returns error: cni plugin not initialized"
            )
        );
    }
}
