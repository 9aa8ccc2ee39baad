//! The cluster's certificates below `<data-dir>/pki`, under kubeadm's file names.
//!
//! ```text
//! ca ─┬─ apiserver                  serving certificate of the API server
//!     ├─ apiserver-kubelet-client   the API server towards kubelets
//!     ├─ kubelet/kubelet-client     this node towards the API server (system:node:NAME)
//!     ├─ kubelet/kubelet            this node's serving certificate, port 10250
//!     └─ admin (in admin.kubeconfig only)
//! front-proxy-ca ── front-proxy-client
//! sa.key, sa.pub                    service account tokens
//! ```

mod authority;
mod leaf;
mod pair;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::data_dir::{DataDirError, private_dir, read_text, write_atomic};
pub(crate) use authority::Authority;
pub(crate) use leaf::{Leaf, Usage, Wanted, reason_to_renew};
pub(crate) use pair::facts;

/// The group that RBAC never asks (as kubeadm's super-admin).
const MASTERS: &str = "system:masters";
const KUBELET_CLIENT_NAME: &str = "kube-apiserver-kubelet-client";
/// Common name of the front proxy, the only one that may tell users in headers.
pub(crate) const FRONT_PROXY_NAME: &str = "front-proxy-client";
const ADMIN_NAME: &str = "kubernetes-admin";

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error(transparent)]
    File(#[from] DataDirError),
    #[error(
        "{path} is damaged ({detail}); restore it from a backup. A certificate other than a CA's may also be deleted together with its key: a new one is issued at the next start"
    )]
    Damaged { path: PathBuf, detail: String },
    #[error("{cert} is there but its key {key} is missing; restore the key from a backup, or use another --data-dir")]
    MissingCaKey { cert: PathBuf, key: PathBuf },
    #[error("{cert} and {key} don't belong together; restore both from one backup, or use another --data-dir")]
    CaMismatch { cert: PathBuf, key: PathBuf },
    #[error(
        "the CA {cert} has expired; nothing that it signed is valid any more. Check the machine's clock, or start with another --data-dir"
    )]
    CaExpired { cert: PathBuf },
    #[error("cannot issue {path}: {detail}")]
    Issue { path: PathBuf, detail: String },
}

impl PkiError {
    pub(crate) fn damaged(path: &Path, detail: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.to_owned(), detail: detail.to_string() }
    }

    pub(crate) fn issue(path: &Path, detail: impl std::fmt::Display) -> Self {
        Self::Issue { path: path.to_owned(), detail: detail.to_string() }
    }
}

/// Whom the certificates are for.
#[derive(Clone, Debug)]
pub(crate) struct PkiRequest {
    pub(crate) node_name: String,
    pub(crate) node_ips: Vec<IpAddr>,
    pub(crate) advertise_address: IpAddr,
    /// First address of each service range.
    pub(crate) service_ips: Vec<IpAddr>,
    pub(crate) cluster_domain: String,
    /// `--apiserver-cert-extra-sans`.
    pub(crate) extra_sans: Vec<String>,
}

/// Files that the kubelet on this node reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletPki {
    /// Verifies the API server, and clients of the kubelet's own port.
    pub ca: PathBuf,
    pub client_cert: PathBuf,
    pub client_key: PathBuf,
    pub serving_cert: PathBuf,
    pub serving_key: PathBuf,
}

/// All of it, read.
pub(crate) struct Pki {
    pub(crate) ca: Authority,
    pub(crate) front_proxy_ca: Authority,
    pub(crate) apiserver: Leaf,
    pub(crate) kubelet_client: Leaf,
    pub(crate) sa_key_pem: String,
    pub(crate) kubelet: KubeletPki,
    /// Files that were made or renewed just now.
    pub(crate) issued: usize,
}

