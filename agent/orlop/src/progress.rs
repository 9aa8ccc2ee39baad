//! What `orlop up` says on stdout: one line per step, as it ends. Scripts wait for the line that starts with `ready in`.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Steps of one start.
pub(crate) struct Progress {
    started: Instant,
    colours: bool,
    out: Option<Mutex<std::io::Stdout>>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let out = std::io::stdout();
        Self { started: Instant::now(), colours: out.is_terminal(), out: Some(Mutex::new(out)) }
    }

    /// Says nothing.
    pub(crate) fn quiet() -> Self {
        Self { started: Instant::now(), colours: false, out: None }
    }

    /// One finished step: what, and with which result.
    pub(crate) fn step(&self, what: &str, result: &str) {
        let mark = if self.colours { "\x1b[32m✓\x1b[0m" } else { "*" };
        self.print(&format!("{mark} {what:<18} {result}  ({})", seconds(self.started.elapsed())));
    }

    /// The last step: the node answers.
    pub(crate) fn ready(&self, next: &[String]) {
        self.print(&format!("ready in {}", seconds(self.started.elapsed())));
        if !next.is_empty() {
            self.print("");
            for line in next {
                self.print(&format!("  {line}"));
            }
        }
    }

    /// A closed stdout (`orlop up | head`) must not end a node.
    pub(crate) fn print(&self, line: &str) {
        if let Some(Ok(mut out)) = self.out.as_ref().map(Mutex::lock) {
            let _ = writeln!(out, "{line}");
            let _ = out.flush();
        }
    }
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.2} s", elapsed.as_secs_f64())
}
