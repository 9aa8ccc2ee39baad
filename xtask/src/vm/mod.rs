//! `cargo xtask vm`: boots a Debian kernel with systemd and cgroup v2 under QEMU and runs `tests/vm/guest.sh` there.
//!
//! ```text
//! kernel package ─► vmlinuz, modules ─┐
//! mmdebstrap ─► root file system ─────┴─► root.ext4 (in the user's cache, named by its versions)
//! orlop, images, kubectl, guest.sh ─► payload.tar, a disk of its own at each run
//! ```
//!
//! The guest prints one line for each check on its serial console; the host reads them.

mod image;
mod payload;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{apt, build, cache, step};

/// Programs on the host. `qemu-utils` is left out: backports of it hold bookworm's QEMU back.
const PACKAGES: &[&str] = &["qemu-system-x86", "mmdebstrap", "cpio", "kmod", "xz-utils", "e2fsprogs", "busybox-static"];

/// How the virtual machine is run.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Options {
    /// Memory of the guest, MiB
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// Longest that the guest may take, seconds
    #[arg(long, default_value_t = 1200)]
    timeout: u64,
    /// Show the guest's console
    #[arg(long)]
    console: bool,
    /// Only make the guest's disk
    #[arg(long)]
    prepare: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory: 2048, timeout: 1200, console: false, prepare: false }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    apt::install("virtual machines", PACKAGES)?;
    if options.prepare {
        return image::ready().map(|_| ());
    }
    let orlop = build::orlop(build::Profile::dev())?;
    let image = image::ready()?;
    let payload = payload::build(&orlop)?;
    step::say(&format!("booting kernel {} with systemd and cgroup v2 ({})", image.kernel_version, accelerator()));
    let console_log = cache::logs()?.join("vm-console.log");
    let mut qemu = qemu(options, &image, &payload);
    let mut child = qemu.spawn().context("starting qemu-system-x86_64")?;
    let stdout = child.stdout.take().context("no console")?;
    let lines = follow(stdout, &console_log, options.console)?;
    let verdict = judge(&lines, Duration::from_secs(options.timeout));
    let _ = child.kill();
    let _ = child.wait();
    let (passed, failed) = verdict.with_context(|| format!("the whole console is in {}", console_log.display()))?;
    println!("vm: {passed} passed, {failed} failed");
    if failed > 0 || passed == 0 {
        bail!("{failed} checks failed in the virtual machine; the whole console is in {}", console_log.display());
    }
    Ok(())
}

/// Hardware help only where a stock kernel runs under it: a paravirtual KVM boots none.
fn accelerator() -> &'static str {
    let usable = File::options().write(true).open("/dev/kvm").is_ok()
        && (Path::new("/sys/module/kvm_intel").exists() || Path::new("/sys/module/kvm_amd").exists())
        && !Path::new("/sys/module/kvm_pvm").exists();
    if usable { "kvm" } else { "tcg,thread=multi" }
}

fn qemu(options: &Options, image: &image::Image, payload: &Path) -> Command {
    let accelerator = accelerator();
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-M", "q35", "-accel", accelerator])
        // QEMU 7.2 corrupts guests under emulation unless cmpxchg16b is hidden from them.
        .args(["-cpu", if accelerator == "kvm" { "host" } else { "Haswell-noTSX,-cx16" }])
        .args(["-smp", "2", "-m", &options.memory.to_string()])
        .args(["-display", "none", "-vga", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nodefaults"])
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(&image.initrd)
        .args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off systemd.show_status=no root=/dev/vda"])
        .arg("-drive")
        .arg(format!("file={},if=virtio,format=raw,snapshot=on", image.root.display()))
        .arg("-drive")
        .arg(format!("file={},if=virtio,format=raw,readonly=on", payload.display()))
        .args(["-device", "virtio-rng-pci"])
        // `restrict`: the guest's packets end in QEMU.
        .args(["-netdev", "user,id=n0,restrict=on", "-device", "virtio-net-pci,netdev=n0,romfile="])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command
}

/// Copies the console to a file and hands its lines on.
fn follow(console: impl std::io::Read + Send + 'static, log: &Path, show: bool) -> Result<mpsc::Receiver<String>> {
    let mut file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let _ = std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes());
            if show {
                eprintln!("    | {text}");
            }
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

/// Reads `VM-PASS name`, `VM-FAIL name: reason` and `VM-END` until the end, or the end of patience.
fn judge(lines: &mpsc::Receiver<String>, patience: Duration) -> Result<(u32, u32)> {
    let (mut passed, mut failed) = (0, 0);
    let mut left = patience;
    let tick = Duration::from_secs(1);
    loop {
        match lines.recv_timeout(tick) {
            Ok(line) => {
                if let Some((_, name)) = line.split_once("VM-PASS ") {
                    passed += 1;
                    step::have(&format!("ok      {name}"));
                } else if let Some((_, name)) = line.split_once("VM-FAIL ") {
                    failed += 1;
                    step::have(&format!("FAILED  {name}"));
                } else if line.contains("VM-END") {
                    return Ok((passed, failed));
                } else if line.contains("Kernel panic") {
                    bail!("the guest's kernel panicked: {line}");
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                left = left.checked_sub(tick).with_context(|| {
                    format!("the guest did not end within {} s ({passed} checks passed)", patience.as_secs())
                })?;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bail!("the guest ended before its checks did ({passed} passed)")
            }
        }
    }
}
