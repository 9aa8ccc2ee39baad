//! The guest's disk: Debian trixie with systemd, its cloud kernel, and a tiny initrd that finds the root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{apt, cache, step};

const SUITE: &str = "trixie";

/// What the guest needs; the rest comes with the payload.
const INCLUDE: &[&str] = &[
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "iproute2",
    "iptables",
    "nftables",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "busybox-static",
    "procps",
    "curl",
    "ca-certificates",
    "iputils-ping",
];

/// Modules that the initrd loads to find its disk.
const BOOT_MODULES: &[&str] = &["virtio_pci", "virtio_blk", "ext4"];

/// Changes of this file that change the image.
const RECIPE: &str = "3";

/// A bootable set of files in the cache.
pub(super) struct Image {
    pub(super) kernel_version: String,
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) root: PathBuf,
}

/// Finds the image in the cache, or makes it.
pub(super) fn ready() -> Result<Image> {
    let release = apt::Release::open(SUITE)?;
    let package = release
        .depends("linux-image-cloud-amd64")?
        .into_iter()
        .find(|p| p.starts_with("linux-image-"))
        .context("linux-image-cloud-amd64 depends on no kernel")?;
    let containerd = release.version("containerd")?;
    let key = cache::key(&[&package, &containerd, &INCLUDE.join(" "), RECIPE]);
    let dir = cache::made(cache::user()?.join("vm"))?.join(format!("{SUITE}-{key}"));
    let image = Image {
        kernel_version: package.trim_start_matches("linux-image-").to_owned(),
        kernel: dir.join("vmlinuz"),
        initrd: dir.join("initrd.cpio"),
        root: dir.join("root.ext4"),
    };
    if dir.join(".complete").exists() {
        step::have(&format!("virtual machine's disk: {}", dir.display()));
        return Ok(image);
    }
    let work = dir.with_extension("partial");
    let _ = fs::remove_dir_all(&work);
    cache::made(work.clone())?;
    make(&release, &package, &work)?;
    let _ = fs::remove_dir_all(&dir);
    fs::rename(&work, &dir)?;
    fs::write(dir.join(".complete"), "")?;
    Ok(image)
}

fn make(release: &apt::Release, kernel_package: &str, work: &Path) -> Result<()> {
    let kernel_root = work.join("kernel");
    release.unpack(kernel_package, &kernel_root)?;
    let version = kernel_package.trim_start_matches("linux-image-");
    fs::copy(kernel_root.join(format!("boot/vmlinuz-{version}")), work.join("vmlinuz"))?;
    let modules = [kernel_root.join("usr/lib/modules"), kernel_root.join("lib/modules")]
        .into_iter()
        .find(|d| d.join(version).is_dir())
        .context("the kernel package has no modules")?;
    let tree = work.join("root");
    step::run(
        "building the guest's root file system (about a minute and a half, once)",
        Command::new("mmdebstrap")
            .args(["--mode=root", "--variant=minbase", &format!("--include={}", INCLUDE.join(",")), SUITE])
            .arg(&tree)
            .arg(apt::mirror()?),
    )?;
    for unwanted in ["usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt"] {
        let _ = fs::remove_dir_all(tree.join(unwanted));
    }
    let target = cache::made(tree.join("usr/lib/modules"))?;
    step::run("copying the kernel's modules", Command::new("cp").arg("-a").arg(modules.join(version)).arg(&target))?;
    step::run("indexing the kernel's modules", Command::new("depmod").arg("-b").arg(&tree).arg(version))?;
    initrd(&tree, version, work)?;
    settle(&tree)?;
    let root = work.join("root.ext4");
    step::run(
        "making the guest's disk",
        Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&tree).arg(&root).arg("3G"),
    )?;
    fs::remove_dir_all(tree)?;
    fs::remove_dir_all(kernel_root)?;
    Ok(())
}

/// Starts the guest's script as a service of systemd, and nothing that isn't needed.
fn settle(tree: &Path) -> Result<()> {
    let units = tree.join("etc/systemd/system");
    let unit = "[Unit]\nDescription=Orlop's checks\nAfter=multi-user.target\n\n[Service]\nType=simple\n\
                ExecStart=/bin/sh -c 'mkdir -p /opt/payload && tar -x -C /opt/payload -f /dev/vdb && exec /opt/payload/guest.sh'\n\
                StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\nTimeoutSec=infinity\n";
    fs::write(units.join("orlop-checks.service"), unit)?;
    let wants = cache::made(units.join("default.target.wants"))?;
    std::os::unix::fs::symlink("/etc/systemd/system/orlop-checks.service", wants.join("orlop-checks.service"))?;
    for masked in [
        "containerd.service",
        "serial-getty@ttyS0.service",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "systemd-timesyncd.service",
    ] {
        let path = units.join(masked);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/null", path)?;
    }
    fs::write(tree.join("etc/hostname"), "vm-node\n")?;
    fs::write(tree.join("etc/fstab"), "")?;
    fs::write(tree.join("etc/resolv.conf"), "")?;
    Ok(())
}

/// busybox, the modules for the disk, and a script that switches to the root.
fn initrd(tree: &Path, version: &str, work: &Path) -> Result<()> {
    let dir = work.join("initrd");
    for sub in ["bin", "dev", "proc", "sys", "root", "modules"] {
        cache::made(dir.join(sub))?;
    }
    fs::copy("/bin/busybox", dir.join("bin/busybox")).context("copying /bin/busybox")?;
    let mut load = String::new();
    for module in BOOT_MODULES {
        let text = step::output(
            Command::new("modprobe")
                .args(["--show-depends", "--set-version", version, "--dirname"])
                .arg(tree)
                .arg(module),
        )?;
        for line in text.lines() {
            let Some(path) = line.strip_prefix("insmod ").map(str::trim) else { continue };
            let name = Path::new(path).file_name().context("a module without a name")?.to_string_lossy().into_owned();
            let plain = name.trim_end_matches(".xz").to_owned();
            if load.contains(&plain) {
                continue;
            }
            fs::copy(path, dir.join("modules").join(&name))?;
            if name.ends_with(".xz") {
                step::run(
                    &format!("unpacking {name}"),
                    Command::new("xz").args(["-d", "-f"]).arg(dir.join("modules").join(&name)),
                )?;
            }
            load.push_str(&format!("/bin/busybox insmod /modules/{plain}\n"));
        }
    }
    let init = format!(
        "#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs none /dev\n/bin/busybox mount -t proc none /proc\n\
         /bin/busybox mount -t sysfs none /sys\n{load}\
         n=0; while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do /bin/busybox sleep 0.1; n=$((n+1)); done\n\
         /bin/busybox mount -t ext4 /dev/vda /root\n/bin/busybox umount /proc /sys\n\
         /bin/busybox mount -o move /dev /root/dev\nexec /bin/busybox switch_root /root /sbin/init\n"
    );
    fs::write(dir.join("init"), init)?;
    fs::set_permissions(dir.join("init"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let out = work.join("initrd.cpio");
    step::run(
        "packing the initrd",
        Command::new("sh").args(["-c", "find . | cpio -o -H newc > \"$1\"", "cpio"]).arg(&out).current_dir(&dir),
    )?;
    fs::remove_dir_all(dir)?;
    Ok(())
}
