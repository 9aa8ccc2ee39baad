//! The two servers: health (10256) and metrics (10249).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::ProxyError;
use crate::health::Health;
use crate::metrics::Metrics;

/// What the handlers know.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Metrics,
    pub(crate) registry: Arc<Mutex<Registry>>,
    pub(crate) mode: &'static str,
    /// The `KubeProxyConfiguration` in effect.
    pub(crate) configuration: Arc<Value>,
}

/// Binds now, so that a taken port is an error of the start.
pub(crate) async fn bind(what: &'static str, addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ProxyError> {
    let failed = |source| ProxyError::Bind { what, addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Answers until shutdown.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let result = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
    if let Err(error) = result {
        tracing::error!(%error, "a server of the proxy ended");
    }
}

pub(crate) fn health_router(served: Served) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/livez", get(livez)).with_state(served)
}

pub(crate) fn metrics_router(served: Served) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/proxyMode", get(|State(served): State<Served>| async move { served.mode }))
        .route("/configz", get(configz))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(served)
}

async fn healthz(State(served): State<Served>) -> Response {
    health(&served, false)
}

async fn livez(State(served): State<Served>) -> Response {
    health(&served, true)
}

fn health(served: &Served, livez: bool) -> Response {
    let answer = served.health.answer(livez);
    let status = if answer.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    served.metrics.health_answer(livez, status.as_u16());
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, answer.body.to_string()).into_response()
}

async fn metrics(State(served): State<Served>) -> Response {
    let mut text = String::new();
    let encoded = {
        let registry = served.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)
    };
    match encoded {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn configz(State(served): State<Served>) -> Response {
    let body = json!({ "kubeproxy.config.k8s.io": &*served.configuration });
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
