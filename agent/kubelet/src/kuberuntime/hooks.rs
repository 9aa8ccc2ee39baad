//! Lifecycle hooks: `postStart` and `preStop` by exec, HTTP, TCP or sleep.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use orlop_runtime::RuntimeClient;

use crate::prober::action;

/// A hook has no limit of its own but the grace period; an exec that never ends ends with its container.
const NO_LIMIT: Duration = Duration::ZERO;
const HTTP_LIMIT: Duration = Duration::from_secs(30);

/// Runs a hook to its end; the error is for the log, users see only that it failed.
pub async fn run(
    runtime: &RuntimeClient,
    container: &Container,
    container_id: &str,
    handler: &LifecycleHandler,
    pod_ip: &str,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let answer = runtime.exec_sync(container_id, command, NO_LIMIT).await.map_err(|error| error.to_string())?;
        if answer.exit_code != 0 {
            return Err(format!(
                "command exited with {}: {}{}",
                answer.exit_code,
                String::from_utf8_lossy(&answer.stdout),
                String::from_utf8_lossy(&answer.stderr)
            ));
        }
        return Ok(());
    }
    if let Some(http) = &handler.http_get {
        let request = action::HttpRequest::new(http, container, pod_ip).ok_or("port of the hook not found")?;
        return match action::http_get(&request, HTTP_LIMIT).await {
            action::Outcome::Success(_) | action::Outcome::Warning(_) => Ok(()),
            action::Outcome::Failure(message) => Err(message),
        };
    }
    if let Some(tcp) = &handler.tcp_socket {
        let port = action::port_number(&tcp.port, container).ok_or("port of the hook not found")?;
        let host = tcp.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
        return match action::tcp_connect(host, port, HTTP_LIMIT).await {
            action::Outcome::Failure(message) => Err(message),
            _ => Ok(()),
        };
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(())
}
