//! What is tried.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use orlop_dataplane::{EbpfBackend, EbpfConfig, Interfaces, TcHook, cgroup2_root};
use orlop_proxy::backend::Backend;
use orlop_proxy::plan::plan;
use orlop_proxy::state::{
    Destination, Endpoint, Frontend, FrontendAddress, FrontendKind, IpFamily, NodeAddressScope, Protocol, ProxyState,
    Rule, ServicePortName, WhenEmpty,
};

use crate::net::{Cgroup, World};
use crate::worker::{Worker, serve};

type Scenario = (&'static str, fn() -> Result<()>);

pub(crate) const ALL: [Scenario; 8] = [
    ("sockets_reach_services", sockets_reach_services),
    ("outside_reaches_node_ports", outside_reaches_node_ports),
    ("affinity_sticks_until_the_endpoint_goes", affinity_sticks_until_the_endpoint_goes),
    ("a_new_agent_adopts_what_is_there", a_new_agent_adopts_what_is_there),
    ("updates_leave_no_window", updates_leave_no_window),
    ("audit_repairs_what_others_break", audit_repairs_what_others_break),
    ("packets_run_through_the_programs", packets_run_through_the_programs),
    ("ten_thousand_services_and_full_maps", ten_thousand_services_and_full_maps),
];

/// A node with a backend of its own.
struct Stage {
    world: World,
    cgroup: Cgroup,
    config: EbpfConfig,
}

impl Stage {
    fn new(name: &str) -> Result<Self> {
        let world = World::new()?;
        let root = cgroup2_root().context("a cgroup2 mount")?;
        let cgroup = Cgroup::new(&root, name)?;
        let config = EbpfConfig {
            cgroup_root: Some(cgroup.path.clone()),
            bpffs_dir: PathBuf::from(format!("/sys/fs/bpf/orlop/test-{}-{name}", std::process::id())),
            interfaces: Interfaces::Auto,
            node_ips: vec!["192.168.50.1".parse()?, "192.168.60.1".parse()?, "fd50::1".parse()?],
            ..EbpfConfig::default()
        };
        serve(&world.pods[0], "a", "10.244.0.2:8080")?;
        serve(&world.pods[1], "b", "10.244.0.3:8080")?;
        serve(&world.pods[0], "a6", "[fd44::2]:8080")?;
        serve(&world.remote, "r", "192.168.60.3:8080")?;
        Ok(Self { world, cgroup, config })
    }

    /// Runs with a backend on the node; it is dropped at the end, as by kill -9: pins stay.
    fn with_backend<T: Send>(&self, work: impl AsyncFnOnce(&mut EbpfBackend) -> Result<T> + Send) -> Result<T> {
        self.world.node.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut backend = EbpfBackend::new(self.config.clone())?;
            runtime.block_on(work(&mut backend))
        })
    }

    fn worker(&self) -> Result<Worker> {
        Worker::start(&self.world.node, &self.cgroup.path)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let cleaned = self.with_backend(async |backend| Ok(backend.cleanup().await));
        let left = self.config.bpffs_dir.exists();
        assert!(matches!(cleaned, Ok(Ok(()))) && !left, "clean-up left pins: {cleaned:?}");
    }
}

async fn sync(backend: &mut EbpfBackend, desired: &ProxyState) -> Result<()> {
    let installed = backend.installed().await?;
    backend.apply(&plan(desired, &installed), desired).await?;
    let left = plan(desired, &backend.installed().await?);
    ensure!(left.is_empty(), "what was written reads back differently: {left:?}");
    Ok(())
}

fn endpoints(addresses: &[&str]) -> Arc<[Endpoint]> {
    let parse = |text: &&str| {
        let address: std::net::SocketAddr = text.parse().expect("a socket address");
        Endpoint { ip: address.ip(), port: address.port(), local: !text.starts_with("192.168.60.") }
    };
    let mut all: Vec<Endpoint> = addresses.iter().map(parse).collect();
    all.sort();
    all.into()
}

