//! The last words of a container: from its termination message file, or the end of its log.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::types::RuntimeContainer;

const MAX_FILE_BYTES: u64 = 4096;
const MAX_LOG_BYTES: usize = 2048;
const MAX_LOG_LINES: usize = 80;
/// Enough of the log's end to hold the last lines.
const LOG_WINDOW_BYTES: u64 = 64 * 1024;

/// The message, empty where there is none. Blocking: files are read.
#[must_use]
pub fn read(container: &RuntimeContainer) -> String {
    if let Some(file) = &container.termination_message_file {
        match read_start(Path::new(file)) {
            Ok(message) if !message.is_empty() => return message,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return format!("Error on reading termination log {file}: {error}"),
        }
    }
    let failed = container.exit_code != 0 || container.reason == "OOMKilled";
    if container.termination_message_policy == "FallbackToLogsOnError" && failed {
        return log_tail(Path::new(&container.log_path))
            .unwrap_or_else(|error| format!("Error on reading termination message from logs: {error}"));
    }
    String::new()
}

fn read_start(path: &Path) -> std::io::Result<String> {
    // The container may have put a device or a pipe in its place: only a regular file is read.
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn log_tail(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_WINDOW_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_WINDOW_BYTES).read_to_end(&mut bytes)?;
    Ok(tail_of(&String::from_utf8_lossy(&bytes)))
}

/// Lines of the CRI format (`TIME STREAM TAGS TEXT`) without their heads; the last ones, the last bytes.
fn tail_of(log: &str) -> String {
    let mut text = String::new();
    let lines: Vec<&str> = log.lines().collect();
    for line in &lines[lines.len().saturating_sub(MAX_LOG_LINES)..] {
        let mut parts = line.splitn(4, ' ');
        let (tags, content) = (parts.nth(2).unwrap_or_default(), parts.next().unwrap_or_default());
        text.push_str(content);
        if !tags.starts_with('P') {
            text.push('\n');
        }
    }
    let mut start = text.len().saturating_sub(MAX_LOG_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.split_off(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails() {
        assert_eq!(
            tail_of("2026-01-01T00:00:00Z stdout F a b\n2026-01-01T00:00:00Z stderr P c\nT stdout F d\n"),
            "a b\ncd\n"
        );
        let long: String = (0..200).map(|n| format!("T stdout F line {n}\n")).collect();
        let tail = tail_of(&long);
        assert!(tail.starts_with("line 120\n") && tail.ends_with("line 199\n"));
        assert!(tail_of(&format!("T stdout F {}\n", "x".repeat(5000))).len() <= MAX_LOG_BYTES);
    }
}
