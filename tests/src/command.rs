//! Running programs: in a namespace, in a control group, with a bound on time, with their output kept.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Longest that a client may take before it counts as hung.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What a program printed and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Its standard output; panics with everything it said where it failed.
    #[must_use]
    pub fn ok(&self) -> &str {
        assert!(self.code == 0, "{self}");
        &self.stdout
    }

    /// Both outputs of a program that had to fail.
    #[must_use]
    pub fn err(&self) -> String {
        assert!(self.code != 0, "should have failed: {self}");
        format!("{}{}", self.stdout, self.stderr)
    }

    #[must_use]
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ended with {}\n{}{}", self.command, self.code, self.stdout, self.stderr)
    }
}

/// A program to run somewhere.
#[derive(Clone, Debug)]
pub struct Sh {
    args: Vec<String>,
    netns: Option<PathBuf>,
    cgroup: Option<PathBuf>,
    envs: Vec<(String, String)>,
    stdin: Option<Vec<u8>>,
    timeout: Duration,
}

impl Sh {
    #[must_use]
    pub fn new(args: &[&str]) -> Self {
        Self {
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            netns: None,
            cgroup: None,
            envs: Vec::new(),
            stdin: None,
            timeout: TIMEOUT,
        }
    }

    #[must_use]
    pub fn netns(mut self, path: &Path) -> Self {
        self.netns = Some(path.to_owned());
        self
    }

    /// Joins the control group first, so that its eBPF programs apply.
    #[must_use]
    pub fn cgroup(mut self, dir: &Path) -> Self {
        self.cgroup = Some(dir.to_owned());
        self
    }

    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.envs.push((key.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The command line with what puts it into its place.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut line: Vec<String> = Vec::new();
        if let Some(cgroup) = &self.cgroup {
            let script = r#"echo $$ > "$1/cgroup.procs" && shift && exec "$@""#;
            line.extend(["sh", "-c", script, "enter"].map(str::to_owned));
            line.push(cgroup.display().to_string());
        }
        if let Some(netns) = &self.netns {
            line.push("nsenter".into());
            line.push(format!("--net={}", netns.display()));
            line.push("--".into());
        }
        line.extend(self.args.iter().cloned());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).envs(self.envs.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(&self) -> Output {
        let mut child = self.spawn();
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), self.stdin.clone()) {
            thread::spawn(move || pipe.write_all(&text));
        }
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        let mut waited = Duration::ZERO;
        let step = Duration::from_millis(5);
        let mut note = String::new();
        let status = loop {
            if let Some(status) = child.try_wait().expect("waiting for a child") {
                break status;
            }
            if waited > self.timeout {
                let _ = write!(note, "\nkilled after {} s", self.timeout.as_secs());
                child.kill().expect("killing a child");
            }
            thread::sleep(step);
            waited += step;
        };
        let text = |handle: thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&handle.join().unwrap_or_default()).into_owned()
        };
        Output {
            command: self.args.join(" "),
            code: status.code().unwrap_or(-1),
            stdout: text(stdout),
            stderr: text(stderr) + &note,
        }
    }

    /// Starts it with pipes on all three streams.
    #[must_use]
    pub fn spawn(&self) -> Child {
        self.command()
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {:?}: {error}", self.args))
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}
