//! What `deny.toml` says about licences and banned crates, checked from `cargo metadata`, so that it
//! holds also where `cargo-deny` is not installed.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::{cache, step};

pub(super) fn check() -> Result<Vec<Finding>> {
    let rules = std::fs::read_to_string(cache::root().join("deny.toml")).context("reading deny.toml")?;
    let allowed = strings_after(&rules, "allow = [");
    let banned = banned_crates(&rules);
    let text = step::output(
        Command::new("cargo").args(["metadata", "--format-version", "1", "--locked"]).current_dir(cache::root()),
    )?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata: no packages")?;
    Ok(packages
        .iter()
        .filter_map(|package| {
            let name = package["name"].as_str().unwrap_or_default();
            let licence = package["license"].as_str().unwrap_or_default();
            let message = if banned.iter().any(|b| b == name) {
                format!("the crate {name} is banned by deny.toml")
            } else if !permitted(licence, &allowed) {
                format!("the crate {name} has the licence {licence:?}, which deny.toml does not allow")
            } else {
                return None;
            };
            Some(Finding { place: "Cargo.lock".to_owned(), message })
        })
        .collect())
}

/// An SPDX expression holds where one of its alternatives has only allowed parts.
fn permitted(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    expression.split(" OR ").any(|alternative| {
        alternative.split(" AND ").all(|part| {
            let name = part.trim_matches(|c: char| c == ' ' || c == '(' || c == ')');
            allowed.iter().any(|a| a == name)
        })
    })
}

/// The quoted strings from `start` to the closing bracket.
fn strings_after(text: &str, start: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once(start) else { return Vec::new() };
    let list = rest.split("\n]").next().unwrap_or_default();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn banned_crates(text: &str) -> Vec<String> {
    text.lines().filter_map(|l| l.trim().strip_prefix("{ crate = \"")?.split('"').next().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
        assert!(permitted("MIT OR Apache-2.0", &allowed));
        assert!(permitted("GPL-3.0 OR MIT", &allowed));
        assert!(permitted("(MIT OR Apache-2.0) AND Unicode-3.0", &allowed));
        assert!(permitted("MIT/Apache-2.0", &allowed));
        assert!(!permitted("GPL-3.0", &allowed));
        assert!(!permitted("MIT AND GPL-3.0", &allowed));
        assert!(!permitted("", &allowed));
    }

    #[test]
    fn lists_of_the_file() {
        let text = "[licenses]\nallow = [\n  \"MIT\",\n  \"ISC\",\n]\n[bans]\ndeny = [\n  { crate = \"bad\", reason = \"x\" },\n]\n";
        assert_eq!(strings_after(text, "allow = ["), ["MIT", "ISC"]);
        assert_eq!(banned_crates(text), ["bad"]);
    }
}
