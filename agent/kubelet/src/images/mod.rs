//! Images for containers: pull policy, credentials, back-off, a bound on pulls at once, and the
//! words that users see when it goes wrong.

pub mod credentials;
pub mod reference;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use orlop_runtime::{ImagePull, RuntimeClient, RuntimeError, cri};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::backoff::{BackOff, go_duration};
use crate::events::{Kind, Recorder};
use crate::pod::PodExt;
use crate::reasons::{WaitingReason, event};
use credentials::Keyring;

/// Why there is no image.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ImageError {
    pub reason: WaitingReason,
    pub message: String,
    /// When a retry makes sense.
    pub retry_after: Option<Duration>,
}

/// Gets images onto the node.
#[derive(Debug)]
pub struct ImageManager {
    runtime: RuntimeClient,
    events: Recorder,
    back_off: BackOff,
    failures: Mutex<HashMap<String, (String, Instant)>>,
    pulls: Arc<Semaphore>,
}

impl ImageManager {
    #[must_use]
    pub fn new(runtime: RuntimeClient, events: Recorder, max_parallel: usize) -> Self {
        Self {
            runtime,
            events,
            back_off: BackOff::default(),
            failures: Mutex::default(),
            pulls: Arc::new(Semaphore::new(max_parallel.max(1))),
        }
    }

    /// Makes the container's image present, as its pull policy says; returns the runtime's reference of it.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        keyring: &Keyring,
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<String, ImageError> {
        let image = container.image.as_deref().unwrap_or_default();
        let reference = reference::parse(image).map_err(|error| {
            let message =
                format!("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {error}");
            self.events.container(pod, &container.name, Kind::Warning, event::INSPECT_FAILED, message.clone());
            failed(WaitingReason::InvalidImageName, message)
        })?;
        let policy = pull_policy(container);
        let present = if policy == "Always" {
            None
        } else {
            self.runtime.image_status(&reference.normalized).await.map_err(|error| {
                let message = format!("Failed to inspect image {image:?}: {}", error.message());
                self.events.container(pod, &container.name, Kind::Warning, event::INSPECT_FAILED, message.clone());
                failed(WaitingReason::ImageInspectError, message)
            })?
        };
        match (present, policy) {
            (Some(found), _) => {
                let message =
                    format!("Container image {image:?} already present on machine and can be accessed by the pod");
                self.events.container(pod, &container.name, Kind::Normal, event::PULLED, message);
                Ok(found.id)
            }
            (None, "Never") => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                self.events.container(
                    pod,
                    &container.name,
                    Kind::Warning,
                    event::ERR_IMAGE_NEVER_PULL,
                    message.clone(),
                );
                Err(failed(WaitingReason::ErrImageNeverPull, message))
            }
            (None, _) => self.pull(pod, container, &reference, keyring, sandbox).await,
        }
    }

    async fn pull(
        &self,
        pod: &Pod,
        container: &Container,
        reference: &reference::Reference,
        keyring: &Keyring,
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<String, ImageError> {
        let image = container.image.as_deref().unwrap_or_default();
        let key = format!("{}_{image}", pod.uid_str());
        let previous = self.failure(&key);
        if let Some((error, at)) = previous {
            let remaining = self.back_off.remaining(&key, at.elapsed());
            if !remaining.is_zero() {
                let message = format!("Back-off pulling image {image:?}");
                self.events.container(pod, &container.name, Kind::Normal, event::BACK_OFF, message.clone());
                return Err(ImageError {
                    reason: WaitingReason::ImagePullBackOff,
                    message: format!("{message}: ErrImagePull: {error}"),
                    retry_after: Some(remaining),
                });
            }
        }
        self.events.container(pod, &container.name, Kind::Normal, event::PULLING, format!("Pulling image {image:?}"));
        let asked = Instant::now();
        // The semaphore is never closed.
        let permit = self.pulls.acquire().await;
        let started = Instant::now();
        let result = self.pull_with(reference, keyring, sandbox).await;
        drop(permit);
        match result {
            Ok(image_ref) => {
                self.forget(&key);
                let size = self.runtime.image_status(&image_ref).await.ok().flatten().map_or(0, |found| found.size);
                let whole_ms =
                    |d: Duration| go_duration(Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(0)));
                let message = format!(
                    "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {size} bytes.",
                    whole_ms(started.elapsed()),
                    whole_ms(asked.elapsed()),
                );
                self.events.container(pod, &container.name, Kind::Normal, event::PULLED, message);
                Ok(image_ref)
            }
            Err(error) => {
                let text = error.message();
                let since = self.failure(&key).map_or(Duration::ZERO, |(_, at)| at.elapsed());
                self.back_off.next(&key, since);
                self.remember(&key, &text);
                let message = format!("Failed to pull image {image:?}: {text}");
                self.events.container(pod, &container.name, Kind::Warning, event::FAILED, message);
                Err(ImageError {
                    reason: WaitingReason::ErrImagePull,
                    message: text,
                    retry_after: Some(Duration::from_secs(5)),
                })
            }
        }
    }

    async fn pull_with(
        &self,
        reference: &reference::Reference,
        keyring: &Keyring,
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let mut auths: Vec<Option<cri::AuthConfig>> = keyring.lookup(reference).into_iter().map(Some).collect();
        if auths.is_empty() {
            auths.push(None);
        }
        let mut last = RuntimeError::Incomplete { call: "PullImage", missing: "credentials to try" };
        for auth in auths {
            let pull = ImagePull { image: reference.normalized.clone(), auth, sandbox: Some(sandbox.clone()) };
            match self.runtime.pull_image(pull).await {
                Ok(image_ref) => return Ok(image_ref),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn failure(&self, key: &str) -> Option<(String, Instant)> {
        self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(key).cloned()
    }

    fn remember(&self, key: &str, error: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        failures.insert(key.to_owned(), (error.to_owned(), Instant::now()));
    }

    fn forget(&self, prefix: &str) {
        self.failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .retain(|key, _| !key.starts_with(prefix));
        self.back_off.forget_prefix(prefix);
    }

    /// Forgets the failed pulls of a pod that is gone.
    pub fn forget_pod(&self, uid: &str) {
        self.forget(&format!("{uid}_"));
    }
}

fn failed(reason: WaitingReason, message: String) -> ImageError {
    ImageError { reason, message, retry_after: None }
}

/// The pull policy that holds: `Always` for `:latest` and untagged images that name none.
#[must_use]
pub fn pull_policy(container: &Container) -> &str {
    if let Some(policy) = container.image_pull_policy.as_deref().filter(|p| !p.is_empty()) {
        return policy;
    }
    let image = container.image.as_deref().unwrap_or_default();
    let untagged = !image.contains('@') && image.rsplit('/').next().is_none_or(|last| !last.contains(':'));
    if untagged || image.ends_with(":latest") { "Always" } else { "IfNotPresent" }
}
