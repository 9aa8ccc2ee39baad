//! `/stats/summary`: the JSON of `stats/v1alpha1.Summary`.

use k8s_openapi::jiff::Timestamp;
use orlop_host::cgroup::{CpuUsage, MemoryUsage, Pressure};
use serde_json::{Map, Value, json};

use super::Counters;
use super::collect::{Snapshot, Usage};
use super::network::InterfaceStats;

/// The document, and the counters that the next one takes its rates from.
pub(super) fn render(node_name: &str, snapshot: &Snapshot, last: &Counters, cpu_and_memory: bool) -> (Value, Counters) {
    let mut renderer = Renderer { at: snapshot.at, last, counters: Counters::new() };
    let mut node = renderer.usage("", &snapshot.node);
    if let Some(memory) = node.get_mut("memory").and_then(Value::as_object_mut) {
        memory.insert("availableBytes".to_owned(), json!(snapshot.available_memory_bytes));
    }
    node.insert("nodeName".to_owned(), json!(node_name));
    node.insert("startTime".to_owned(), json!(snapshot.booted.map(seconds)));
    if !cpu_and_memory {
        node.insert("network".to_owned(), network(snapshot.at, &snapshot.node_network));
        node.insert(
            "rlimit".to_owned(),
            json!({ "time": seconds(snapshot.at), "maxpid": snapshot.max_pids, "curproc": snapshot.running_threads }),
        );
        if let Some(fs) = &snapshot.node_fs {
            let fs = json!({
                "time": seconds(snapshot.at),
                "availableBytes": fs.available_bytes, "capacityBytes": fs.capacity_bytes, "usedBytes": fs.used_bytes,
                "inodesFree": fs.inodes_free, "inodes": fs.inodes, "inodesUsed": fs.inodes_used,
            });
            node.insert("runtime".to_owned(), json!({ "imageFs": fs, "containerFs": fs }));
            node.insert("fs".to_owned(), fs);
        }
    }
    let pods: Vec<Value> = snapshot
        .pods
        .iter()
        .map(|pod| {
            let mut value = renderer.usage(&pod.cgroup, &pod.usage);
            value.insert("podRef".to_owned(), json!({ "name": pod.name, "namespace": pod.namespace, "uid": pod.uid }));
            value.insert("startTime".to_owned(), json!(pod.started.map(seconds)));
            if !cpu_and_memory {
                if !pod.network.is_empty() {
                    value.insert("network".to_owned(), network(snapshot.at, &pod.network));
                }
                value.insert("process_stats".to_owned(), json!({ "process_count": pod.usage.processes.unwrap_or(0) }));
            }
            let containers: Vec<Value> = pod
                .containers
                .iter()
                .map(|container| {
                    let mut value = renderer.usage(&container.cgroup, &container.usage);
                    value.insert("name".to_owned(), json!(container.name));
                    value.insert("startTime".to_owned(), json!(container.started.map(seconds)));
                    Value::Object(value)
                })
                .collect();
            value.insert("containers".to_owned(), json!(containers));
            Value::Object(value)
        })
        .collect();
    (json!({ "node": node, "pods": pods }), renderer.counters)
}

struct Renderer<'a> {
    at: Timestamp,
    last: &'a Counters,
    counters: Counters,
}

