//! The CNI configuration list of this node: `bridge` with `host-local` addresses, and `portmap` for host ports.

use std::path::Path;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

/// The bridge that pods hang on.
pub const BRIDGE: &str = "orlop0";

/// The file's name in the CNI configuration directory; the runtime takes the first one in byte order.
pub const CONFLIST_FILE: &str = "10-orlop.conflist";

/// Renders the list. `hairpinMode` lets a pod reach itself through its Service; `ipMasq` gives pods
/// the node's address towards the world, but not among each other.
pub(crate) fn render(pod_cidrs: &[IpNetwork], ipam_dir: &Path, mtu: Option<u32>) -> String {
    let ranges: Vec<Value> = pod_cidrs.iter().map(|c| json!([{"subnet": c.to_string()}])).collect();
    let routes: Vec<Value> =
        pod_cidrs.iter().map(|c| json!({"dst": if c.is_ipv4() { "0.0.0.0/0" } else { "::/0" }})).collect();
    let mut bridge = json!({
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": true,
        "ipMasq": true,
        "hairpinMode": true,
        "ipam": {"type": "host-local", "dataDir": ipam_dir, "ranges": ranges, "routes": routes},
    });
    if let Some(mtu) = mtu {
        bridge["mtu"] = json!(mtu);
    }
    let list = json!({
        "cniVersion": "0.4.0",
        "name": "orlop",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": true}}],
    });
    format!("{list:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_and_one_default_route_per_family() {
        let text = render(&["10.244.0.0/24".parse().unwrap(), "fd00:10::/64".parse().unwrap()], Path::new("/d"), None);
        let list: Value = serde_json::from_str(&text).unwrap();
        let ipam = &list["plugins"][0]["ipam"];
        assert_eq!(ipam["ranges"], json!([[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00:10::/64"}]]));
        assert_eq!(ipam["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
        assert_eq!(ipam["dataDir"], "/d");
        assert_eq!(list["plugins"][0].get("mtu"), None);
    }

    #[test]
    fn mtu_only_when_asked_for() {
        let text = render(&["10.244.0.0/24".parse().unwrap()], Path::new("/d"), Some(1400));
        let list: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(list["plugins"][0]["mtu"], 1400);
    }
}
