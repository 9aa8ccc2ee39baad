//! `/metrics/resource` and `/metrics/cadvisor` in Prometheus' text format, with upstream's names and labels.

use std::fmt::Write;

use orlop_host::cgroup::{CpuUsage, MemoryUsage};

use super::collect::{ContainerUsage, PodUsage, Snapshot, Usage};
use super::network::InterfaceStats;

/// What metrics-server reads.
pub(super) fn resource(snapshot: &Snapshot) -> String {
    let mut out = Families::default();
    let at = Some(snapshot.at.as_millisecond());
    let containers = || snapshot.pods.iter().flat_map(|pod| pod.containers.iter().map(move |c| (pod, c)));
    let labels = |pod: &PodUsage, c: &ContainerUsage| {
        vec![("container", c.name.clone()), ("namespace", pod.namespace.clone()), ("pod", pod.name.clone())]
    };
    let pod_labels = |pod: &PodUsage| vec![("namespace", pod.namespace.clone()), ("pod", pod.name.clone())];
    out.family(
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
    );
    for (pod, c) in containers() {
        out.sample(&labels(pod, c), c.usage.cpu.map(|cpu| from_ns(cpu.usage_ns)), at);
    }
    out.family("container_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the container in bytes");
    for (pod, c) in containers() {
        out.sample(&labels(pod, c), c.usage.memory.map(|m| from_count(m.working_set_bytes)), at);
    }
    out.family(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
    );
    for (pod, c) in containers() {
        out.sample(&labels(pod, c), c.started.map(|t| from_ms(t.as_millisecond())), None);
    }
    out.family(
        "container_swap_usage_bytes",
        "gauge",
        "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
    );
    for (pod, c) in containers() {
        out.sample(&labels(pod, c), c.usage.memory.map(|m| from_count(m.swap_bytes)), at);
    }
    out.family(
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    );
    out.sample(&[], snapshot.node.cpu.map(|cpu| from_ns(cpu.usage_ns)), at);
    out.family("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes");
    out.sample(&[], snapshot.node.memory.map(|m| from_count(m.working_set_bytes)), at);
    out.family(
        "node_swap_usage_bytes",
        "gauge",
        "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
    );
    out.sample(&[], snapshot.node.memory.map(|m| from_count(m.swap_bytes)), at);
    out.family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
    );
    for pod in &snapshot.pods {
        out.sample(&pod_labels(pod), pod.usage.cpu.map(|cpu| from_ns(cpu.usage_ns)), at);
    }
    out.family("pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes");
    for pod in &snapshot.pods {
        out.sample(&pod_labels(pod), pod.usage.memory.map(|m| from_count(m.working_set_bytes)), at);
    }
    out.family(
        "pod_swap_usage_bytes",
        "gauge",
        "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
    );
    for pod in &snapshot.pods {
        out.sample(&pod_labels(pod), pod.usage.memory.map(|m| from_count(m.swap_bytes)), at);
    }
    out.family(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    out.sample(&[], Some(if snapshot.node.cpu.is_some() { 0.0 } else { 1.0 }), None);
    out.text
}

/// A family of cAdvisor's: its name, kind, help, and value of a cgroup.
type Family = (&'static str, &'static str, &'static str, fn(&Usage) -> Option<f64>);

fn cpu(usage: &Usage, pick: fn(&CpuUsage) -> f64) -> Option<f64> {
    usage.cpu.as_ref().map(pick)
}

fn memory(usage: &Usage, pick: fn(&MemoryUsage) -> u64) -> Option<f64> {
    usage.memory.as_ref().map(pick).map(from_count)
}

const FAMILIES: [Family; 16] = [
    ("container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds.", |u| {
        cpu(u, |c| from_ns(c.system_ns))
    }),
    ("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.", |u| {
        cpu(u, |c| from_ns(c.user_ns))
    }),
    ("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.", |u| {
        cpu(u, |c| from_count(c.periods)).filter(|n| *n > 0.0)
    }),
    ("container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.", |u| {
        u.cpu.filter(|c| c.periods > 0).map(|c| from_count(c.throttled_periods))
    }),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
        |u| u.cpu.filter(|c| c.periods > 0).map(|c| from_ns(c.throttled_ns)),
    ),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", |u| memory(u, |m| m.cache_bytes)),
    ("container_memory_failcnt", "counter", "Number of memory usage hits limits", |u| memory(u, |m| m.failcnt)),
    ("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes.", |u| {
        memory(u, |m| m.mapped_file_bytes)
    }),
    ("container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes", |u| {
        memory(u, |m| m.max_usage_bytes)
    }),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |u| memory(u, |m| m.rss_bytes)),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", |u| memory(u, |m| m.swap_bytes)),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |u| memory(u, |m| m.usage_bytes),
    ),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |u| {
        memory(u, |m| m.working_set_bytes)
    }),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", |u| {
        memory(u, |m| m.limit_bytes.unwrap_or(0))
    }),
    ("container_threads", "gauge", "Number of threads running inside the container", |u| u.processes.map(from_count)),
    ("container_oom_events_total", "counter", "Count of out of memory events observed for the container", |u| {
        u.memory.map(|_| 0.0)
    }),
];

