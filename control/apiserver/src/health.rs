//! `/livez`, `/readyz`, `/healthz` with named checks, `/metrics`.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::app::App;
use crate::wire::query::Query;
use crate::wire::{Response, respond};

const STORE_WITHIN: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    Ping,
    Log,
    Etcd,
    InformerSync,
    BootstrapRoles,
    BootstrapController,
    Shutdown,
}

impl Check {
    /// Upstream's names, which probes and dashboards know.
    fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Log => "log",
            Self::Etcd => "etcd",
            Self::InformerSync => "informer-sync",
            Self::BootstrapRoles => "poststarthook/rbac/bootstrap-roles",
            Self::BootstrapController => "poststarthook/bootstrap-controller",
            Self::Shutdown => "shutdown",
        }
    }

    async fn holds(self, app: &App) -> bool {
        match self {
            Self::Ping | Self::Log => true,
            Self::Etcd => store_answers(app).await,
            Self::InformerSync => app.storages.iter().all(|s| !s.cache.is_started() || s.cache.revision() > 0),
            Self::BootstrapRoles | Self::BootstrapController => app.bootstrapped.load(Ordering::Acquire),
            Self::Shutdown => !app.shutdown.is_cancelled(),
        }
    }
}

const LIVE: &[Check] = &[Check::Ping, Check::Log, Check::Etcd, Check::BootstrapRoles, Check::BootstrapController];
const READY: &[Check] = &[
    Check::Ping,
    Check::Log,
    Check::Etcd,
    Check::InformerSync,
    Check::BootstrapRoles,
    Check::BootstrapController,
    Check::Shutdown,
];

pub(crate) async fn store_answers(app: &App) -> bool {
    matches!(tokio::time::timeout(STORE_WITHIN, app.store.status()).await, Ok(Ok(_)))
}

/// The answer where `path` is one of ours.
pub(crate) async fn serve(app: &Arc<App>, path: &str, query: &Query) -> Option<Response> {
    if path == "/metrics" {
        return Some(metrics(app));
    }
    let (endpoint, checks, name) = ["/livez", "/readyz", "/healthz"].iter().find_map(|endpoint| {
        let rest = path.strip_prefix(endpoint)?;
        let checks = if *endpoint == "/readyz" { READY } else { LIVE };
        match rest {
            "" | "/" => Some((*endpoint, checks, None)),
            _ => Some((*endpoint, checks, Some(rest.strip_prefix('/')?))),
        }
    })?;
    match name {
        Some(name) => {
            let check = checks.iter().find(|c| c.name() == name)?;
            Some(if check.holds(app).await {
                respond::text(200, "ok")
            } else {
                respond::text(500, format!("internal server error: {name} check failed: reason withheld\n"))
            })
        }
        None => Some(all(app, endpoint, checks, query).await),
    }
}

async fn all(app: &App, endpoint: &str, checks: &[Check], query: &Query) -> Response {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut report = String::new();
    let mut failed = false;
    for check in checks {
        let name = check.name();
        // Writing to a string has no way to fail.
        let _ = if excluded.contains(&name) {
            writeln!(report, "[+]{name} excluded: ok")
        } else if check.holds(app).await {
            writeln!(report, "[+]{name} ok")
        } else {
            failed = true;
            writeln!(report, "[-]{name} failed: reason withheld")
        };
    }
    for unknown in excluded.iter().filter(|e| !checks.iter().any(|c| c.name() == **e)) {
        let _ = writeln!(report, "warn: some health checks cannot be excluded: no matches for {unknown:?}");
    }
    let name = endpoint.trim_start_matches('/');
    if failed {
        let _ = writeln!(report, "{name} check failed");
        return respond::text(500, report);
    }
    if query.get("verbose").is_some() {
        let _ = writeln!(report, "{name} check passed");
        return respond::text(200, report);
    }
    respond::text(200, "ok")
}

fn metrics(app: &App) -> Response {
    app.metrics.sample(&app.storages, &app.in_flight, &app.config.limits);
    let mut text = String::new();
    {
        let registry = app.metrics.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
            return respond::text(500, "the metrics could not be written");
        }
    }
    respond::bytes(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", false, Bytes::from(text))
}