fn rule(name: &str, targets: &[&str], affinity_s: Option<u32>) -> Rule {
    let to = Destination { endpoints: endpoints(targets), when_empty: WhenEmpty::Reject };
    Rule {
        service: Arc::new(ServicePortName { namespace: "default".into(), name: name.into(), port: String::new() }),
        kind: FrontendKind::ClusterIp,
        internal: to.clone(),
        external: to,
        affinity_s,
        source_ranges: Arc::new([]),
    }
}

/// TCP and UDP frontends at an address (or `node`) and port.
fn state(rules: &[(&str, u16, Rule)]) -> ProxyState {
    let mut frontends = BTreeMap::new();
    for (address, port, rule) in rules {
        let addresses = match *address {
            "node" => vec![FrontendAddress::NodePort(IpFamily::V4), FrontendAddress::NodePort(IpFamily::V6)],
            ip => vec![FrontendAddress::Ip(ip.parse().expect("an address"))],
        };
        for address in addresses {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                frontends.insert(Frontend { address, port: *port, protocol }, rule.clone());
            }
        }
    }
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let node_addresses = BTreeMap::from([
        (ip("192.168.50.1"), NodeAddressScope::Everybody),
        (ip("fd50::1"), NodeAddressScope::Everybody),
        (ip("127.0.0.1"), NodeAddressScope::Host),
    ]);
    ProxyState { frontends, node_addresses }
}

fn expect(worker: &mut Worker, command: &str, address: &str, answers: &[&str]) -> Result<()> {
    let answer = worker.ask(command, address)?;
    ensure!(answers.contains(&answer.as_str()), "{command} {address}: got {answer:?}, wanted one of {answers:?}");
    Ok(())
}

const REFUSED: &str = "err Connection refused (os error 111)";

fn sockets_reach_services() -> Result<()> {
    let stage = Stage::new("sockets")?;
    let pods = ["10.244.0.2:8080", "10.244.0.3:8080"];
    let mut desired = state(&[
        ("10.96.0.10", 80, rule("web", &pods, None)),
        ("10.96.0.11", 80, rule("none", &[], None)),
        ("fd96::10", 80, rule("six", &["[fd44::2]:8080"], None)),
        ("node", 30080, rule("web", &pods, None)),
    ]);
    let denied = Frontend { address: FrontendAddress::Ip("10.96.0.12".parse()?), port: 80, protocol: Protocol::Tcp };
    let mut local_only = rule("local", &[], None);
    local_only.internal.when_empty = WhenEmpty::Drop;
    desired.frontends.insert(denied, local_only);
    stage.with_backend(async |backend| {
        sync(backend, &desired).await?;
        let mut worker = stage.worker()?;
        for command in ["tcp", "udp", "sendto"] {
            let mut seen = HashSet::new();
            for _ in 0..40 {
                let answer = worker.ask(command, "10.96.0.10:80")?;
                // The peer is the service, also where the kernel talks to a Pod.
                ensure!(answer.starts_with("ok ") && answer.ends_with(" 10.96.0.10:80"), "{command}: {answer}");
                seen.insert(answer);
            }
            ensure!(seen.len() == 2, "{command} uses every endpoint: {seen:?}");
            expect(&mut worker, command, "10.96.0.11:80", &[REFUSED])?;
            expect(&mut worker, command, "[fd96::10]:80", &["ok a6/fd44::1 [fd96::10]:80"])?;
            // A v4-mapped address on an IPv6 socket is the same service.
            let mapped = worker.ask(command, "[::ffff:10.96.0.10]:80")?;
            ensure!(mapped.starts_with("ok ") && mapped.ends_with(" [::ffff:10.96.0.10]:80"), "{command}: {mapped}");
            for node_port in ["192.168.50.1:30080", "127.0.0.1:30080"] {
                let answer = worker.ask(command, node_port)?;
                ensure!(answer.starts_with("ok ") && answer.ends_with(node_port), "{command}: {answer}");
            }
        }
        expect(&mut worker, "tcp", "10.96.0.12:80", &["err Operation not permitted (os error 1)"])?;
        // Everything else is left alone.
        expect(&mut worker, "tcp", "10.244.0.2:8080", &["ok a/10.244.0.1 10.244.0.2:8080"])?;
        expect(&mut worker, "tcp", "192.168.50.1:30081", &[REFUSED])?;
        // A Pod's 127.0.0.1 is its own, but services are there for it.
        let mut pod = Worker::start(&stage.world.pods[0], &stage.cgroup.path)?;
        expect(&mut pod, "tcp", "127.0.0.1:30080", &[REFUSED])?;
        let hairpin = pod.ask("tcp", "10.96.0.10:80")?;
        ensure!(hairpin.starts_with("ok "), "from a Pod, maybe to itself: {hairpin}");
        let direct = worker.ask("time", "10.244.0.2:8080")?;
        let service = worker.ask("time", "10.96.0.10:80")?;
        println!("median connect in ns: direct {direct}, by service {service}; {:?}", backend.counters());
        Ok(())
    })
}