type NetworkFamily = (&'static str, &'static str, fn(&InterfaceStats) -> u64);

const NETWORK_FAMILIES: [NetworkFamily; 8] = [
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", |i| i.rx_bytes),
    ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", |i| {
        i.rx_errors
    }),
    ("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", |i| {
        i.rx_dropped
    }),
    ("container_network_receive_packets_total", "Cumulative count of packets received", |i| i.rx_packets),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |i| i.tx_bytes),
    ("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", |i| {
        i.tx_errors
    }),
    (
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting",
        |i| i.tx_dropped,
    ),
    ("container_network_transmit_packets_total", "Cumulative count of packets transmitted", |i| i.tx_packets),
];

/// What dashboards read.
pub(super) fn cadvisor(snapshot: &Snapshot) -> String {
    let mut out = Families::default();
    let at = Some(snapshot.at.as_millisecond());
    let rows = rows(snapshot);
    out.family("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.");
    for (labels, usage) in &rows {
        let mut labels = labels.clone();
        labels.insert(1, ("cpu", "total".to_owned()));
        out.sample(&labels, usage.cpu.map(|c| from_ns(c.usage_ns)), at);
    }
    for (name, kind, help, value) in FAMILIES {
        out.family(name, kind, help);
        for (labels, usage) in &rows {
            out.sample(labels, value(usage), at);
        }
    }
    out.family("container_memory_failures_total", "counter", "Cumulative count of memory allocation failures.");
    for (labels, usage) in &rows {
        let Some(memory) = usage.memory else { continue };
        for (failure, count) in [("pgfault", memory.page_faults), ("pgmajfault", memory.major_page_faults)] {
            let mut labels = labels.clone();
            labels.insert(1, ("failure_type", failure.to_owned()));
            labels.push(("scope", "hierarchy".to_owned()));
            out.sample(&labels, Some(from_count(count)), at);
        }
    }
    out.family("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.");
    for pod in &snapshot.pods {
        for container in &pod.containers {
            out.sample(&container_labels(pod, container), container.started.map(|t| from_ms(t.as_millisecond())), at);
        }
    }
    for (name, help, value) in NETWORK_FAMILIES {
        out.family(name, "counter", help);
        for pod in &snapshot.pods {
            for interface in &pod.network {
                let mut labels = labels("", &pod.cgroup, "", "", pod);
                labels.insert(3, ("interface", interface.name.clone()));
                out.sample(&labels, Some(from_count(value(interface))), at);
            }
        }
    }
    for (kind, pick) in [("stalled", true), ("waiting", false)] {
        for resource in ["cpu", "memory", "io"] {
            let name = format!("container_pressure_{resource}_{kind}_seconds_total");
            out.family(
                &name,
                "counter",
                "Total time duration processes in the container have waited or stalled for the resource.",
            );
            for (labels, usage) in &rows {
                let found = usage.pressure.iter().find(|(r, ..)| *r == resource);
                let total = found.map(|(_, some, full)| if pick { full.total_us } else { some.total_us });
                out.sample(labels, total.map(|us| from_ns(us.saturating_mul(1000))), at);
            }
        }
    }
    out.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    out.sample(&[], Some(from_count(snapshot.cpus)), None);
    out.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
    out.sample(&[], Some(from_count(snapshot.memory_bytes)), None);
    out.text
}

