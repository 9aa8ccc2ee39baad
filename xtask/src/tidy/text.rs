//! Rules over the text of the sources: sizes, words that mark unfinished work, where `unsafe` and
//! the environment may be touched, and paths that belong to one machine only.

use std::path::{Path, PathBuf};

use super::Finding;
use crate::cache;

/// Longest source file, tests included.
const MAX_LINES: usize = 600;

/// Where `unsafe` may stand (DESIGN §2, invariant 4).
const UNSAFE_ROOMS: &[&str] = &["agent/host/", "agent/dataplane/", "ebpf/"];

/// Who may read the environment (invariant 6): the binary, and what is not shipped.
const ENV_ROOMS: &[&str] = &["agent/orlop/", "xtask/", "tests/"];

pub(super) fn check(files: &[PathBuf]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let path = file.to_string_lossy();
        let Some(kind) = Kind::of(file) else { continue };
        let Ok(text) = std::fs::read_to_string(cache::root().join(file)) else { continue };
        // The rules themselves name what they forbid.
        if path == "xtask/src/tidy/text.rs" {
            continue;
        }
        findings.extend(one(&path, kind, &text));
    }
    findings
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Rust,
    Prose,
}

impl Kind {
    fn of(file: &Path) -> Option<Self> {
        match file.extension()?.to_str()? {
            "rs" => Some(Self::Rust),
            "md" | "toml" | "yaml" | "yml" | "sh" => Some(Self::Prose),
            _ => None,
        }
    }
}

fn one(path: &str, kind: Kind, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |line: usize, message: String| findings.push(Finding { place: format!("{path}:{line}"), message });
    if kind == Kind::Rust {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            found(lines, format!("{lines} lines; more than {MAX_LINES}: which subject of it wants a file of its own?"));
        }
        if !is_tests(path) && !text.starts_with("//!") && !text.starts_with("#!") {
            found(1, "the first lines say what the file is for (`//! …`)".to_owned());
        }
    }
    let mut in_tests = is_tests(path);
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        in_tests |= line.trim_start().starts_with("#[cfg(test)]");
        for word in ["TODO", "FIXME", "XXX", "HACK", "todo!(", "unimplemented!(", "#[ignore"] {
            if has_word(line, word) {
                found(number, format!("{word}: finish it, or say in the README's table what is missing"));
            }
        }
        if let Some(place) = machine_path(line) {
            found(number, format!("{place} is a path of one machine"));
        }
        if kind == Kind::Prose {
            continue;
        }
        let code = line.split("//").next().unwrap_or_default();
        let room = |rooms: &[&str]| rooms.iter().any(|r| path.starts_with(r));
        if !in_tests
            && !room(UNSAFE_ROOMS)
            && (code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl"))
        {
            found(number, "`unsafe` stands only in agent/host, agent/dataplane and ebpf".to_owned());
        }
        if !in_tests
            && !room(ENV_ROOMS)
            && (code.contains("env::var") || code.contains("env::args"))
            && !path.ends_with("build.rs")
        {
            found(number, "only agent/orlop reads the environment and the arguments".to_owned());
        }
    }
    findings
}

/// Tests beside the code say what they are for by the file they stand beside.
fn is_tests(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/examples/") || path.ends_with("tests.rs") || path.starts_with("tests/")
}

/// `word` in `line`, not as a part of a longer identifier.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        !joins(before) && (word.ends_with('(') || !joins(after))
    })
}

fn machine_path(line: &str) -> Option<&'static str> {
    ["/root/.", "/home/"].into_iter().find(|p| {
        line.match_indices(p).any(|(at, _)| {
            !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '}' || c == ')' || c == '>')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> usize {
        one(path, Kind::Rust, text).len()
    }

    #[test]
    fn words_of_unfinished_work() {
        assert_eq!(messages("a/b.rs", "//! x\n// TODO: y\n"), 1);
        assert_eq!(messages("a/b.rs", "//! x\nfn f() { todo!() }\n"), 1);
        assert_eq!(messages("a/b.rs", "//! x\nconst TODOS: u8 = 1;\n"), 0);
    }

    #[test]
    fn long_and_nameless_files() {
        assert_eq!(messages("a/b.rs", "fn f() {}\n"), 1);
        assert_eq!(messages("a/b.rs", &format!("//! x\n{}", "\n".repeat(600))), 1);
    }

    #[test]
    fn unsafe_and_environment_have_their_rooms() {
        assert_eq!(messages("agent/host/src/x.rs", "//! x\nfn f() { unsafe { g() } }\n"), 0);
        assert_eq!(messages("agent/kubelet/src/x.rs", "//! x\nfn f() { unsafe { g() } }\n"), 1);
        assert_eq!(messages("agent/kubelet/src/x.rs", "//! x\nlet a = std::env::var(\"A\");\n"), 1);
        assert_eq!(messages("agent/orlop/src/x.rs", "//! x\nlet a = std::env::var(\"A\");\n"), 0);
    }

    #[test]
    fn paths_of_one_machine() {
        assert_eq!(machine_path("see /home/me"), Some("/home/"));
        assert_eq!(machine_path("src/home/me"), None);
    }
}
