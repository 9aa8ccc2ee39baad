//! `cargo xtask up` and `down`: a one-node cluster on this machine, with the demo on it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{build, cache, images, setup, step};

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Directory of the cluster
    #[arg(long, default_value = "/var/lib/orlop")]
    data_dir: PathBuf,
    /// More flags for `orlop up`
    #[arg(last = true)]
    more: Vec<String>,
}

pub(crate) fn up(options: &Options) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a node needs root: run `cargo xtask up` as root (or under sudo -E)");
    }
    setup::for_build()?;
    setup::for_run()?;
    let orlop = build::orlop(build::Profile::new(true, false))?;
    let images_dir = options.data_dir.join("images");
    fs::create_dir_all(&images_dir).with_context(|| format!("creating {}", images_dir.display()))?;
    for image in images::build()? {
        build::publish(&image, &images_dir.join(image.file_name().context("an image without a name")?))?;
    }
    let kubectl = setup::kubectl(setup::Kubectl::V1_36)?;
    start(&orlop, options)?;
    demo(&kubectl, options)
}

/// Starts orlop apart from this terminal, and shows its progress until it is ready.
fn start(orlop: &PathBuf, options: &Options) -> Result<()> {
    let out_path = cache::logs()?.join("orlop-up.out");
    let err_path = cache::logs()?.join("orlop-up.log");
    let out = File::create(&out_path)?;
    let mut child = Command::new(orlop)
        .arg("up")
        .arg(format!("--data-dir={}", options.data_dir.display()))
        .args(&options.more)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(File::create(&err_path)?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {}", orlop.display()))?;
    step::say(&format!("starting {} up (process {}, log in {})", orlop.display(), child.id(), err_path.display()));
    let mut shown = 0;
    for _ in 0..1200 {
        let text = fs::read_to_string(&out_path)?;
        for line in text.lines().skip(shown) {
            println!("    {line}");
        }
        shown = text.lines().count();
        if text.lines().any(|l| l.starts_with("ready in")) {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            let log = fs::read_to_string(&err_path).unwrap_or_default();
            bail!("orlop up ended with {status}:\n{log}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("orlop up is not ready after 2 minutes; see {}", err_path.display())
}

fn demo(kubectl: &PathBuf, options: &Options) -> Result<()> {
    let kubeconfig = options.data_dir.join("admin.kubeconfig");
    let run = |args: &[&str]| {
        let mut command = Command::new(kubectl);
        command.args(args).env("KUBECONFIG", &kubeconfig);
        command
    };
    let manifest = cache::root().join("tests/manifests/demo.yaml");
    let manifest = manifest.to_string_lossy();
    step::run_shown("kubectl apply -f tests/manifests/demo.yaml", &mut run(&["apply", "-f", &manifest]))?;
    step::run_shown(
        "waiting for the demo",
        &mut run(&["rollout", "status", "-n", "demo", "deployment/web", "--timeout=120s"]),
    )?;
    step::run_shown("kubectl get -n demo", &mut run(&["get", "-n", "demo", "pods,services", "-o", "wide"]))?;
    let ip = step::output(&mut run(&["get", "-n", "demo", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]))?;
    for path in ["", "motd"] {
        step::run_shown(
            &format!("curl http://{ip}/{path}"),
            Command::new("curl").args(["-s", "-m", "5"]).arg(format!("http://{ip}/{path}")),
        )?;
    }
    println!(
        "\nThe cluster goes on running. Try:\n  export KUBECONFIG={}\n  {} get pods -A\nand in the end:\n  cargo xtask down --purge",
        kubeconfig.display(),
        kubectl.display()
    );
    Ok(())
}

pub(crate) fn down(options: &Options, purge: bool) -> Result<()> {
    let orlop = build::orlop(build::Profile::new(true, false))?;
    let mut command = Command::new(orlop);
    command.arg("down").arg(format!("--data-dir={}", options.data_dir.display()));
    if purge {
        command.arg("--purge");
    }
    step::run_shown("orlop down", &mut command)
}