fn outside_reaches_node_ports() -> Result<()> {
    let stage = Stage::new("outside")?;
    let desired = state(&[
        ("node", 30080, rule("local", &["10.244.0.2:8080"], None)),
        ("node", 30081, rule("remote", &["192.168.60.3:8080"], None)),
        ("node", 30082, rule("none", &[], None)),
        ("10.96.0.10", 80, rule("cluster", &["10.244.0.3:8080"], None)),
        ("fd96::10", 80, rule("six", &["[fd44::2]:8080"], None)),
        ("10.96.0.11", 80, rule("none", &[], None)),
        ("fd96::11", 80, rule("none", &[], None)),
    ]);
    let mut desired = desired;
    let six = Frontend { address: FrontendAddress::NodePort(IpFamily::V6), port: 30080, protocol: Protocol::Tcp };
    desired.frontends.insert(six, rule("six", &["[fd44::2]:8080"], None));
    let six_udp = Frontend { protocol: Protocol::Udp, ..six };
    desired.frontends.insert(six_udp, rule("six", &["[fd44::2]:8080"], None));
    let limited = Frontend { address: FrontendAddress::NodePort(IpFamily::V4), port: 30083, protocol: Protocol::Tcp };
    let mut only_others = rule("limited", &["10.244.0.2:8080"], None);
    only_others.source_ranges = Arc::new(["192.168.50.3/32".parse()?]);
    desired.frontends.insert(limited, only_others);
    let allowed = Frontend { port: 30084, ..limited };
    let mut only_us = rule("allowed", &["10.244.0.2:8080"], None);
    only_us.source_ranges = Arc::new(["192.168.50.0/30".parse()?]);
    desired.frontends.insert(allowed, only_us);
    stage.with_backend(async |backend| {
        sync(backend, &desired).await?;
        // The client is in no control group of ours.
        let mut client = Worker::start(&stage.world.client, &cgroup2_root().context("cgroup2")?)?;
        for command in ["tcp", "udp", "sendto"] {
            for _ in 0..3 {
                // A local endpoint sees the client, a remote one sees the node.
                expect(&mut client, command, "192.168.50.1:30080", &["ok a/192.168.50.2 192.168.50.1:30080"])?;
                expect(&mut client, command, "192.168.50.1:30081", &["ok r/192.168.50.1 192.168.50.1:30081"])?;
                expect(&mut client, command, "10.96.0.10:80", &["ok b/192.168.50.2 10.96.0.10:80"])?;
                expect(&mut client, command, "[fd50::1]:30080", &["ok a6/fd50::2 [fd50::1]:30080"])?;
            }
        }
        for address in ["192.168.50.1:30082", "10.96.0.11:80", "[fd50::1]:30082", "[fd96::11]:80"] {
            expect(&mut client, "tcp", address, &[REFUSED])?;
            expect(&mut client, "udp", address, &[REFUSED])?;
        }
        expect(&mut client, "tcp", "192.168.50.1:30084", &["ok a/192.168.50.2 192.168.50.1:30084"])?;
        let limited = client.ask("tcp", "192.168.50.1:30083")?;
        ensure!(limited == "err connection timed out", "a source that isn't allowed meets silence: {limited}");
        println!("{:?}", backend.counters());
        Ok(())
    })
}