type Labels = Vec<(&'static str, String)>;

/// The node, each pod, and each container: labels in alphabetical order, as Prometheus writes them.
fn rows(snapshot: &Snapshot) -> Vec<(Labels, &Usage)> {
    let node = PodUsage::default();
    let mut rows = vec![(labels("", "/", "", "", &node), &snapshot.node)];
    for pod in &snapshot.pods {
        rows.push((labels("", &pod.cgroup, "", "", pod), &pod.usage));
        rows.extend(pod.containers.iter().map(|container| (container_labels(pod, container), &container.usage)));
    }
    rows
}

fn container_labels(pod: &PodUsage, container: &ContainerUsage) -> Labels {
    labels(&container.name, &container.cgroup, &container.image, &container.id, pod)
}

fn labels(container: &str, id: &str, image: &str, name: &str, pod: &PodUsage) -> Labels {
    vec![
        ("container", container.to_owned()),
        ("id", id.to_owned()),
        ("image", image.to_owned()),
        ("name", name.to_owned()),
        ("namespace", pod.namespace.clone()),
        ("pod", pod.name.clone()),
    ]
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus' samples are doubles")]
fn from_count(n: u64) -> f64 {
    n as f64
}

fn from_ns(ns: u64) -> f64 {
    from_count(ns) / 1e9
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a double's 53 bits")]
fn from_ms(ms: i64) -> f64 {
    ms as f64 / 1e3
}

/// Builds the text; the head of a family without samples is left out.
#[derive(Default)]
struct Families {
    text: String,
    head: Option<String>,
    name: String,
}

impl Families {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        self.head = Some(format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, labels: &[(&'static str, String)], value: Option<f64>, at_ms: Option<i64>) {
        let Some(value) = value else { return };
        if let Some(head) = self.head.take() {
            self.text.push_str(&head);
        }
        self.text.push_str(&self.name);
        for (i, (key, value)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{open}{key}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = write!(self.text, " {value}");
        if let Some(at) = at_ms {
            let _ = write!(self.text, " {at}");
        }
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn snapshot() -> Snapshot {
        let usage = Usage {
            cpu: Some(CpuUsage { usage_ns: 1_500_000_000, ..CpuUsage::default() }),
            memory: Some(MemoryUsage { working_set_bytes: 42, ..MemoryUsage::default() }),
            ..Usage::default()
        };
        let container = ContainerUsage {
            name: "c".into(),
            id: "abc".into(),
            image: "i\"x".into(),
            cgroup: "/p/abc".into(),
            usage: usage.clone(),
            started: None,
        };
        let network = vec![InterfaceStats { name: "eth0".into(), rx_bytes: 7, ..InterfaceStats::default() }];
        Snapshot {
            at: Timestamp::from_millisecond(5).unwrap(),
            node: usage.clone(),
            pods: vec![PodUsage {
                name: "p".into(),
                namespace: "n".into(),
                cgroup: "/p".into(),
                usage,
                network,
                containers: vec![container],
                ..PodUsage::default()
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn samples_have_upstreams_names_and_labels() {
        let resource = resource(&snapshot());
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1.5 5",
            "pod_memory_working_set_bytes{namespace=\"n\",pod=\"p\"} 42 5",
            "node_cpu_usage_seconds_total 1.5 5",
            "resource_scrape_error 0",
        ] {
            assert!(resource.lines().any(|l| l == line), "{line} in\n{resource}");
        }
        assert!(!resource.contains("container_start_time_seconds"), "a family without samples is left out");
        let cadvisor = cadvisor(&snapshot());
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",cpu=\"total\",id=\"/p/abc\",image=\"i\\\"x\",name=\"abc\",namespace=\"n\",pod=\"p\"} 1.5 5",
            "container_memory_working_set_bytes{container=\"\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"} 42 5",
            "container_network_receive_bytes_total{container=\"\",id=\"/p\",image=\"\",interface=\"eth0\",name=\"\",namespace=\"n\",pod=\"p\"} 7 5",
        ] {
            assert!(cadvisor.lines().any(|l| l == line), "{line} in\n{cadvisor}");
        }
    }
}