impl Renderer<'_> {
    fn usage(&mut self, key: &str, usage: &Usage) -> Map<String, Value> {
        let mut map = Map::new();
        if let Some(cpu) = &usage.cpu {
            let mut value = self.cpu(key, cpu);
            add_pressure(&mut value, usage, "cpu");
            map.insert("cpu".to_owned(), value);
        }
        if let Some(memory) = &usage.memory {
            let mut value = self.memory(memory);
            add_pressure(&mut value, usage, "memory");
            map.insert("memory".to_owned(), value);
            map.insert("swap".to_owned(), json!({ "time": seconds(self.at), "swapUsageBytes": memory.swap_bytes }));
        }
        if usage.pressure.iter().any(|(resource, ..)| *resource == "io") {
            let mut value = json!({ "time": seconds(self.at) });
            add_pressure(&mut value, usage, "io");
            map.insert("io".to_owned(), value);
        }
        map
    }

    fn cpu(&mut self, key: &str, cpu: &CpuUsage) -> Value {
        let mut value = json!({ "time": seconds(self.at), "usageCoreNanoSeconds": cpu.usage_ns });
        if let Some((at, usage_ns)) = self.last.get(key) {
            let elapsed_ns = self.at.as_nanosecond() - at.as_nanosecond();
            let used = u128::from(cpu.usage_ns.saturating_sub(*usage_ns));
            if let Some(elapsed) = u128::try_from(elapsed_ns).ok().filter(|ns| *ns > 0) {
                let rate = used.saturating_mul(1_000_000_000) / elapsed;
                if let Some(object) = value.as_object_mut() {
                    object.insert("usageNanoCores".to_owned(), json!(u64::try_from(rate).unwrap_or(u64::MAX)));
                }
            }
        }
        self.counters.insert(key.to_owned(), (self.at, cpu.usage_ns));
        value
    }

    fn memory(&self, memory: &MemoryUsage) -> Value {
        let mut value = json!({
            "time": seconds(self.at),
            "usageBytes": memory.usage_bytes,
            "workingSetBytes": memory.working_set_bytes,
            "rssBytes": memory.rss_bytes,
            "pageFaults": memory.page_faults,
            "majorPageFaults": memory.major_page_faults,
        });
        if let (Some(limit), Some(object)) = (memory.limit_bytes, value.as_object_mut()) {
            object.insert("availableBytes".to_owned(), json!(limit.saturating_sub(memory.working_set_bytes)));
        }
        value
    }
}

fn add_pressure(value: &mut Value, usage: &Usage, resource: &str) {
    let found = usage.pressure.iter().find(|(name, ..)| *name == resource);
    if let (Some((_, some, full)), Some(object)) = (found, value.as_object_mut()) {
        let line = |p: &Pressure| json!({ "total": p.total_us.saturating_mul(1000), "avg10": p.avg10, "avg60": p.avg60, "avg300": p.avg300 });
        object.insert("psi".to_owned(), json!({ "full": line(full), "some": line(some) }));
    }
}

fn network(at: Timestamp, interfaces: &[InterfaceStats]) -> Value {
    let one = |i: &InterfaceStats| json!({ "name": i.name, "rxBytes": i.rx_bytes, "rxErrors": i.rx_errors, "txBytes": i.tx_bytes, "txErrors": i.tx_errors });
    let mut value =
        interfaces.iter().find(|i| i.name == "eth0").or(interfaces.first()).map_or(json!({ "name": "" }), one);
    if let Some(object) = value.as_object_mut() {
        object.insert("time".to_owned(), json!(seconds(at)));
        object.insert("interfaces".to_owned(), interfaces.iter().map(one).collect());
    }
    value
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::super::collect::PodUsage;
    use super::*;

    #[test]
    fn rates_come_from_the_last_asking() {
        let usage = |ns| Usage { cpu: Some(CpuUsage { usage_ns: ns, ..CpuUsage::default() }), ..Usage::default() };
        let at = |s, ns| Snapshot {
            at: Timestamp::from_second(s).unwrap(),
            node: usage(0),
            pods: vec![PodUsage {
                name: "p".into(),
                cgroup: "/kubepods/podu".into(),
                usage: usage(ns),
                ..PodUsage::default()
            }],
            ..Snapshot::default()
        };
        let (first, counters) = render("n", &at(10, 1_000), &Counters::new(), false);
        assert!(first["pods"][0]["cpu"].get("usageNanoCores").is_none());
        let (second, _) = render("n", &at(12, 1_000_001_000), &counters, false);
        assert_eq!(second["pods"][0]["cpu"]["usageNanoCores"], 500_000_000);
        assert_eq!(second["pods"][0]["podRef"]["name"], "p");
        assert_eq!(second["node"]["nodeName"], "n");
        let (short, _) = render("n", &at(12, 1), &counters, true);
        assert!(short["node"].get("fs").is_none() && short["node"].get("rlimit").is_none());
    }
}
