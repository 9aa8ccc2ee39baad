//! The connection: endpoints, channel, time limits. The calls stand in `service.rs` and `images.rs`.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::error::{EndpointError, RuntimeError};
use crate::{CRI_API_VERSION, MAX_MESSAGE_BYTES};

/// How to reach the runtime.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// `unix:///run/containerd/containerd.sock`, or a bare absolute path.
    pub endpoint: String,
    /// Where images are served, if not by the same socket.
    pub image_endpoint: Option<String>,
    /// Limit of a call that has none of its own (`runtimeRequestTimeout`, 2 minutes upstream).
    pub request_timeout: Duration,
    /// Limit of one image pull, whatever its size (upstream: no progress for a minute; the runtime watches that).
    pub pull_timeout: Duration,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            endpoint: "unix:///run/containerd/containerd.sock".to_owned(),
            image_endpoint: None,
            request_timeout: Duration::from_secs(120),
            pull_timeout: Duration::from_secs(3600),
        }
    }
}

/// What `pull_image` needs: the reference and how to authenticate.
#[derive(Clone, Debug, Default)]
pub struct ImagePull {
    /// Normalized reference.
    pub image: String,
    pub auth: Option<k8s_cri::v1::AuthConfig>,
    pub sandbox: Option<k8s_cri::v1::PodSandboxConfig>,
}

/// A cheap handle on the runtime; clones share one connection, which is made on first use and
/// remade after the runtime went away.
#[derive(Clone, Debug)]
pub struct RuntimeClient {
    pub(crate) runtime: RuntimeServiceClient<Channel>,
    pub(crate) images: ImageServiceClient<Channel>,
    pub(crate) options: RuntimeOptions,
}

impl RuntimeClient {
    /// A client for `options`; does not connect yet, so it can't fail on a runtime that is away.
    /// Must be called within a tokio runtime.
    pub fn new(options: RuntimeOptions) -> Result<Self, EndpointError> {
        let channel = channel(socket_path(&options.endpoint)?);
        let image_channel = match &options.image_endpoint {
            Some(endpoint) if *endpoint != options.endpoint => channel_for(endpoint)?,
            _ => channel.clone(),
        };
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            images: ImageServiceClient::new(image_channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            options,
        })
    }

    /// The configured endpoint, as messages name it.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.options.endpoint
    }

    /// Bounds a call and gives its failure a context.
    pub(crate) async fn bounded<T>(
        &self,
        call: &'static str,
        limit: Duration,
        answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, RuntimeError> {
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(RuntimeError::call(call, &status)),
            Err(_) => Err(RuntimeError::Deadline {
                call,
                endpoint: self.options.endpoint.clone(),
                limit_ms: limit.as_millis(),
            }),
        }
    }

    /// Name and version of the runtime; an error where it does not speak CRI v1.
    pub async fn check_version(&self) -> Result<k8s_cri::v1::VersionResponse, RuntimeError> {
        let version = self.version().await?;
        if version.runtime_api_version != CRI_API_VERSION {
            return Err(RuntimeError::Version {
                endpoint: self.options.endpoint.clone(),
                name: version.runtime_name,
                version: version.runtime_api_version,
            });
        }
        Ok(version)
    }
}

fn channel_for(endpoint: &str) -> Result<Channel, EndpointError> {
    Ok(channel(socket_path(endpoint)?))
}

fn socket_path(endpoint: &str) -> Result<PathBuf, EndpointError> {
    let path = match endpoint.split_once("://") {
        Some(("unix", path)) => path,
        Some(_) => {
            return Err(EndpointError::NotUnix { endpoint: endpoint.to_owned() });
        }
        None => endpoint,
    };
    if !path.starts_with('/') || path.len() < 2 {
        return Err(EndpointError::NotAbsolute { endpoint: endpoint.to_owned() });
    }
    Ok(PathBuf::from(path))
}

fn channel(path: PathBuf) -> Channel {
    // The URI is never resolved: the connector ignores it. It becomes the `:authority` header.
    Endpoint::from_static("http://localhost").connect_timeout(Duration::from_secs(5)).connect_with_connector_lazy(
        tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let check = |endpoint: &str, expect: Result<&str, &str>| match (socket_path(endpoint), expect) {
            (Ok(path), Ok(expect)) => assert_eq!(path.to_str(), Some(expect)),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, expect) => panic!("{endpoint}: {got:?}, expected {expect:?}"),
        };
        check("unix:///run/c.sock", Ok("/run/c.sock"));
        check("/run/c.sock", Ok("/run/c.sock"));
        check("tcp://1.2.3.4:5", Err("not a unix socket"));
        check("unix://run/c.sock", Err("absolute"));
        check("", Err("absolute"));
    }
}
