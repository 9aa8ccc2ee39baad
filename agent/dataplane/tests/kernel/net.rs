//! Network namespaces, and the node of the tests.
//!
//! ```text
//! client 192.168.50.2 ── up0 192.168.50.1 [ node ] up1 192.168.60.1 ── remote 192.168.60.3
//!                                         cni0 10.244.0.1 ── pods 10.244.0.2, 10.244.0.3
//! ```
//! No namespace has a default route: nothing can leave the machine. The remote end knows no way to the
//! client, so it answers only what the node sends in its own name.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// A network namespace, alive as long as its holder process.
pub(crate) struct Ns {
    holder: Child,
    file: File,
}

impl Ns {
    pub(crate) fn new() -> Result<Self> {
        let holder = Command::new("unshare").args(["--net", "sleep", "infinity"]).stdin(Stdio::null()).spawn()?;
        let path = format!("/proc/{}/ns/net", holder.id());
        let own = fs::read_link("/proc/thread-self/ns/net")?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read_link(&path)? == own {
            if Instant::now() > deadline {
                bail!("unshare made no network namespace");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let ns = Self { file: File::open(&path)?, holder };
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Runs `work` on a thread in the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(crate) fn ip(&self, arguments: &str) -> Result<()> {
        let status = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.pid()))
            .arg("ip")
            .args(arguments.split(' '))
            .status()
            .context("running ip")?;
        if status.success() { Ok(()) } else { bail!("ip {arguments} failed") }
    }

    pub(crate) fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.run(|| Ok(fs::write(format!("/proc/sys/{name}"), value)?))
    }
}

impl Drop for Ns {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// The node and what is around it.
pub(crate) struct World {
    pub(crate) node: Ns,
    pub(crate) client: Ns,
    pub(crate) remote: Ns,
    pub(crate) pods: Vec<Ns>,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        let node = Ns::new()?;
        let client = Ns::new()?;
        let remote = Ns::new()?;
        node.ip(&format!("link add up0 type veth peer name eth0 netns {}", client.pid()))?;
        node.ip(&format!("link add up1 type veth peer name eth0 netns {}", remote.pid()))?;
        node.ip("link add cni0 type bridge")?;
        for (interface, address) in [("up0", "192.168.50.1/24"), ("up1", "192.168.60.1/24"), ("cni0", "10.244.0.1/24")]
        {
            node.ip(&format!("addr add {address} dev {interface}"))?;
            node.ip(&format!("link set {interface} up"))?;
        }
        node.ip("addr add fd50::1/64 dev up0 nodad")?;
        node.ip("addr add fd44::1/64 dev cni0 nodad")?;
        client.ip("addr add 192.168.50.2/24 dev eth0")?;
        client.ip("addr add fd50::2/64 dev eth0 nodad")?;
        client.ip("link set eth0 up")?;
        client.ip("route add 10.96.0.0/16 via 192.168.50.1")?;
        client.ip("route add fd96::/64 via fd50::1")?;
        remote.ip("addr add 192.168.60.3/24 dev eth0")?;
        remote.ip("link set eth0 up")?;
        remote.ip("route add 192.168.50.1/32 via 192.168.60.1")?;
        node.sysctl("net/ipv4/ip_forward", "1")?;
        node.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        node.ip("route add unreachable 10.96.0.0/16")?;
        let mut pods = Vec::new();
        for number in [2, 3] {
            let pod = Ns::new()?;
            node.ip(&format!("link add pod{number} type veth peer name eth0 netns {}", pod.pid()))?;
            node.ip(&format!("link set pod{number} master cni0 up"))?;
            pod.ip(&format!("addr add 10.244.0.{number}/24 dev eth0"))?;
            pod.ip(&format!("addr add fd44::{number}/64 dev eth0 nodad"))?;
            pod.ip("link set eth0 up")?;
            pod.ip("route add 192.168.50.0/24 via 10.244.0.1")?;
            pod.ip("route add fd50::/64 via fd44::1")?;
            pods.push(pod);
        }
        Ok(Self { node, client, remote, pods })
    }
}

/// A control group of the test's own, removed at the end.
pub(crate) struct Cgroup {
    pub(crate) path: std::path::PathBuf,
}

impl Cgroup {
    pub(crate) fn new(root: &Path, name: &str) -> Result<Self> {
        let path = root.join(format!("orlop-test-{}-{name}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The last process may need a moment to be gone.
        for _ in 0..200 {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}