fn affinity_sticks_until_the_endpoint_goes() -> Result<()> {
    let stage = Stage::new("affinity")?;
    let sticky = |targets: &[&str]| {
        state(&[
            ("10.96.0.10", 80, rule("web", targets, Some(10_800))),
            ("node", 30080, rule("web", targets, Some(10_800))),
        ])
    };
    stage.with_backend(async |backend| {
        sync(backend, &sticky(&["10.244.0.2:8080", "10.244.0.3:8080"])).await?;
        let mut inside = stage.worker()?;
        let mut outside = Worker::start(&stage.world.client, &cgroup2_root().context("cgroup2")?)?;
        for (worker, address) in [(&mut inside, "10.96.0.10:80"), (&mut outside, "192.168.50.1:30080")] {
            let first = worker.ask("tcp", address)?;
            ensure!(first.starts_with("ok "), "{first}");
            for _ in 0..20 {
                expect(worker, "tcp", address, &[&first])?;
            }
        }
        let stuck = inside.ask("tcp", "10.96.0.10:80")?;
        let other =
            if stuck.starts_with("ok a/") { ("10.244.0.3:8080", "ok b/") } else { ("10.244.0.2:8080", "ok a/") };
        sync(backend, &sticky(&[other.0])).await?;
        let moved = inside.ask("tcp", "10.96.0.10:80")?;
        ensure!(moved.starts_with(other.1), "{moved} after {stuck} was gone");
        Ok(())
    })
}

fn a_new_agent_adopts_what_is_there() -> Result<()> {
    let stage = Stage::new("adopt")?;
    let desired = state(&[
        ("10.96.0.10", 80, rule("web", &["10.244.0.2:8080"], None)),
        ("node", 30081, rule("remote", &["192.168.60.3:8080"], None)),
    ]);
    stage.with_backend(async |backend| sync(backend, &desired).await)?;
    // Nobody is there now: as after kill -9.
    let mut inside = stage.worker()?;
    let mut outside = Worker::start(&stage.world.client, &cgroup2_root().context("cgroup2")?)?;
    expect(&mut inside, "hold", "10.96.0.10:80", &["ok a/10.244.0.1 10.96.0.10:80"])?;
    expect(&mut outside, "hold", "192.168.50.1:30081", &["ok r/192.168.50.1 192.168.50.1:30081"])?;
    for _ in 0..3 {
        stage.with_backend(async |backend| {
            let left = plan(&desired, &backend.installed().await?);
            ensure!(left.is_empty(), "a new agent finds everything in place: {left:?}");
            Ok(())
        })?;
        // Connections of before go on, and new ones come.
        expect(&mut inside, "use", "10.96.0.10:80", &["ok a/10.244.0.1 10.96.0.10:80"])?;
        expect(&mut outside, "use", "192.168.50.1:30081", &["ok r/192.168.50.1 192.168.50.1:30081"])?;
        expect(&mut inside, "tcp", "10.96.0.10:80", &["ok a/10.244.0.1 10.96.0.10:80"])?;
        expect(&mut outside, "udp", "192.168.50.1:30081", &["ok r/192.168.50.1 192.168.50.1:30081"])?;
    }
    Ok(())
}

