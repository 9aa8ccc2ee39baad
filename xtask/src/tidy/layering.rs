//! Dependencies point down: which workspace crate may use which, checked from `cargo metadata`.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::{cache, step};

/// The whole graph. A crate that is not named here may not be in the workspace.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "orlop",
        &[
            "orlop-api",
            "orlop-dataplane",
            "orlop-dns",
            "orlop-host",
            "orlop-kubelet",
            "orlop-network",
            "orlop-plane",
            "orlop-proxy",
            "orlop-runtime",
        ],
    ),
    ("orlop-kubelet", &["orlop-api", "orlop-host", "orlop-runtime"]),
    ("orlop-runtime", &[]),
    ("orlop-host", &[]),
    ("orlop-proxy", &["orlop-api", "orlop-host"]),
    ("orlop-dataplane", &["orlop-abi", "orlop-host", "orlop-proxy"]),
    ("orlop-network", &["orlop-host"]),
    ("orlop-dns", &["orlop-api", "orlop-host"]),
    ("orlop-abi", &[]),
    ("orlop-api", &[]),
    ("orlop-store", &[]),
    ("orlop-apiserver", &["orlop-api", "orlop-store"]),
    ("orlop-scheduler", &["orlop-api"]),
    ("orlop-controllers", &["orlop-api"]),
    ("orlop-plane", &["orlop-api", "orlop-apiserver", "orlop-controllers", "orlop-scheduler", "orlop-store"]),
    ("orlop-tests", &[]),
    ("xtask", &[]),
];

/// Crates that no one else may bring in: (the external crate, who may).
const ONLY_IN: &[(&str, &[&str])] = &[
    ("aya", &["orlop-dataplane"]),
    ("redb", &["orlop-store"]),
    ("etcd-client", &["orlop-store"]),
    ("k8s-cri", &["orlop-runtime"]),
    ("rtnetlink", &["orlop-host", "orlop-proxy"]),
    ("netlink-packet-route", &["orlop-host", "orlop-proxy"]),
    ("cgroups-rs", &["orlop-host"]),
    ("zbus", &["orlop-host"]),
    ("anyhow", &["orlop", "orlop-tests", "xtask"]),
    ("clap", &["orlop", "xtask"]),
];

/// Pure crates: nothing of these may be a dependency, or they could do I/O.
const PURE: &[(&str, &[&str])] = &[
    ("orlop-api", &["tokio", "hyper", "axum", "kube", "tonic", "nix", "libc"]),
    ("orlop-abi", &["tokio", "libc", "nix", "std"]),
];

pub(super) fn check() -> Result<Vec<Finding>> {
    let text = step::output(
        Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
            .current_dir(cache::root()),
    )?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata: no packages")?;
    Ok(packages.iter().flat_map(package).collect())
}

fn package(package: &Value) -> Vec<Finding> {
    let name = package["name"].as_str().unwrap_or_default();
    let place = package["manifest_path"].as_str().unwrap_or_default().to_owned();
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Tests may use what they like: only what ships is layered.
    let normal: Vec<&str> =
        dependencies.iter().filter(|d| d["kind"].as_str() != Some("dev")).filter_map(|d| d["name"].as_str()).collect();
    broken(name, &normal).into_iter().map(|message| Finding { place: place.clone(), message }).collect()
}

fn broken(name: &str, dependencies: &[&str]) -> Vec<String> {
    let Some((_, allowed)) = MAY_USE.iter().find(|(crate_, _)| *crate_ == name) else {
        return vec![format!(
            "{name} has no place in the layering: give it one in xtask/src/tidy/layering.rs and in the README's codemap"
        )];
    };
    let mut messages = Vec::new();
    for dependency in dependencies {
        let ours = MAY_USE.iter().any(|(crate_, _)| crate_ == dependency);
        if ours && !allowed.contains(dependency) {
            messages.push(format!("{name} must not depend on {dependency}: dependencies point down (DESIGN §2)"));
        }
        if let Some((_, users)) = ONLY_IN.iter().find(|(external, _)| external == dependency)
            && !users.contains(&name)
        {
            messages.push(format!("{name} must not use {dependency}: only {} may", users.join(", ")));
        }
        if PURE.iter().any(|(pure, banned)| *pure == name && banned.contains(dependency)) {
            messages.push(format!("{name} is pure and must not use {dependency}"));
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelet_and_proxy_never_meet() {
        assert_eq!(broken("orlop-kubelet", &["orlop-api", "tokio"]), Vec::<String>::new());
        assert_eq!(broken("orlop-kubelet", &["orlop-proxy"]).len(), 1);
        assert_eq!(broken("orlop-proxy", &["orlop-kubelet"]).len(), 1);
        assert_eq!(broken("orlop-controllers", &["orlop-store"]).len(), 1);
    }

    #[test]
    fn strangers_and_impurities_are_named() {
        assert_eq!(broken("orlop-new", &[]).len(), 1);
        assert_eq!(broken("orlop-api", &["tokio"]).len(), 1);
        assert_eq!(broken("orlop-host", &["anyhow"]).len(), 1);
    }
}
