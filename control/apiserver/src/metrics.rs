//! Metrics under upstream's names. Label values come from the registry, never from the client.

use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::{Method, StatusCode};
use orlop_api::registry::{self, ResourceInfo};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::app::InFlight;
use crate::config::{Limits, SharedRegistry};
use crate::storage::Storages;
use crate::wire::request_info::RequestInfo;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct DurationLabels {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ResourceLabels {
    group: &'static str,
    resource: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct InFlightLabels {
    request_kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct KindLabels {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
}

/// What is known of a request before it is served.
pub(crate) struct Labels {
    duration: DurationLabels,
    pub(crate) path: String,
}

#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0])
    }
}

pub(crate) struct Metrics {
    pub(crate) registry: SharedRegistry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, Buckets>,
    long_running: Family<DurationLabels, Gauge>,
    watch_events: Family<KindLabels, Counter>,
    objects: Family<ResourceLabels, Gauge>,
    in_flight: Family<InFlightLabels, Gauge>,
}

pub(crate) type WatchEvents = Counter<u64, AtomicU64>;

/// Counts one running watch, log or stream down when it ends.
pub(crate) struct LongRunning(Gauge);

impl Drop for LongRunning {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn new(shared: SharedRegistry) -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let durations = Family::new_with_constructor(Buckets);
        let long_running = Family::<DurationLabels, Gauge>::default();
        let watch_events = Family::<KindLabels, Counter>::default();
        let objects = Family::<ResourceLabels, Gauge>::default();
        let in_flight = Family::<InFlightLabels, Gauge>::default();
        {
            let mut registry = shared.lock().unwrap_or_else(PoisonError::into_inner);
            registry.register(
                "apiserver_request",
                "Counter of apiserver requests broken out for each verb, group, version, resource, scope, component and HTTP response code",
                requests.clone(),
            );
            registry.register(
                "apiserver_request_duration_seconds",
                "Response latency distribution in seconds for each verb, group, version, resource, subresource, scope and component",
                durations.clone(),
            );
            registry.register(
                "apiserver_longrunning_requests",
                "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component",
                long_running.clone(),
            );
            registry.register("apiserver_watch_events", "Number of events sent in watch clients", watch_events.clone());
        }
        Self { registry: shared, requests, durations, long_running, watch_events, objects, in_flight }
    }

    pub(crate) fn labels(&self, info: &RequestInfo, method: &Method) -> Labels {
        Labels { duration: duration_labels(info, method), path: info.path.clone() }
    }

    pub(crate) fn observe(&self, labels: &Labels, code: StatusCode, took: Duration, long_running: bool) {
        let d = &labels.duration;
        let full = RequestLabels {
            verb: d.verb,
            group: d.group,
            version: d.version,
            resource: d.resource,
            subresource: d.subresource,
            scope: d.scope,
            component: d.component,
            code: code.as_u16(),
        };
        self.requests.get_or_create(&full).inc();
        if !long_running {
            self.durations.get_or_create(d).observe(took.as_secs_f64());
        }
    }

    pub(crate) fn long_running(&self, info: &RequestInfo) -> LongRunning {
        let gauge = self.long_running.get_or_create_owned(&duration_labels(info, &Method::GET));
        gauge.inc();
        LongRunning(gauge)
    }

    /// Levels that are only looked at when somebody asks.
    pub(crate) fn sample(&self, storages: &Storages, in_flight: &InFlight, limits: &Limits) {
        for storage in storages.iter().filter(|s| s.cache.is_started()) {
            let labels = ResourceLabels { group: storage.row.group, resource: storage.row.plural };
            self.objects.get_or_create(&labels).set(level(storage.cache.len()));
        }
        for (request_kind, semaphore, max) in [
            ("readOnly", &in_flight.readonly, limits.max_readonly_in_flight),
            ("mutating", &in_flight.mutating, limits.max_mutating_in_flight),
        ] {
            let used = max.saturating_sub(semaphore.available_permits());
            self.in_flight.get_or_create(&InFlightLabels { request_kind }).set(level(used));
        }
    }

    pub(crate) fn watch_events(&self, row: &ResourceInfo) -> WatchEvents {
        let labels = KindLabels { group: row.group, version: row.version, kind: row.kind };
        self.watch_events.get_or_create_owned(&labels)
    }
}

fn level(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn duration_labels(info: &RequestInfo, method: &Method) -> DurationLabels {
    let row = registry::find(&info.group, &info.version, &info.resource);
    let verb = match info.verb.as_str() {
        "list" => "LIST",
        "watch" => "WATCH",
        "deletecollection" => "DELETECOLLECTION",
        "patch" => "PATCH",
        _ => match *method {
            Method::GET | Method::HEAD => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "other",
        },
    };
    let scope = match (row, info.name.is_empty(), info.namespace.is_empty()) {
        (None, _, _) => "",
        (Some(_), false, _) => "resource",
        (Some(_), true, false) => "namespace",
        (Some(_), true, true) => "cluster",
    };
    DurationLabels {
        verb,
        group: row.map_or("", |r| r.group),
        version: row.map_or("", |r| r.version),
        resource: row.map_or("", |r| r.plural),
        subresource: row.and_then(|r| r.subresource(&info.subresource)).map_or("", |s| s.name),
        scope,
        component: "apiserver",
    }
}