impl Pki {
    pub(crate) fn load_or_create(dir: &Path, request: &PkiRequest, now: jiff::Timestamp) -> Result<Self, PkiError> {
        private_dir(dir)?;
        let kubelet_dir = dir.join("kubelet");
        private_dir(&kubelet_dir)?;
        let ca = authority::load_or_create(dir, "ca", "kubernetes", now)?;
        let front_proxy_ca = authority::load_or_create(dir, "front-proxy-ca", "front-proxy-ca", now)?;
        let node_user = format!("system:node:{}", request.node_name);
        let client = |name, common_name, organizations| Wanted {
            name,
            common_name,
            organizations,
            sans: BTreeSet::new(),
            usage: Usage::Client,
        };
        let server = |name, common_name, organizations, sans| Wanted {
            name,
            common_name,
            organizations,
            sans,
            usage: Usage::Server,
        };
        let apiserver = server("apiserver", "kube-apiserver", &[], server_sans(request));
        let apiserver = leaf::load_or_issue(dir, &ca, &apiserver, now)?;
        let kubelet_client = client("apiserver-kubelet-client", KUBELET_CLIENT_NAME, &[]);
        let kubelet_client = leaf::load_or_issue(dir, &ca, &kubelet_client, now)?;
        let front_proxy = client("front-proxy-client", FRONT_PROXY_NAME, &[]);
        let front_proxy = leaf::load_or_issue(dir, &front_proxy_ca, &front_proxy, now)?;
        let node_client = client("kubelet-client", &node_user, &["system:nodes"]);
        let node_client = leaf::load_or_issue(&kubelet_dir, &ca, &node_client, now)?;
        let node_serving = server("kubelet", &node_user, &["system:nodes"], node_sans(request));
        let node_serving = leaf::load_or_issue(&kubelet_dir, &ca, &node_serving, now)?;
        let (sa_key_pem, sa_created) = service_account_key(dir)?;

        let leaves = [&apiserver, &kubelet_client, &front_proxy, &node_client, &node_serving];
        let made = [ca.created, front_proxy_ca.created, sa_created];
        let issued = leaves.iter().filter(|l| l.issued).count() + made.iter().filter(|c| **c).count();
        let kubelet = KubeletPki {
            ca: dir.join("ca.crt"),
            client_cert: kubelet_dir.join("kubelet-client.crt"),
            client_key: kubelet_dir.join("kubelet-client.key"),
            serving_cert: kubelet_dir.join("kubelet.crt"),
            serving_key: kubelet_dir.join("kubelet.key"),
        };
        Ok(Self { ca, front_proxy_ca, apiserver, kubelet_client, sa_key_pem, kubelet, issued })
    }
}

/// What the administrator's certificate must say; it lives in the kubeconfig, not in a file of its own.
pub(crate) fn admin() -> Wanted<'static> {
    Wanted {
        name: "admin",
        common_name: ADMIN_NAME,
        organizations: &[MASTERS],
        sans: BTreeSet::new(),
        usage: Usage::Client,
    }
}

/// A certificate with its key that is written nowhere.
pub(crate) fn issue_in_memory(
    authority: &Authority,
    wanted: &Wanted<'_>,
    now: jiff::Timestamp,
) -> Result<Leaf, PkiError> {
    leaf::issue(Path::new(wanted.name), authority, wanted, now).map(|(leaf, _)| leaf)
}

fn server_sans(request: &PkiRequest) -> BTreeSet<String> {
    let mut sans: BTreeSet<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    sans.insert(format!("kubernetes.default.svc.{}", request.cluster_domain));
    sans.insert(request.node_name.clone());
    sans.extend(["127.0.0.1", "::1"].map(str::to_owned));
    let addresses = request.node_ips.iter().chain(&request.service_ips).chain([&request.advertise_address]);
    sans.extend(addresses.filter(|ip| !ip.is_unspecified()).map(ToString::to_string));
    sans.extend(request.extra_sans.iter().cloned());
    sans
}

fn node_sans(request: &PkiRequest) -> BTreeSet<String> {
    let mut sans: BTreeSet<String> = request.node_ips.iter().map(ToString::to_string).collect();
    sans.insert(request.node_name.clone());
    sans
}

/// `sa.key` and `sa.pub`; the public half is written anew where it is missing.
fn service_account_key(dir: &Path) -> Result<(String, bool), PkiError> {
    let (key_path, public_path) = (dir.join("sa.key"), dir.join("sa.pub"));
    let existing = pair::read_key(&key_path)?;
    let created = existing.is_none();
    let key = match existing {
        Some(key) => key,
        None => {
            let key = pair::new_key(&key_path)?;
            write_atomic(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
            key
        }
    };
    let public = key.public_key_pem();
    if read_text(&public_path)?.as_deref() != Some(&public) {
        write_atomic(&public_path, public.as_bytes(), 0o644)?;
    }
    Ok((key.serialize_pem(), created))
}

#[cfg(test)]
mod tests;
