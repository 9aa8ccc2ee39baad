//! `orlop down`: stops what an instance left running; with `--purge` removes what it made, and
//! checks that nothing is left. It goes on past errors and tells of all of them at the end.

mod check;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnetwork::IpNetwork;
use nix::sys::signal::Signal;
use orlop_host::cgroup::{CgroupPath, Hierarchies};
use orlop_host::mounts;
use orlop_host::process::PidFd;
use orlop_runtime::{RuntimeClient, RuntimeOptions};

use crate::cli::DownArgs;
use crate::containerd::{Containerd, ContainerdConfig};
use crate::instance::{Instance, InstanceLock, Record};
use crate::progress::Progress;

/// What a graceful stop of one Pod may take.
const POD_STOP: Duration = Duration::from_secs(30);

/// Errors met on the way; the way goes on.
#[derive(Default)]
struct Trouble(Vec<String>);

impl Trouble {
    fn note(&mut self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            self.0.push(format!("{what}: {error:#}"));
        }
    }
}

pub(crate) async fn run(args: &DownArgs) -> Result<()> {
    let progress = Progress::new();
    let instance = Instance::new(&args.data_dir)?;
    if !instance.exists() {
        progress.print(&format!("there is no instance at {}", instance.data_dir.display()));
        return Ok(());
    }
    stop_orlop(&instance, &progress).await?;
    let lock = instance.lock()?;
    let record = instance.record()?;
    let mut trouble = Trouble::default();
    trouble.note("stopping the Pods", stop_pods(&instance, &record, &progress).await);
    trouble.note("stopping containerd", stop_containerd(&instance, &record, &progress));
    trouble.note("the service dataplane", remove_dataplane(&record));
    trouble.note("the pod network", remove_network(&instance, &record).await);
    progress.step("network", "programs, routes and bridge removed");
    trouble.note("mounts", remove_mounts(&instance, &record));
    trouble.note("control groups", remove_cgroups(&record));
    progress.step("mounts, cgroups", "removed");
    if args.purge {
        trouble.note("data", remove_data(&instance, &record));
        progress.step("data", &format!("{} removed", instance.data_dir.display()));
    }
    let left = check::leftovers(&instance, &record, args.purge).await;
    drop(lock);
    trouble.0.extend(left.into_iter().map(|l| format!("left behind: {l}")));
    if trouble.0.is_empty() {
        progress.print(if args.purge { "nothing is left" } else { "stopped; the data is kept (--purge removes it)" });
        return Ok(());
    }
    bail!("not everything could be undone:\n  {}", trouble.0.join("\n  "))
}

/// Takes back a first start that failed: what it had made so far, its data directory too. Says
/// nothing; the error that made it fail is what counts.
pub(crate) async fn undo(instance: &Instance, lock: InstanceLock) {
    let record = instance.record().unwrap_or_default();
    let quiet = Progress::quiet();
    let mut trouble = Trouble::default();
    trouble.note("containerd", stop_containerd(instance, &record, &quiet));
    trouble.note("the service dataplane", remove_dataplane(&record));
    trouble.note("the pod network", remove_network(instance, &record).await);
    trouble.note("mounts", remove_mounts(instance, &record));
    trouble.note("control groups", remove_cgroups(&record));
    trouble.note("data", remove_made(instance));
    drop(lock);
    for error in trouble.0 {
        tracing::warn!(error, "undoing a failed start");
    }
}

/// A failed first start leaves the images that the operator put there.
fn remove_made(instance: &Instance) -> Result<()> {
    for entry in fs::read_dir(&instance.data_dir)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|n| n != "images") {
            remove_tree(&path)?;
        }
    }
    let _ = fs::remove_dir(instance.images_dir());
    let _ = fs::remove_dir(&instance.data_dir);
    Ok(())
}

/// Ends the process that holds the data directory: TERM, then KILL.
async fn stop_orlop(instance: &Instance, progress: &Progress) -> Result<()> {
    let Some(pid) = instance.holder() else { return Ok(()) };
    let Ok(process) = PidFd::open(pid) else { return Ok(()) };
    for (signal, wait_s) in [(Signal::SIGTERM, 10), (Signal::SIGKILL, 10)] {
        let _ = process.signal(signal as i32);
        if tokio::time::timeout(Duration::from_secs(wait_s), process.exited()).await.is_ok() {
            progress.step("orlop", &format!("process {pid} stopped"));
            return Ok(());
        }
    }
    bail!("process {pid}, which holds {}, does not end", instance.data_dir.display())
}

/// Stops and removes the instance's sandboxes: all of an own containerd, of a foreign runtime those
/// whose Pod has a directory below our root directory.
async fn stop_pods(instance: &Instance, record: &Record, progress: &Progress) -> Result<()> {
    if record.runtime_endpoint.is_empty() {
        return Ok(());
    }
    if record.own_runtime {
        let config = ContainerdConfig::detect(record.cgroup_driver == "systemd")?;
        Containerd::prepare(instance, &config)?.ensure().await?;
    }
    let options = RuntimeOptions { endpoint: record.runtime_endpoint.clone(), ..RuntimeOptions::default() };
    let runtime = RuntimeClient::new(options)?;
    let pods_dir = record.root_dir.join("pods");
    let sandboxes: Vec<_> = runtime
        .list_pod_sandbox(None)
        .await?
        .into_iter()
        .filter(|s| record.own_runtime || s.metadata.as_ref().is_some_and(|m| pods_dir.join(&m.uid).is_dir()))
        .collect();
    for sandbox in &sandboxes {
        remove_logs(record, sandbox.metadata.as_ref().map(|m| (&*m.namespace, &*m.name, &*m.uid)));
    }
    let jobs = sandboxes.iter().map(|sandbox| {
        let runtime = runtime.clone();
        async move {
            tokio::time::timeout(POD_STOP, runtime.stop_pod_sandbox(&sandbox.id))
                .await
                .context("no answer in time")??;
            tokio::time::timeout(POD_STOP, runtime.remove_pod_sandbox(&sandbox.id))
                .await
                .context("no answer in time")??;
            anyhow::Ok(())
        }
    });
    let results = futures::future::join_all(jobs).await;
    let failed: Vec<String> = results.into_iter().filter_map(|r| r.err().map(|e| format!("{e:#}"))).collect();
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    progress.step("pods", &format!("{} stopped", sandboxes.len()));
    Ok(())
}

