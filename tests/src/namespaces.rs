//! Two network namespaces joined by a veth pair: the node, and somebody outside of it.

use std::path::PathBuf;

use crate::command::Sh;

/// The pair; dropped, both go with everything in them.
#[derive(Debug)]
pub struct Namespaces {
    id: String,
    /// Second byte of the addresses.
    net: u8,
}

impl Namespaces {
    #[must_use]
    pub fn create(id: &str, net: u8) -> Self {
        let pair = Self { id: id.to_owned(), net };
        let (node, client) = (pair.name("node"), pair.name("client"));
        let (veth_node, veth_client) = (format!("{id}n"), format!("{id}c"));
        for name in [&node, &client] {
            let _ = Sh::new(&["ip", "netns", "del", name]).run();
            let _ = Sh::new(&["ip", "netns", "add", name]).run().ok();
        }
        let ip = |line: &str| {
            let args: Vec<&str> = std::iter::once("ip").chain(line.split_whitespace()).collect();
            let _ = Sh::new(&args).run().ok();
        };
        ip(&format!("link add {veth_node} netns {node} type veth peer name {veth_client} netns {client}"));
        for (name, veth, host) in [(&node, &veth_node, 2), (&client, &veth_client, 1)] {
            ip(&format!("-n {name} link set {veth} name eth0"));
            ip(&format!("-n {name} address add 10.{net}.0.{host}/24 dev eth0"));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!("-n {name} link set lo up"));
        }
        // What the node sends to the world ends in the client's namespace, which forwards nothing.
        ip(&format!("-n {node} route add default via 10.{net}.0.1"));
        pair
    }

    fn name(&self, role: &str) -> String {
        format!("{}-{role}", self.id)
    }

    #[must_use]
    pub fn node(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.name("node"))
    }

    #[must_use]
    pub fn client(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.name("client"))
    }

    #[must_use]
    pub fn node_ip(&self) -> String {
        format!("10.{}.0.2", self.net)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for role in ["node", "client"] {
            let _ = Sh::new(&["ip", "netns", "del", &self.name(role)]).run();
        }
    }
}
