//! Running other programs with visible progress: one line when a step starts, a sign of life every
//! fifteen seconds, the end of its output when it fails.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache;

/// Says what happens next.
pub(crate) fn say(text: &str) {
    let (bold, plain) = if std::io::stderr().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    eprintln!("{bold}==>{plain} {text}");
}

/// Says what was found to be there already.
pub(crate) fn have(text: &str) {
    eprintln!("    {text}");
}

/// Runs `command` with its output in a log file; prints the last lines when it fails.
pub(crate) fn run(title: &str, command: &mut Command) -> Result<()> {
    say(title);
    let log_path = cache::logs()?.join(format!("{}.log", slug(title)));
    let mut log = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&log_path)
        .with_context(|| format!("opening {}", log_path.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    let mut waited_s = 0u64;
    let mut ticks = 0u32;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(100));
        ticks += 1;
        if ticks.is_multiple_of(150) {
            waited_s += 15;
            eprintln!("    … {waited_s} s: {}", last_line(&mut log).unwrap_or_default());
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    log.seek(SeekFrom::Start(0))?;
    log.read_to_string(&mut text)?;
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(40)..] {
        eprintln!("    | {line}");
    }
    bail!("{title}: {status}; the whole output is in {}", log_path.display())
}

/// Runs `command` on this terminal.
pub(crate) fn run_shown(title: &str, command: &mut Command) -> Result<()> {
    say(title);
    std::io::stderr().flush()?;
    let status = command.status().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{title}: {status}");
    }
    Ok(())
}

/// What `command` prints on stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !out.status.success() {
        bail!("{:?}: {}: {}", command, out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8(out.stdout)?)
}

fn slug(title: &str) -> String {
    let words: String = title.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    words.split('-').filter(|w| !w.is_empty()).take(6).collect::<Vec<_>>().join("-")
}

fn last_line(log: &mut File) -> Option<String> {
    let len = log.metadata().ok()?.len();
    // The child shares this file description's offset, so it is read through another one.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(log));
    let mut reader = File::open(path).ok()?;
    reader.seek(SeekFrom::Start(len.saturating_sub(400))).ok()?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find(|l| !l.trim().is_empty()).map(|l| l.trim().chars().take(100).collect())
}