/// The shared log directory holds other nodes' Pods too: only the logs of our sandboxes go.
fn remove_logs(record: &Record, pod: Option<(&str, &str, &str)>) {
    if let Some((namespace, name, uid)) = pod {
        let dir = record.pod_logs_dir.join(format!("{namespace}_{name}_{uid}"));
        if let Err(error) = fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %dir.display(), error = %error, "removing a Pod's logs");
        }
    }
}

fn stop_containerd(instance: &Instance, record: &Record, progress: &Progress) -> Result<()> {
    if !record.own_runtime {
        return Ok(());
    }
    let config = ContainerdConfig::detect(record.cgroup_driver == "systemd")?;
    Containerd::prepare(instance, &config)?.stop(Duration::from_secs(10))?;
    progress.step("containerd", "stopped");
    Ok(())
}

fn remove_dataplane(record: &Record) -> Result<()> {
    if record.bpffs_dir.as_os_str().is_empty() {
        return Ok(());
    }
    crate::node::remove_dataplane(&record.bpffs_dir)
}

async fn remove_network(instance: &Instance, record: &Record) -> Result<()> {
    orlop_network::clean_up(&crate::node::network_config(instance, &record.node_name, false))
        .await
        .map_err(|errors| joined(&errors))
}

fn joined<E: std::fmt::Display>(errors: &[E]) -> anyhow::Error {
    anyhow::anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn remove_mounts(instance: &Instance, record: &Record) -> Result<()> {
    let dirs =
        [instance.run_dir(), instance.containerd_dir(), record.root_dir.join("pods"), record.root_dir.join("volumes")];
    let mut failed = Vec::new();
    for dir in dirs.iter().filter(|d| d.is_absolute()) {
        if let Err(errors) = mounts::unmount_below(dir) {
            failed.extend(errors.into_iter().map(|(path, error)| format!("{}: {error}", path.display())));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

fn remove_cgroups(record: &Record) -> Result<()> {
    let Some(pods) = pods_cgroup(record) else { return Ok(()) };
    let hierarchies = Hierarchies::discover()?;
    if hierarchies.exists(&pods) {
        hierarchies.kill(&pods);
        remove_cgroup(&hierarchies, &pods)?;
    }
    match CgroupPath::parse(&record.cgroup_root) {
        // Somebody else may have moved in meanwhile: only an empty one goes.
        Some(root) if record.made_cgroup_root && !root.is_root() && hierarchies.children(&root).is_empty() => {
            remove_cgroup(&hierarchies, &root)
        }
        _ => Ok(()),
    }
}

fn remove_cgroup(hierarchies: &Hierarchies, path: &CgroupPath) -> Result<()> {
    hierarchies.remove(path).map_err(|errors| {
        anyhow::anyhow!(
            "{}",
            errors.iter().map(|(p, e)| format!("{}: {e}", p.display())).collect::<Vec<_>>().join("; ")
        )
    })
}

/// The root of the QoS tree.
fn pods_cgroup(record: &Record) -> Option<CgroupPath> {
    let name = if record.cgroup_driver == "systemd" { "kubepods.slice" } else { "kubepods" };
    CgroupPath::parse(&record.cgroup_root)?.child(name)
}

/// The kubelet's directories below `--root-dir`, then the data directory. A root directory that also
/// holds somebody else's files stays.
fn remove_data(instance: &Instance, record: &Record) -> Result<()> {
    const KUBELETS: [&str; 12] = [
        "pods",
        "plugins",
        "plugins_registry",
        "device-plugins",
        "pod-resources",
        "pods-api",
        "checkpoints",
        "pki",
        "image_manager",
        "volumes",
        "seccomp",
        "orlop",
    ];
    if record.root_dir.is_absolute() && !record.root_dir.starts_with(&instance.data_dir) {
        for name in KUBELETS {
            remove_tree(&record.root_dir.join(name))?;
        }
        let _ = fs::remove_dir(&record.root_dir);
    }
    // The lock is removed last: until then nobody else may start on the directory.
    for entry in fs::read_dir(&instance.data_dir)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|n| n != "orlop.lock") {
            remove_tree(&path)?;
        }
    }
    remove_tree(&instance.data_dir)
}

/// Never crosses into a mount: what is still mounted there belongs to somebody.
fn remove_tree(path: &Path) -> Result<()> {
    let still: Vec<_> = mounts::list()?.into_iter().filter(|m| m.mount_point.starts_with(path)).collect();
    if let Some(mount) = still.first() {
        bail!("{} is still mounted: it is not removed", mount.mount_point.display());
    }
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Routes of ours, for the check.
async fn routes_left() -> Vec<IpNetwork> {
    let Ok(link) = orlop_host::netlink::Netlink::connect() else { return Vec::new() };
    link.routes_of_ours().await.unwrap_or_default().into_iter().map(|r| r.destination).collect()
}
