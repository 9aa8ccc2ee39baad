//! Whether the runtime and its network are ready, asked every few seconds: gates pods and makes the node's conditions.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orlop_runtime::{RuntimeClient, cri};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(5);
/// While not ready: sooner.
const UNREADY_PERIOD: Duration = Duration::from_millis(500);

/// What the runtime said last.
#[derive(Debug)]
pub struct RuntimeState {
    inner: Mutex<Conditions>,
    /// Woken when it changed.
    pub changed: Arc<Notify>,
}

/// Why something is not ready; `None`: it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    pub runtime_error: Option<String>,
    pub network_error: Option<String>,
}

impl Default for RuntimeState {
    fn default() -> Self {
        let unknown = Conditions {
            runtime_error: Some("container runtime status check may not have completed yet".to_owned()),
            network_error: None,
        };
        Self { inner: Mutex::new(unknown), changed: Arc::new(Notify::new()) }
    }
}

impl RuntimeState {
    #[must_use]
    pub fn conditions(&self) -> Conditions {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set(&self, conditions: Conditions) {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *inner != conditions {
            tracing::info!(?conditions, "conditions of the container runtime");
            *inner = conditions;
            self.changed.notify_waiters();
            self.changed.notify_one();
        }
    }

    /// Asks once.
    pub async fn refresh(&self, runtime: &RuntimeClient) {
        let conditions = match runtime.status(false).await {
            Ok(answer) => from_status(&answer.status.unwrap_or_default()),
            Err(error) => Conditions {
                runtime_error: Some(format!("container runtime is down: {}", error.message())),
                network_error: None,
            },
        };
        self.set(conditions);
    }

    /// Asks again and again, until `shutdown`.
    pub async fn run(self: Arc<Self>, runtime: RuntimeClient, shutdown: CancellationToken) {
        loop {
            self.refresh(&runtime).await;
            let now = self.conditions();
            let ready = now.runtime_error.is_none() && now.network_error.is_none();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(if ready { PERIOD } else { UNREADY_PERIOD }) => {}
            }
        }
    }
}

fn from_status(status: &cri::RuntimeStatus) -> Conditions {
    let find = |kind: &str| status.conditions.iter().find(|c| c.r#type == kind);
    let problem = |kind: &str| match find(kind) {
        Some(condition) if condition.status => None,
        Some(condition) => Some(format!(
            "container runtime network not ready: {kind}={} reason:{} message:{}",
            condition.status, condition.reason, condition.message
        )),
        None => Some(format!("container runtime reports no condition {kind}")),
    };
    let runtime_error = problem("RuntimeReady").map(|text| text.replace("runtime network not", "runtime not"));
    Conditions { runtime_error, network_error: problem("NetworkReady") }
}
