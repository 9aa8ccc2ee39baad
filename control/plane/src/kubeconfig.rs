//! `admin.kubeconfig`: everything `kubectl` needs, in one file that only root reads.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::data_dir::{read_text, write_atomic};
use crate::pki::{Authority, PkiError, admin, facts, issue_in_memory, reason_to_renew};

const USER: &str = "kubernetes-admin";
const CLUSTER: &str = "kubernetes";

/// Writes the kubeconfig where it is missing, its certificate ends soon, or server or CA changed.
/// A file that can't be read as ours is made anew: nothing in it can't be made again.
pub(crate) fn reconcile(path: &Path, ca: &Authority, server: &str, now: jiff::Timestamp) -> Result<bool, PkiError> {
    if let Some(text) = read_text(path)?
        && is_current(&text, ca, server, now)
    {
        crate::data_dir::keep_private(path)?;
        return Ok(false);
    }
    let leaf = issue_in_memory(ca, &admin(), now)?;
    let text = render(&config(server, &ca.cert_pem, &leaf.cert_pem, &leaf.key_pem));
    write_atomic(path, text.as_bytes(), 0o600)?;
    Ok(true)
}

fn config(server: &str, ca: &str, cert: &str, key: &str) -> Value {
    let context = format!("{USER}@{CLUSTER}");
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": CLUSTER,
            "cluster": {"certificate-authority-data": STANDARD.encode(ca), "server": server},
        }],
        "contexts": [{"name": context, "context": {"cluster": CLUSTER, "user": USER}}],
        "current-context": context,
        "preferences": {},
        "users": [{
            "name": USER,
            "user": {"client-certificate-data": STANDARD.encode(cert), "client-key-data": STANDARD.encode(key)},
        }],
    })
}

/// YAML that holds only maps, lists and strings without need for quotes beyond JSON's.
fn render(config: &Value) -> String {
    let mut out = String::new();
    write_yaml(config, 0, &mut out);
    out
}

fn write_yaml(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::Object(inner) if inner.is_empty() => out.push_str(&format!("{pad}{key}: {{}}\n")),
                    Value::Object(_) => {
                        out.push_str(&format!("{pad}{key}:\n"));
                        write_yaml(value, indent + 2, out);
                    }
                    Value::Array(items) => {
                        out.push_str(&format!("{pad}{key}:\n"));
                        for item in items {
                            let mut inner = String::new();
                            write_yaml(item, indent + 2, &mut inner);
                            // The first line of an item carries its dash in place of the last two spaces.
                            out.push_str(&format!("{pad}- {}", inner.trim_start()));
                        }
                    }
                    other => out.push_str(&format!("{pad}{key}: {}\n", scalar(other))),
                }
            }
        }
        other => out.push_str(&format!("{pad}{}\n", scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    let plain = |s: &str| {
        !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_./+=@:".contains(c)) && !s.ends_with(':')
    };
    match value {
        Value::String(s) if plain(s) => s.clone(),
        other => other.to_string(),
    }
}

/// Whether what is on disk still serves.
fn is_current(text: &str, ca: &Authority, server: &str, now: jiff::Timestamp) -> bool {
    let field = |key: &str| {
        text.lines()
            .find_map(|l| l.trim().strip_prefix(key)?.strip_prefix(": "))
            .map(|v| v.trim_matches('"').to_owned())
    };
    let data = |key: &str| {
        let bytes = STANDARD.decode(field(key)?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let (Some(cert), Some(key)) = (data("client-certificate-data"), data("client-key-data")) else { return false };
    let (Ok(facts), Ok(key)) = (facts(Path::new("admin"), &cert), rcgen::KeyPair::from_pem(&key)) else { return false };
    let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
    field("server").as_deref() == Some(server)
        && data("certificate-authority-data").as_deref() == Some(&ca.cert_pem)
        && reason_to_renew(&facts, &spki, ca, &admin(), now).is_none()
}

#[cfg(test)]
mod tests;
