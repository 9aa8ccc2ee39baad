//! Counters of network interfaces, of the node or of a pod's network namespace.

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InterfaceStats {
    pub(super) name: String,
    pub(super) rx_bytes: u64,
    pub(super) rx_packets: u64,
    pub(super) rx_errors: u64,
    pub(super) rx_dropped: u64,
    pub(super) tx_bytes: u64,
    pub(super) tx_packets: u64,
    pub(super) tx_errors: u64,
    pub(super) tx_dropped: u64,
}

/// Interfaces in the network namespace of a process, without loopback and the virtual ones that upstream leaves out.
pub(super) fn of_process(pid: i32) -> Vec<InterfaceStats> {
    std::fs::read_to_string(format!("/proc/{pid}/net/dev")).map(|text| parse(&text)).unwrap_or_default()
}

pub(super) fn of_node() -> Vec<InterfaceStats> {
    std::fs::read_to_string("/proc/net/dev").map(|text| parse(&text)).unwrap_or_default()
}

fn parse(text: &str) -> Vec<InterfaceStats> {
    let ignored = ["lo", "veth", "docker", "nerdctl"];
    text.lines()
        .skip(2)
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let name = name.trim();
            let n: Vec<u64> = counters.split_whitespace().map(|c| c.parse().unwrap_or(0)).collect();
            let left_out = name == "lo" || ignored.iter().skip(1).any(|prefix| name.starts_with(prefix));
            if left_out || n.len() < 12 {
                return None;
            }
            let at = |i: usize| n.get(i).copied().unwrap_or(0);
            Some(InterfaceStats {
                name: name.to_owned(),
                rx_bytes: at(0),
                rx_packets: at(1),
                rx_errors: at(2),
                rx_dropped: at(3),
                tx_bytes: at(8),
                tx_packets: at(9),
                tx_errors: at(10),
                tx_dropped: at(11),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn net_dev_is_parsed() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes ...\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
            eth0: 100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0\nveth1: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\nshort: 1\n";
        let stats = parse(text);
        assert_eq!(stats.len(), 1);
        let eth0 = &stats[0];
        assert_eq!(
            (eth0.name.as_str(), eth0.rx_bytes, eth0.rx_dropped, eth0.tx_bytes, eth0.tx_dropped),
            ("eth0", 100, 4, 500, 8)
        );
    }
}