fn updates_leave_no_window() -> Result<()> {
    let stage = Stage::new("window")?;
    let both = [&["10.244.0.2:8080"][..], &["10.244.0.3:8080"][..]];
    stage.with_backend(async |backend| {
        let first = state(&[("10.96.0.10", 80, rule("web", both[0], None))]);
        sync(backend, &first).await?;
        let mut worker = stage.worker()?;
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let client = std::thread::spawn(move || -> Result<usize> {
            let mut connects = 0;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let answer = worker.ask("tcp", "10.96.0.10:80")?;
                ensure!(answer.starts_with("ok "), "connect {connects}: {answer}");
                connects += 1;
            }
            Ok(connects)
        });
        let mut installed = first;
        for round in 0..2_000 {
            let next = state(&[("10.96.0.10", 80, rule("web", both[round % 2], None))]);
            backend.apply(&plan(&next, &installed), &next).await?;
            installed = next;
            tokio::task::yield_now().await;
        }
        drop(stop);
        let connects = client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        ensure!(connects > 0, "the client connected meanwhile");
        let missing = backend.counters()?.into_iter().find(|(name, _)| *name == "slot_missing");
        ensure!(missing == Some(("slot_missing", 0)), "a program read a set that was gone: {missing:?}");
        Ok(())
    })
}

fn audit_repairs_what_others_break() -> Result<()> {
    let stage = Stage::new("audit")?;
    let desired = state(&[
        ("10.96.0.10", 80, rule("web", &["10.244.0.2:8080", "10.244.0.3:8080"], Some(60))),
        ("node", 30080, rule("web", &["10.244.0.2:8080"], None)),
    ]);
    stage.with_backend(async |backend| {
        sync(backend, &desired).await?;
        let mut inside = stage.worker()?;
        for pin in ["connect4", "recvmsg4"] {
            std::fs::remove_file(stage.config.bpffs_dir.join("links").join(pin))?;
        }
        // The kernel detaches a link some time after its last name is gone.
        let mut tries = 0;
        while inside.ask("tcp", "10.96.0.10:80")?.starts_with("ok ") {
            tries += 1;
            ensure!(tries < 500, "without its program the service is gone");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        // An interface that comes later is attached to.
        stage.world.node.ip("link del up0")?;
        stage.world.node.ip(&format!("link add up0 type veth peer name eth0 netns {}", stage.world.client.pid()))?;
        stage.world.node.ip("addr add 192.168.50.1/24 dev up0")?;
        stage.world.node.ip("link set up0 up")?;
        stage.world.client.ip("addr add 192.168.50.2/24 dev eth0")?;
        stage.world.client.ip("link set eth0 up")?;
        sync(backend, &desired).await?;
        expect(
            &mut inside,
            "tcp",
            "10.96.0.10:80",
            &["ok a/10.244.0.1 10.96.0.10:80", "ok b/10.244.0.1 10.96.0.10:80"],
        )?;
        let mut outside = Worker::start(&stage.world.client, &cgroup2_root().context("cgroup2")?)?;
        expect(&mut outside, "tcp", "192.168.50.1:30080", &["ok a/192.168.50.2 192.168.50.1:30080"])
    })
}

fn ten_thousand_services_and_full_maps() -> Result<()> {
    let mut stage = Stage::new("scale")?;
    // 10,000 Services with two ports' worth of frontends each, and distinct endpoints.
    let services = |count: u16| {
        let mut rules = Vec::new();
        for number in 0..count {
            let [high, low] = number.to_be_bytes();
            let own = [format!("10.250.{high}.{low}:8080"), format!("10.251.{high}.{low}:8080")];
            let own: Vec<&str> = own.iter().map(String::as_str).collect();
            rules.push((format!("10.96.{high}.{low}"), rule(&format!("s{number}"), &own, None)));
        }
        let rules: Vec<_> = rules.iter().map(|(ip, rule)| (ip.as_str(), 80, rule.clone())).collect();
        state(&rules)
    };
    let desired = services(10_000);
    stage.with_backend(async |backend| {
        let installed = backend.installed().await?;
        let start = std::time::Instant::now();
        backend.apply(&plan(&desired, &installed), &desired).await?;
        let applied = start.elapsed();
        let read = backend.installed().await?;
        ensure!(plan(&desired, &read).is_empty(), "everything reads back");
        println!("10,000 Services x 2: written in {applied:.1?}, read back in {:.1?}", start.elapsed() - applied);
        println!("memory of the maps: {:?}", backend.map_memory()?);
        let empty = state(&[]);
        backend.apply(&plan(&empty, &read), &empty).await?;
        Ok(())
    })?;
    drop(stage);

    // Full maps say so, and keep what fits.
    stage = Stage::new("full")?;
    stage.config.map_sizes.services = 64;
    let many = services(40);
    stage.with_backend(async |backend| {
        let installed = backend.installed().await?;
        let error = backend.apply(&plan(&many, &installed), &many).await.err().context("64 entries can't hold 80")?;
        ensure!(error.to_string().contains("ORLOP_SERVICES is full at 64 entries"), "{error}");
        ensure!(backend.installed().await?.frontends.len() == 64, "what fits is there");
        let few = services(20);
        sync(backend, &few).await
    })
}

/// Ethernet, IPv4 and a TCP SYN from the client, with right checksums.
fn syn(to: [u8; 4], port: u16) -> Vec<u8> {
    let from = [192, 168, 50, 2];
    let checksum = |parts: &[&[u8]]| {
        let bytes = parts.concat();
        let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!u16::try_from(sum).expect("folded")).to_be_bytes()
    };
    let mut ip = [&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0], &from[..], &to[..]].concat();
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum);
    let mut tcp = [&[0x9c, 0x40][..], &port.to_be_bytes(), &[0; 8], &[0x50, 2, 0xff, 0xff, 0, 0, 0, 0]].concat();
    let sum = checksum(&[&from, &to, &[0, 6, 0, 20], &tcp]);
    tcp[16..18].copy_from_slice(&sum);
    [&[0; 12][..], &[8, 0], &ip, &tcp].concat()
}

