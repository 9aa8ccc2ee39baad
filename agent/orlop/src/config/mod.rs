//! `--config FILE`: one or several YAML (or JSON) documents. Upstream's KubeletConfiguration and
//! KubeProxyConfiguration are taken as they are; OrlopConfiguration holds what only Orlop has.
//!
//! A field that nobody knows is an error that names it. A field of upstream's that has no effect yet
//! is kept, and said in a warning, so that the same file can be used before and after.

mod documents;

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub(crate) use documents::{KubeProxyConfiguration, KubeletConfiguration, OrlopConfiguration};

/// Largest configuration file, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// All documents of a configuration file.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    pub(crate) orlop: OrlopConfiguration,
    pub(crate) kubelet: KubeletConfiguration,
    pub(crate) proxy: KubeProxyConfiguration,
    /// `Kind.field` of everything known to upstream that has no effect here yet.
    pub(crate) without_effect: Vec<String>,
}

impl ConfigFile {
    /// No file is an empty one.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let read = || -> Result<Self> {
            let size = std::fs::metadata(path)?.len();
            if size > MAX_BYTES {
                bail!("{size} bytes; a configuration has at most {MAX_BYTES}");
            }
            Self::parse(&std::fs::read_to_string(path)?)
        };
        read().with_context(|| format!("--config {}", path.display()))
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut file = Self::default();
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("is not YAML")?;
        for (index, document) in documents.into_iter().enumerate() {
            if !document.is_null() {
                file.take(document).with_context(|| format!("document {}", index + 1))?;
            }
        }
        for field in &file.without_effect {
            tracing::warn!(field, "this field of the configuration has no effect yet");
        }
        Ok(file)
    }

    fn take(&mut self, document: Value) -> Result<()> {
        let text = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        match (version.as_str(), kind.as_str()) {
            ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration") => {
                self.kubelet = decode(document)?;
                let rest = documents::check_kubelet(&self.kubelet.rest)?;
                self.without_effect.extend(rest.iter().map(|f| format!("KubeletConfiguration.{f}")));
            }
            ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration") => {
                self.proxy = decode(document)?;
                let rest = documents::check_proxy(&self.proxy.rest)?;
                self.without_effect.extend(rest.iter().map(|f| format!("KubeProxyConfiguration.{f}")));
            }
            ("orlop.io/v1alpha1", "OrlopConfiguration") => self.orlop = decode(document)?,
            ("", _) | (_, "") => bail!("apiVersion and kind are required"),
            _ => bail!(
                "apiVersion {version:?}, kind {kind:?} is not known: give kubelet.config.k8s.io/v1beta1 KubeletConfiguration, \
                 kubeproxy.config.k8s.io/v1alpha1 KubeProxyConfiguration or orlop.io/v1alpha1 OrlopConfiguration"
            ),
        }
        Ok(())
    }
}

fn decode<T: serde::de::DeserializeOwned>(document: Value) -> Result<T> {
    let kind = document["kind"].as_str().unwrap_or_default().to_owned();
    serde_json::from_value(document).map_err(|error| anyhow::anyhow!("{kind}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_documents_in_one_file() {
        let file = ConfigFile::parse(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 42\nsyncFrequency: 1m\n---\n\
             apiVersion: orlop.io/v1alpha1\nkind: OrlopConfiguration\nsecurePort: 7443\nserviceClusterIPRange: [10.1.0.0/16]\n---\n\
             apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ebpf\n",
        )
        .unwrap();
        assert_eq!(file.kubelet.max_pods, Some(42));
        assert_eq!(file.orlop.secure_port, Some(7443));
        assert_eq!(file.proxy.mode.as_deref(), Some("ebpf"));
        assert_eq!(file.without_effect, ["KubeletConfiguration.syncFrequency"]);
    }

    #[test]
    fn mistakes_name_the_field() {
        let check = |text: &str, expect: &str| {
            let message = format!("{:#}", ConfigFile::parse(text).unwrap_err());
            assert!(message.contains(expect), "{message:?} does not name {expect:?}");
        };
        check("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPod: 1\n", "maxPod");
        check("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: many\n", "many");
        check("apiVersion: orlop.io/v1alpha1\nkind: OrlopConfiguration\nsecurePrt: 1\n", "securePrt");
        check("apiVersion: v1\nkind: Pod\n", "Pod");
        check("maxPods: 1\n", "apiVersion");
        check("a: [\n", "YAML");
    }

    #[test]
    fn an_empty_file_changes_nothing() {
        assert_eq!(ConfigFile::parse("").unwrap().kubelet.max_pods, None);
        assert_eq!(ConfigFile::parse("---\n---\n").unwrap().kubelet.max_pods, None);
    }
}
