//! What can be known to fail is said before anything is made: rights, ports, programs.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

use crate::containerd;
use crate::settings::{NodeSettings, ProxySettings};

/// Namespaces, mounts, control groups and eBPF need it.
pub(crate) fn root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a node needs root: run this as root, or as a service of systemd");
    }
    Ok(())
}

/// Nobody else holds the address. `flag` is what changes it.
pub(crate) fn port(what: &str, address: SocketAddr, flag: &str) -> Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!(
                "the {what} cannot listen on {address}: the port is taken; stop its holder (ss -ltnp), or give another {flag}"
            )
        }
        Err(error) => Err(error).with_context(|| format!("the {what} cannot listen on {address}: check {flag}")),
    }
}

pub(crate) fn node(node: &NodeSettings, proxy: Option<&ProxySettings>) -> Result<()> {
    port("kubelet's server", node.listen, "--port")?;
    if let Some(proxy) = proxy {
        self::proxy(proxy)?;
    }
    match &node.runtime_endpoint {
        None => {
            containerd::find_program("containerd")?;
            containerd::find_program("runc")?;
            containerd::ContainerdConfig::detect(node.systemd_cgroup)?;
        }
        Some(endpoint) => {
            let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
            std::os::unix::net::UnixStream::connect(path).with_context(|| {
                format!("--container-runtime-endpoint {endpoint}: no container runtime answers there; start it, or leave the flag out to have Orlop run its own containerd")
            })?;
        }
    }
    Ok(())
}

pub(crate) fn proxy(proxy: &ProxySettings) -> Result<()> {
    if let Some(address) = proxy.healthz {
        port("service proxy's health check", address, "--healthz-bind-address")?;
    }
    if let Some(address) = proxy.metrics {
        port("service proxy's metrics", address, "--metrics-bind-address")?;
    }
    Ok(())
}
