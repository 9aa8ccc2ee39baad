//! One Orlop instance: started as a user would, asked through stock kubectl, purged at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::command::{Output, Sh};
use crate::namespaces::Namespaces;
use crate::wait::{eventually, eventually_within};

/// Node name of every stack.
pub const NODE: &str = "node-1";

/// Which stock kubectl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kubectl {
    V1_32,
    V1_36,
}

impl Kubectl {
    fn program(self) -> String {
        let variable = match self {
            Self::V1_32 => "ORLOP_TEST_KUBECTL_1_32",
            Self::V1_36 => "ORLOP_TEST_KUBECTL_1_36",
        };
        std::env::var(variable).unwrap_or_else(|_| "kubectl".to_owned())
    }
}

/// How a stack is started.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// `up` or `agent`.
    pub command: &'static str,
    pub more: Vec<String>,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self { command: "up", more: Vec::new() }
    }
}

/// A running (or stopped) instance with its directories and namespaces.
#[derive(Debug)]
pub struct Stack {
    pub namespaces: Namespaces,
    pub dir: tempfile::TempDir,
    /// Of the administrator.
    pub kubeconfig: PathBuf,
    cgroup: String,
    options: StackOptions,
    child: Option<Child>,
    starts: u32,
}

static COUNT: AtomicU8 = AtomicU8::new(0);

impl Stack {
    /// Starts `orlop up` and waits for its line `ready in …`.
    #[must_use]
    pub fn up() -> Self {
        let mut stack = Self::prepare(StackOptions::default());
        stack.start();
        stack
    }

