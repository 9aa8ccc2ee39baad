//! Registry credentials from pull secrets: `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`.
//! The longest matching entry comes first; globs match within one part of a host name.

use base64::Engine as _;
use k8s_openapi::api::core::v1::Secret;
use orlop_runtime::cri::AuthConfig;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::reference::Reference;

#[derive(Debug, Default, Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
    #[serde(default, rename = "registrytoken")]
    registry_token: String,
}

/// The credentials of some secrets, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// Longest key first.
    entries: Vec<(String, AuthConfig)>,
}

impl Keyring {
    /// Reads what the secrets hold; secrets of other types or with broken content are passed over with a log line.
    #[must_use]
    pub fn from_secrets<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut keyring = Self::default();
        for secret in secrets {
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
            let auths = match (data(".dockerconfigjson"), data(".dockercfg")) {
                (Some(json), _) => serde_json::from_slice::<DockerConfigJson>(json).map(|config| config.auths),
                (None, Some(json)) => serde_json::from_slice(json),
                (None, None) => continue,
            };
            match auths {
                Ok(auths) => keyring.add(auths),
                Err(error) => tracing::warn!(secret = name, %error, "pull secret is not readable"),
            }
        }
        keyring.entries.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
        keyring
    }

    fn add(&mut self, auths: BTreeMap<String, DockerAuth>) {
        for (server, auth) in auths {
            let (mut username, mut password) = (auth.username.clone(), auth.password.clone());
            if !auth.auth.is_empty()
                && let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(auth.auth.trim())
                && let Ok(text) = String::from_utf8(bytes)
                && let Some((user, pass)) = text.split_once(':')
            {
                user.clone_into(&mut username);
                pass.trim_end_matches('\0').clone_into(&mut password);
            }
            let key = key_of(&server);
            self.entries.push((
                key,
                AuthConfig {
                    username,
                    password,
                    identity_token: auth.identity_token,
                    registry_token: auth.registry_token,
                    server_address: server,
                    ..Default::default()
                },
            ));
        }
    }

    /// Credentials to try for that image, best first; then comes a try without any.
    #[must_use]
    pub fn lookup(&self, reference: &Reference) -> Vec<AuthConfig> {
        self.entries.iter().filter(|(key, _)| matches(key, reference)).map(|(_, auth)| auth.clone()).collect()
    }
}

fn key_of(server: &str) -> String {
    let key = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.trim_end_matches("/v1").trim_end_matches("/v2");
    if key == "index.docker.io" { "docker.io".to_owned() } else { key.to_owned() }
}

fn matches(key: &str, reference: &Reference) -> bool {
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    host_matches(host, &reference.registry)
        && (path.is_empty() || reference.path == path || reference.path.starts_with(&format!("{path}/")))
}

fn host_matches(pattern: &str, host: &str) -> bool {
    let split = |text: &str| {
        let (name, port) = text.split_once(':').unwrap_or((text, ""));
        (name.to_owned(), port.to_owned())
    };
    let ((pattern, pattern_port), (host, port)) = (split(pattern), split(host));
    let (patterns, parts): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern_port == port
        && patterns.len() == parts.len()
        && patterns.iter().zip(parts).all(|(pattern, part)| match pattern.split_once('*') {
            None => *pattern == part,
            Some((prefix, suffix)) => {
                part.len() >= prefix.len() + suffix.len() && part.starts_with(prefix) && part.ends_with(suffix)
            }
        })
}

#[cfg(test)]
mod tests {
    use super::super::reference::parse;
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn longest_match_first() {
        let json = serde_json::json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpw"},
            "*.example.com": {"username": "glob", "password": "x"},
            "reg.example.com/team": {"username": "team", "password": "x"},
        }});
        let secret = Secret {
            data: Some(BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(json.to_string().into_bytes()))])),
            ..Default::default()
        };
        let keyring = Keyring::from_secrets([&secret]);
        let users = |image: &str| {
            keyring.lookup(&parse(image).unwrap()).into_iter().map(|auth| auth.username).collect::<Vec<_>>()
        };
        assert_eq!(users("busybox"), ["u"]);
        assert_eq!(users("reg.example.com/team/app"), ["team", "glob"]);
        assert_eq!(users("reg.example.com/teams/app"), ["glob"]);
        assert_eq!(users("a.reg.example.com/x"), [""; 0]);
    }
}