/// Whether both checksums of an IPv4 TCP packet are right.
fn sound(packet: &[u8]) -> bool {
    let expected = {
        let port = u16::from_be_bytes([packet[36], packet[37]]);
        let mut again = syn([packet[30], packet[31], packet[32], packet[33]], port);
        again[..14].copy_from_slice(&packet[..14]);
        again
    };
    packet == expected
}

fn packets_run_through_the_programs() -> Result<()> {
    let stage = Stage::new("testrun")?;
    let desired =
        state(&[("node", 30080, rule("local", &["10.244.0.2:8080"], None)), ("node", 30082, rule("none", &[], None))]);
    stage.with_backend(async |backend| {
        sync(backend, &desired).await?;
        let up0 = nix::net::if_::if_nametoindex("up0")?;
        let node = [192, 168, 50, 1];
        let run = |port, repeat| backend.run_packet(TcHook::Ingress, up0, &syn(node, port), repeat);
        let translated = run(30080, 1)?;
        ensure!(translated.verdict == -1 && sound(&translated.packet), "checksums: {translated:?}");
        ensure!(translated.packet[30..34] == [10, 244, 0, 2] && translated.packet[36..38] == 8080_u16.to_be_bytes());
        let other = run(22, 1)?;
        ensure!(other.verdict == -1 && other.packet == syn(node, 22), "not ours: {other:?}");
        let refused = run(30082, 1)?;
        // A redirect, and a reset in the packet's place.
        ensure!(refused.verdict == 7 && refused.packet[47] == 0x14, "{refused:?}");
        // Every byte less is a packet that is left alone or refused, and never an error.
        for length in 14..syn(node, 30080).len() {
            drop(backend.run_packet(TcHook::Ingress, up0, &syn(node, 30080)[..length], 1));
        }
        println!("ns per packet at ingress: not ours {}", run(22, 100_000)?.mean_ns);
        Ok(())
    })
}
