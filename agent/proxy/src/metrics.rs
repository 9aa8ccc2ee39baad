//! Upstream's metrics, under its names.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::state::IpFamily;

type Labels = Vec<(&'static str, String)>;
type Seconds = Gauge<f64, AtomicU64>;
type Histograms = Family<Labels, Histogram, Buckets>;

#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.001, 2.0, 15))
    }
}

/// The proxy's metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    sync_seconds: Histograms,
    full_sync_seconds: Histograms,
    partial_sync_seconds: Histograms,
    last_sync: Family<Labels, Seconds>,
    last_queued: Family<Labels, Seconds>,
    pub(crate) endpoint_changes_pending: Gauge,
    pub(crate) endpoint_changes: Counter,
    pub(crate) service_changes_pending: Gauge,
    pub(crate) service_changes: Counter,
    healthz: Family<Labels, Counter>,
    livez: Family<Labels, Counter>,
    pub(crate) frontends: Gauge,
    pub(crate) repairs: Counter,
    pub(crate) sync_failures: Counter,
    kernel: Family<Labels, Gauge>,
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let histograms = || Histograms::new_with_constructor(Buckets);
        let metrics = Self {
            sync_seconds: histograms(),
            full_sync_seconds: histograms(),
            partial_sync_seconds: histograms(),
            last_sync: Family::default(),
            last_queued: Family::default(),
            endpoint_changes_pending: Gauge::default(),
            endpoint_changes: Counter::default(),
            service_changes_pending: Gauge::default(),
            service_changes: Counter::default(),
            healthz: Family::default(),
            livez: Family::default(),
            frontends: Gauge::default(),
            repairs: Counter::default(),
            sync_failures: Counter::default(),
            kernel: Family::default(),
        };
        let kubeproxy = registry.sub_registry_with_prefix("kubeproxy");
        for (name, help, metric) in [
            ("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", &metrics.sync_seconds),
            (
                "sync_full_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for full resyncs",
                &metrics.full_sync_seconds,
            ),
            (
                "sync_partial_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for partial resyncs",
                &metrics.partial_sync_seconds,
            ),
        ] {
            kubeproxy.register(name, help, metric.clone());
        }
        kubeproxy.register(
            "sync_proxy_rules_last_timestamp_seconds",
            "The last time proxy rules were successfully synced",
            metrics.last_sync.clone(),
        );
        kubeproxy.register(
            "sync_proxy_rules_last_queued_timestamp_seconds",
            "The last time a sync of proxy rules was queued",
            metrics.last_queued.clone(),
        );
        kubeproxy.register(
            "sync_proxy_rules_endpoint_changes_pending",
            "Pending proxy rules Endpoint changes",
            metrics.endpoint_changes_pending.clone(),
        );
        kubeproxy.register(
            "sync_proxy_rules_endpoint_changes",
            "Cumulative proxy rules Endpoint changes",
            metrics.endpoint_changes.clone(),
        );
        kubeproxy.register(
            "sync_proxy_rules_service_changes_pending",
            "Pending proxy rules Service changes",
            metrics.service_changes_pending.clone(),
        );
        kubeproxy.register(
            "sync_proxy_rules_service_changes",
            "Cumulative proxy rules Service changes",
            metrics.service_changes.clone(),
        );
        kubeproxy.register("proxy_healthz", "Cumulative proxy healthz HTTP status", metrics.healthz.clone());
        kubeproxy.register("proxy_livez", "Cumulative proxy livez HTTP status", metrics.livez.clone());
        let own = registry.sub_registry_with_prefix("orlop_proxy");
        own.register("frontends", "Frontends that the node answers for", metrics.frontends.clone());
        own.register("repairs", "Rules that an audit found changed by others, and restored", metrics.repairs.clone());
        own.register("sync_failures", "Syncs that the kernel did not carry out whole", metrics.sync_failures.clone());
        own.register("kernel_events", "What the kernel's side has counted, by event", metrics.kernel.clone());
        metrics
    }

    pub(crate) fn synced(&self, families: &[IpFamily], took: Duration, full: bool, now_s: f64) {
        for family in families {
            let labels = vec![("ip_family", family.as_str().to_owned())];
            self.sync_seconds.get_or_create(&labels).observe(took.as_secs_f64());
            let kind = if full { &self.full_sync_seconds } else { &self.partial_sync_seconds };
            kind.get_or_create(&labels).observe(took.as_secs_f64());
            self.last_sync.get_or_create(&labels).set(now_s);
        }
    }

    pub(crate) fn queued(&self, families: &[IpFamily], now_s: f64) {
        for family in families {
            self.last_queued.get_or_create(&vec![("ip_family", family.as_str().to_owned())]).set(now_s);
        }
    }

    pub(crate) fn health_answer(&self, livez: bool, code: u16) {
        let family = if livez { &self.livez } else { &self.healthz };
        family.get_or_create(&vec![("code", code.to_string())]).inc();
    }

    pub(crate) fn kernel_event(&self, event: &'static str, count: u64) {
        let gauge = self.kernel.get_or_create(&vec![("event", event.to_owned())]);
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