    /// Namespaces and directories; nothing runs yet.
    #[must_use]
    pub fn prepare(options: StackOptions) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("o{:x}{number}", std::process::id() & 0xffff);
        // A short path: sockets lie below it.
        let dir = tempfile::Builder::new().prefix("orlop-").tempdir_in("/tmp").expect("a temporary directory");
        for sub in ["data/images", "manifests"] {
            fs::create_dir_all(dir.path().join(sub)).expect("a directory");
        }
        let images = std::env::var("ORLOP_TEST_IMAGES").expect("ORLOP_TEST_IMAGES");
        let image = "busybox.tar";
        fs::copy(Path::new(&images).join(image), dir.path().join("data/images").join(image)).expect("an image");
        let namespaces = Namespaces::create(&id, 100 + number % 100);
        let kubeconfig = dir.path().join("data/admin.kubeconfig");
        let stack =
            Self { namespaces, dir, kubeconfig, cgroup: format!("orlop-test-{id}"), options, child: None, starts: 0 };
        fs::create_dir_all(stack.client_cgroup()).expect("a control group for clients");
        stack
    }

    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    #[must_use]
    pub fn manifests_dir(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    #[must_use]
    pub fn root_dir(&self) -> PathBuf {
        self.dir.path().join("kubelet")
    }

    /// Programs in it see the Services of this instance.
    #[must_use]
    pub fn client_cgroup(&self) -> PathBuf {
        cgroup2_root().join(&self.cgroup).join("client")
    }

    /// `orlop` with `args` in the node's namespace.
    #[must_use]
    pub fn orlop(&self, args: &[&str]) -> Sh {
        let program = orlop_bin();
        let all: Vec<&str> = std::iter::once(program.as_str()).chain(args.iter().copied()).collect();
        Sh::new(&all).netns(&self.namespaces.node())
    }

    /// The flags that keep this instance to itself.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--data-dir={}", self.data_dir().display()),
            format!("--root-dir={}", self.root_dir().display()),
            format!("--node-ip={}", self.namespaces.node_ip()),
            format!("--hostname-override={NODE}"),
            format!("--pod-manifest-path={}", self.manifests_dir().display()),
            format!("--cgroup-root=/{}", self.cgroup),
            "--cgroup-driver=cgroupfs".to_owned(),
        ];
        flags.extend(self.options.more.iter().cloned());
        flags
    }

    /// As [`Self::start`], with another command and more flags.
    pub fn run_as(&mut self, command: &'static str, more: Vec<String>) {
        self.options = StackOptions { command, more };
        self.start();
    }

    /// Starts the process and waits until it says that it is ready.
    pub fn start(&mut self) {
        self.spawn();
        let log = self.log_path();
        eventually("the line `ready in`", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.lines().any(|l| l.starts_with("ready in")) {
                return Ok(());
            }
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("orlop ended with {status}:\n{text}\n{}", self.errors());
            }
            Err(format!("{text}\n{}", self.errors()))
        });
    }

    /// Another Orlop beside this one, in the same namespace; killed when dropped.
    #[must_use]
    pub fn beside(&self, args: &[&str]) -> Beside {
        let log = self.dir.path().join("beside.log");
        let out = fs::File::create(&log).expect("a log file");
        let err = out.try_clone().expect("a log file");
        let child = self.orlop(args).command().stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let mut beside = Beside { child: child.expect("starting orlop") };
        eventually("the line `ready in`", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            match beside.child.try_wait() {
                _ if text.lines().any(|l| l.starts_with("ready in")) => Ok(()),
                Ok(Some(status)) => panic!("{args:?} ended with {status}:\n{text}"),
                _ => Err(text),
            }
        });
        beside
    }

    /// Starts the process; waits for nothing.
    pub fn spawn(&mut self) {
        self.starts += 1;
        let flags = self.flags();
        let mut args = vec![self.options.command];
        args.extend(flags.iter().map(String::as_str));
        let out = fs::File::create(self.log_path()).expect("a log file");
        let err = fs::File::create(self.error_path()).expect("a log file");
        let child =
            self.orlop(&args).env("RUST_BACKTRACE", "1").command().stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        self.child = Some(child.expect("starting orlop"));
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join(format!("orlop-{}.out", self.starts))
    }

    fn error_path(&self) -> PathBuf {
        self.dir.path().join(format!("orlop-{}.err", self.starts))
    }

    /// The end of the instance's log.
    #[must_use]
    pub fn errors(&self) -> String {
        let text = fs::read_to_string(self.error_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Orlop's own process. `nsenter` runs it in its own place, so the child is it.
    #[must_use]
    pub fn orlop_pid(&self) -> u32 {
        self.child.as_ref().expect("a running orlop").id()
    }

    /// Sends a signal to orlop and waits for its end, which must come within five seconds; returns its exit code.
    pub fn stop(&mut self, signal: Signal) -> Option<i32> {
        let mut child = self.child.take()?;
        let pid = i32::try_from(child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("a signal");
        let status = eventually_within(Duration::from_secs(5), "the end of orlop", || {
            child.try_wait().expect("waiting").ok_or("it still runs")
        });
        status.code()
    }

    /// kubectl with `args`, administrator's rights, in the node's namespace and outside of the Services' control group.
    #[must_use]
    pub fn kubectl_of(&self, version: Kubectl, args: &[&str]) -> Sh {
        let program = version.program();
        let all: Vec<&str> = std::iter::once(program.as_str()).chain(args.iter().copied()).collect();
        Sh::new(&all)
            .netns(&self.namespaces.node())
            .env("KUBECONFIG", &self.kubeconfig.display().to_string())
            .env("HOME", &self.dir.path().display().to_string())
    }

    #[must_use]
    pub fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_of(Kubectl::V1_36, args).run()
    }

    /// `kubectl apply -f -`; panics where it fails.
    pub fn apply(&self, manifest: &str) {
        let _ = self.kubectl_of(Kubectl::V1_36, &["apply", "-f", "-"]).stdin(manifest).run().ok();
    }

    /// An object or list as JSON; `Null` where it is not there.
    #[must_use]
    pub fn get(&self, args: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend(args);
        let out = self.kubectl(&all);
        if out.success() { serde_json::from_str(out.ok()).expect("JSON of kubectl") } else { Value::Null }
    }

    /// A program in the node's namespace that sees Services.
    #[must_use]
    pub fn on_node(&self, args: &[&str]) -> Sh {
        Sh::new(args).netns(&self.namespaces.node()).cgroup(&self.client_cgroup())
    }

    /// A program outside of the node.
    #[must_use]
    pub fn outside(&self, args: &[&str]) -> Sh {
        Sh::new(args).netns(&self.namespaces.client())
    }

    /// Waits until the Pods that `selector` names in `namespace` are `count`, all Ready; returns them.
    #[must_use]
    pub fn ready_pods(&self, namespace: &str, selector: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} ready Pods of {selector}"), || {
            let list = self.get(&["pods", "-n", namespace, "-l", selector]);
            let pods = list["items"].as_array().cloned().unwrap_or_default();
            let ready = pods.iter().filter(|p| condition(p, "Ready") == "True").count();
            let leaving = pods.iter().any(|p| !p["metadata"]["deletionTimestamp"].is_null());
            if pods.len() == count && ready == count && !leaving {
                return Ok(pods);
            }
            let table = self.kubectl(&["get", "pods,events", "-A", "-o", "wide"]);
            Err(format!("{ready} of {} ready\n{}\n{}", pods.len(), table.stdout, self.errors()))
        })
    }
}

/// A process that goes with its owner.
#[derive(Debug)]
pub struct Beside {
    child: Child,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of orlop ---\n{}", self.errors());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let data = format!("--data-dir={}", self.data_dir().display());
        let purge = self.orlop(&["down", "--purge", &data]).run();
        if !purge.success() {
            eprintln!("{purge}");
        }
        let _ = fs::remove_dir(self.client_cgroup());
        let _ = fs::remove_dir(cgroup2_root().join(&self.cgroup));
        // The control group was there before Orlop was, so Orlop leaves it; on version 1 it is in every hierarchy.
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok) {
            let _ = fs::remove_dir(hierarchy.path().join(&self.cgroup));
        }
    }
}

/// Status of a condition of an object: `True`, `False`, `Unknown`, or nothing.
#[must_use]
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let list = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().find(|c| c["type"] == kind).and_then(|c| c["status"].as_str()).unwrap_or_default()
}

#[must_use]
pub fn orlop_bin() -> String {
    std::env::var("ORLOP_TEST_BIN").expect("ORLOP_TEST_BIN")
}

/// Where cgroup2 is mounted: alone, or beside version 1.
#[must_use]
pub fn cgroup2_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found = mounts.lines().find_map(|l| {
        let mut words = l.split_whitespace();
        let (_, point, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    });
    found.expect("a cgroup2 mount")
}
