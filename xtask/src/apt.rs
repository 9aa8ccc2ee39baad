//! Debian packages: what is installed, installing what is not, and unpacking packages of another
//! release into the cache without installing them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, step};

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Of `packages`, those that dpkg does not know as installed.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let out = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .output()
        .context("dpkg-query: this needs Debian or a derivative of it")?;
    let known = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(packages.iter().copied().filter(|p| !known.lines().any(|l| l == format!("{p} installed"))).collect())
}

/// Installs what is missing of `packages`, and says which.
pub(crate) fn install(why: &str, packages: &[&str]) -> Result<()> {
    let wanted = missing(packages)?;
    if wanted.is_empty() {
        step::have(&format!("{why}: all {} Debian packages are installed", packages.len()));
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "{why} needs the Debian packages {}: run this as root, or `apt-get install {}` first",
            wanted.join(", "),
            wanted.join(" ")
        );
    }
    // Packages with a daemon (containerd, etcd) would start it; Orlop starts its own.
    let _no_daemons = NoDaemons::new()?;
    update()?;
    step::run(
        &format!("installing Debian packages for {why}: {}", wanted.join(" ")),
        Command::new("apt-get")
            .args(["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"])
            .args(&wanted)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Brings the package lists up to date; they may never have been fetched.
pub(crate) fn update() -> Result<()> {
    step::run(
        "updating the Debian package lists",
        Command::new("apt-get").args(["update", "-o", "DPkg::Lock::Timeout=300"]),
    )
}

/// Keeps maintainer scripts from starting services while it lives.
struct NoDaemons {
    made: bool,
}

impl NoDaemons {
    fn new() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { made: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("writing {POLICY}"))?;
        fs::set_permissions(POLICY, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Self { made: true })
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.made {
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Another Debian release beside the machine's own, with its own lists and cache, signed by Debian's keyring.
pub(crate) struct Release {
    suite: &'static str,
    dir: PathBuf,
}

impl Release {
    /// Opens (and where its lists are missing, fetches) `suite`: `trixie`, `sid`, …
    pub(crate) fn open(suite: &'static str) -> Result<Self> {
        let release = Self { suite, dir: cache::made(cache::user()?.join("apt").join(suite))? };
        for sub in ["lists/partial", "archives/partial", "etc"] {
            cache::made(release.dir.join(sub))?;
        }
        let mirror = mirror()?;
        fs::write(release.dir.join("etc/sources.list"), format!("deb {mirror} {suite} main\n"))?;
        fs::write(release.dir.join("status"), "")?;
        let fresh = fs::read_dir(release.dir.join("lists"))?
            .filter_map(Result::ok)
            .any(|e| e.file_name().to_string_lossy().contains("_Packages"));
        if !fresh {
            release.update()?;
        }
        Ok(release)
    }

    fn update(&self) -> Result<()> {
        step::run(&format!("updating the package lists of Debian {}", self.suite), self.apt("apt-get").arg("update"))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (key, path) in [
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache::archives", "archives"),
            ("Dir::Cache::pkgcache", "pkgcache.bin"),
            ("Dir::Cache::srcpkgcache", "srcpkgcache.bin"),
            ("Dir::Etc::sourcelist", "etc/sources.list"),
        ] {
            command.args(["-o", &format!("{key}={}", self.dir.join(path).display())]);
        }
        command.args(["-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root"]);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// The newest version of `package`.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        let text = step::output(self.apt("apt-cache").args(["show", "--no-all-versions", package]))?;
        field(&text, "Version").with_context(|| format!("Debian {} has no package {package}", self.suite))
    }

    /// What `package` depends on, by name.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = step::output(self.apt("apt-cache").args(["depends", package]))?;
        Ok(text.lines().filter_map(|l| l.trim().strip_prefix("Depends: ")).map(str::to_owned).collect())
    }

    /// Downloads `package` and unpacks it below `into`. Stale lists (the version is gone from the mirror) are fetched again once.
    pub(crate) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let debs = cache::made(self.dir.join("debs"))?;
        let download = |release: &Self| {
            step::run(
                &format!("downloading {package} of Debian {}", release.suite),
                release.apt("apt-get").args(["download", package]).current_dir(&debs),
            )
        };
        if download(self).is_err() {
            self.update()?;
            download(self)?;
        }
        let newest = fs::read_dir(&debs)?
            .filter_map(Result::ok)
            .filter(|e| e.file_name().to_string_lossy().starts_with(&format!("{package}_")))
            .max_by_key(|e| e.metadata().and_then(|m| m.modified()).ok())
            .with_context(|| format!("{package} was not downloaded to {}", debs.display()))?
            .path();
        cache::made(into.to_path_buf())?;
        step::run(&format!("unpacking {package}"), Command::new("dpkg-deb").arg("-x").arg(&newest).arg(into))?;
        fs::remove_file(newest)?;
        Ok(())
    }
}

/// The version that the machine's own sources offer for `package`.
pub(crate) fn candidate(package: &str) -> Result<Option<String>> {
    let text = step::output(Command::new("apt-cache").args(["show", "--no-all-versions", package])).unwrap_or_default();
    Ok(field(&text, "Version"))
}

pub(crate) fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
}

/// The mirror that this machine itself is set up to use.
pub(crate) fn mirror() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(dir.filter_map(Result::ok).map(|e| e.path()));
    }
    let texts: Vec<String> = files.iter().filter_map(|f| fs::read_to_string(f).ok()).collect();
    texts
        .iter()
        .find_map(|text| mirror_in(text))
        .context("no `deb http… main` source found in /etc/apt: which Debian mirror does this machine use?")
}

/// The first main archive named in a `sources.list` or deb822 `.sources` text.
fn mirror_in(text: &str) -> Option<String> {
    let main = |uri: &str| uri.starts_with("http") && uri.trim_end_matches('/').ends_with("/debian");
    text.lines().filter(|l| !l.trim_start().starts_with('#')).find_map(|line| {
        let line = line.trim();
        if let Some(uris) = line.strip_prefix("URIs:") {
            return uris.split_whitespace().find(|u| main(u)).map(str::to_owned);
        }
        let rest = line.strip_prefix("deb ")?;
        rest.split_whitespace().find(|u| main(u)).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mirror_in_both_formats() {
        let mirror = Some("http://mirror.example/debian".to_owned());
        assert_eq!(
            mirror_in(
                "# deb http://old.example/debian x main\ndeb [arch=amd64] http://mirror.example/debian bookworm main"
            ),
            mirror
        );
        assert_eq!(mirror_in("Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n"), mirror);
        assert_eq!(mirror_in("Types: deb\nURIs: http://mirror.example/debian-security\n"), None);
        assert_eq!(mirror_in("deb https://packages.example/apt stable main"), None);
    }

    #[test]
    fn reads_control_fields() {
        assert_eq!(field("Package: x\nVersion: 1.2-3\n", "Version").as_deref(), Some("1.2-3"));
        assert_eq!(field("Versions: 1", "Version"), None);
    }
}
