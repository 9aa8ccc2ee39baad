//! A containerd of our own: its configuration under the data directory, its process adopted over
//! restarts of Orlop, brought back when it dies.
//!
//! It outlives Orlop on purpose: Pods go on running while Orlop is stopped, killed or upgraded.

mod config;
mod images;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use config::ContainerdConfig;
pub(crate) use images::import_all;

use crate::instance::Instance;

/// How long a containerd may take until it answers; a cold disk needs some seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The containerd of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Containerd {
    program: PathBuf,
    config_path: PathBuf,
    socket: PathBuf,
    pid_path: PathBuf,
    log_path: PathBuf,
}

/// How it came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Started,
    Adopted,
}

impl Containerd {
    /// Writes the configuration; finds the program.
    pub(crate) fn prepare(instance: &Instance, config: &ContainerdConfig) -> Result<Self> {
        let program = find_program("containerd")?;
        find_program("runc")?;
        let dir = instance.containerd_dir();
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        fs::create_dir_all(instance.cni_conf_dir())?;
        let config_path = dir.join("config.toml");
        let text = config.render(instance);
        if fs::read_to_string(&config_path).ok().as_deref() != Some(text.as_str()) {
            fs::write(&config_path, text).with_context(|| format!("writing {}", config_path.display()))?;
        }
        Ok(Self {
            program,
            config_path,
            socket: instance.containerd_socket(),
            pid_path: instance.run_dir().join("containerd.pid"),
            log_path: dir.join("containerd.log"),
        })
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Adopts the running one, or starts it; returns once its socket takes connections.
    pub(crate) async fn ensure(&self) -> Result<Origin> {
        if self.running_pid().is_some() && self.answers().await {
            return Ok(Origin::Adopted);
        }
        self.stop(Duration::from_secs(5))?;
        let mut child = self.spawn()?;
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.answers().await {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "containerd ended with {status} as it started; the end of {}:\n{}",
                    self.log_path.display(),
                    self.log_tail()
                );
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                bail!(
                    "containerd does not answer on {} after {} s; see {}",
                    self.socket.display(),
                    START_TIMEOUT.as_secs(),
                    self.log_path.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Reaps it when it ends while we live; after that init does.
        std::thread::spawn(move || child.wait());
        Ok(Origin::Started)
    }

    fn spawn(&self) -> Result<std::process::Child> {
        // A log that nobody rotates must not fill the disk: each start begins a new one and keeps the last.
        let _ = fs::rename(&self.log_path, self.log_path.with_extension("log.1"));
        let log = fs::File::create(&self.log_path).with_context(|| format!("creating {}", self.log_path.display()))?;
        let child = Command::new(&self.program)
            .arg("--config")
            .arg(&self.config_path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Its own process group: Ctrl-C on the terminal stops Orlop and leaves the Pods alone.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        fs::write(&self.pid_path, child.id().to_string())
            .with_context(|| format!("writing {}", self.pid_path.display()))?;
        Ok(child)
    }

    async fn answers(&self) -> bool {
        tokio::net::UnixStream::connect(&self.socket).await.is_ok()
    }

    /// The recorded process, if it is still that containerd and not a stranger with its number.
    pub(crate) fn running_pid(&self) -> Option<Pid> {
        let pid: i32 = fs::read_to_string(&self.pid_path).ok()?.trim().parse().ok()?;
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours = self.config_path.as_os_str().as_encoded_bytes();
        cmdline.split(|b| *b == 0).any(|arg| arg == ours).then(|| Pid::from_raw(pid))
    }

    /// Ends it, if it runs: TERM, and KILL when the time is over.
    pub(crate) fn stop(&self, grace: Duration) -> Result<()> {
        let Some(pid) = self.running_pid() else { return Ok(()) };
        for (signal, wait) in [(Signal::SIGTERM, grace), (Signal::SIGKILL, Duration::from_secs(5))] {
            let _ = kill(pid, signal);
            let steps = wait.as_millis() / 20;
            for _ in 0..steps {
                if self.running_pid().is_none() {
                    let _ = fs::remove_file(&self.socket);
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        bail!("containerd (process {pid}) does not end")
    }

    /// Brings it back when it dies, with growing pauses, until `shutdown`.
    pub(crate) async fn supervise(self, shutdown: CancellationToken) {
        let mut pause = Duration::from_secs(1);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.ended() => {}
            }
            tracing::error!(log = %self.log_path.display(), "containerd ended; starting it again");
            match self.ensure().await {
                Ok(_) => pause = Duration::from_secs(1),
                Err(error) => {
                    tracing::error!(error = %format!("{error:#}"), "containerd");
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(Duration::from_secs(60));
                }
            }
        }
    }

    /// Returns when the process is gone: the kernel says so through a pidfd, nothing polls.
    async fn ended(&self) {
        let Some(pid) = self.running_pid() else { return };
        let waited = orlop_host::process::PidFd::open(pid.as_raw());
        match waited {
            Ok(fd) => {
                let _ = fd.exited().await;
            }
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log_path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

/// `name` on the PATH or in the directories that services are often started without.
pub(crate) fn find_program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(|file| file.is_file()).with_context(|| {
        format!(
            "there is no container runtime: {name} is not installed (Debian: apt-get install containerd runc \
                 containernetworking-plugins), or give --container-runtime-endpoint of one that runs"
        )
    })
}
