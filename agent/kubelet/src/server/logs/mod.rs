//! `/containerLogs`: finds the file, checks that there is something to read, streams it.

mod format;
mod reader;

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::ServerState;
use super::log_request::LogOptions;
use super::route::{Answer, Body};

/// Chunks on the way to a slow client.
const CHUNKS: usize = 8;

pub(super) async fn container_logs(
    state: &Arc<ServerState>,
    namespace: &str,
    pod_name: &str,
    container: &str,
    query: &str,
) -> Answer {
    let options = LogOptions::parse(query, Timestamp::now()).map_err(|m| (StatusCode::UNPROCESSABLE_ENTITY, m))?;
    let pod = state.pods.pod(namespace, pod_name).ok_or_else(|| {
        (StatusCode::NOT_FOUND, format!("pod does not exist: pods \"{pod_name}\" not found in namespace {namespace:?}"))
    })?;
    if !has_container(&pod, container) {
        return Err((StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {pod_name:?}")));
    }
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    check_status(&pod, container, options.previous).map_err(|m| (StatusCode::BAD_REQUEST, m))?;
    let path = state.pods.log_path(&uid, container, options.previous).ok_or_else(|| {
        let which = if options.previous { "previous terminated container" } else { "container" };
        (StatusCode::BAD_REQUEST, format!("{which} {container:?} in pod {pod_name:?} not found"))
    })?;
    let id = state.pods.container_id(&uid, container, options.previous);
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let file = reader::open(&path).await.map_err(|error| {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to open the log of container {container:?}: {error}"))
    })?;
    let (pods, namespace, pod_name, container) =
        (Arc::clone(&state.pods), namespace.to_owned(), pod_name.to_owned(), container.to_owned());
    let follow = options.follow && !options.previous;
    let is_over = move || {
        let Some(pod) = pods.pod(&namespace, &pod_name) else { return true };
        let now = pods.container_id(pod.metadata.uid.as_deref().unwrap_or_default(), &container, false);
        now != id || status_of(&pod, &container).is_none_or(|s| s.state.as_ref().is_none_or(|s| s.running.is_none()))
    };
    let shutdown = state.shutdown.clone();
    state.tasks.spawn(async move {
        let reading = reader::LogReader { path, file, options: LogOptions { follow, ..options }, out: sender.clone() };
        let ended = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = reading.run(is_over) => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "reading a container log ended");
            let _ = sender.send(Err(error)).await;
        }
    });
    let body = StreamBody::new(
        ReceiverStream::new(receiver).map(|chunk: Result<Bytes, std::io::Error>| chunk.map(Frame::data)),
    );
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|c| c.name == name)
        || spec.ephemeral_containers.iter().flatten().any(|c| c.name == name)
}

fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|s| s.name == name)
}

/// What there is to read, in upstream's words when there is nothing.
fn check_status(pod: &Pod, container: &str, previous: bool) -> Result<(), String> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(status) = status_of(pod, container) else {
        return Err(format!("container {container:?} in pod {pod_name:?} is not available"));
    };
    let ran =
        |state: &Option<ContainerState>| state.as_ref().is_some_and(|s| s.terminated.is_some() || s.running.is_some());
    if previous {
        let before = status.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
        return if before {
            Ok(())
        } else {
            Err(format!("previous terminated container {container:?} in pod {pod_name:?} not found"))
        };
    }
    if ran(&status.state) || ran(&status.last_state) {
        return Ok(());
    }
    let waiting = status.state.as_ref().and_then(|s| s.waiting.as_ref());
    match waiting.and_then(|w| w.reason.as_deref()) {
        Some("ErrImagePull") => {
            Err(format!("container {container:?} in pod {pod_name:?} is waiting to start: image can't be pulled"))
        }
        Some("ImagePullBackOff") => Err(format!(
            "container {container:?} in pod {pod_name:?} is waiting to start: trying and failing to pull image"
        )),
        reason => Err(format!(
            "container {container:?} in pod {pod_name:?} is waiting to start: {}",
            reason.unwrap_or("unknown")
        )),
    }
}

#[cfg(test)]
mod tests;
