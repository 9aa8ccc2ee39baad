//! A pod's resolver configuration: from `dnsPolicy`, `dnsConfig` and the host's own `resolv.conf`.

use k8s_openapi::api::core::v1::Pod;
use orlop_runtime::cri::DnsConfig;

use crate::pod::PodExt;

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// What the node contributes.
#[derive(Clone, Debug, Default)]
pub struct NodeDns {
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    pub host: DnsConfig,
}

/// Reads `resolv.conf`.
#[must_use]
pub fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                // The last line of its kind holds.
                config.searches =
                    words.map(|w| if w == "." { w } else { w.trim_end_matches('.') }.to_owned()).collect();
            }
            Some("options") => config.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    config
}

/// The configuration of one pod.
#[must_use]
pub fn pod_dns(pod: &Pod, node: &NodeDns) -> DnsConfig {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod.host_network(),
        _ => false,
    };
    let mut config = if policy == "None" {
        DnsConfig::default()
    } else if cluster && !node.cluster_dns.is_empty() {
        let mut searches = Vec::new();
        if !node.cluster_domain.is_empty() {
            let domain = &node.cluster_domain;
            searches = vec![format!("{}.svc.{domain}", pod.namespace_str()), format!("svc.{domain}"), domain.clone()];
        }
        searches.extend(node.host.searches.iter().cloned());
        DnsConfig { servers: node.cluster_dns.clone(), searches, options: vec!["ndots:5".to_owned()] }
    } else {
        node.host.clone()
    };
    if let Some(own) = spec.and_then(|s| s.dns_config.as_ref()) {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            config.options.retain(|have| have.split(':').next() != Some(name));
            config.options.push(match option.value.as_deref().filter(|v| !v.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    dedup(&mut config.servers);
    dedup(&mut config.searches);
    config.servers.truncate(MAX_SERVERS);
    config.searches.truncate(MAX_SEARCHES);
    while config.searches.iter().map(|s| s.len() + 1).sum::<usize>() > MAX_SEARCH_CHARS {
        config.searches.pop();
    }
    config
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

/// `/etc/hosts` of a pod with a network of its own.
#[must_use]
pub fn hosts_file(pod: &Pod, ips: &[String], hostname: &str, domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        if domain.is_empty() {
            text.push_str(&format!("{ip}\t{hostname}\n"));
        } else {
            text.push_str(&format!("{ip}\t{hostname}.{domain}\t{hostname}\n"));
        }
    }
    append_aliases(pod, &mut text);
    text
}

/// `/etc/hosts` of a pod in the host's network: the host's own, with the aliases.
#[must_use]
pub fn host_hosts_file(pod: &Pod, host: &str) -> String {
    let mut text = String::from("# Kubernetes-managed hosts file (host network).\n");
    text.push_str(host);
    append_aliases(pod, &mut text);
    text
}

fn append_aliases(pod: &Pod, text: &mut String) {
    let aliases = pod.spec.as_ref().and_then(|s| s.host_aliases.as_deref()).unwrap_or_default();
    if aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t")));
    }
}

/// Hostname and domain that a pod sees of itself.
#[must_use]
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|s| s.hostname_override.as_deref()).filter(|h| !h.is_empty()) {
        return (name.to_owned(), String::new());
    }
    let mut name =
        spec.and_then(|s| s.hostname.as_deref()).filter(|h| !h.is_empty()).unwrap_or_else(|| pod.name_str()).to_owned();
    // A hostname has at most 63 characters; a longer pod name is cut as upstream cuts it.
    if name.len() > 63 {
        name.truncate(63);
        name.truncate(name.trim_end_matches(['-', '.']).len());
    }
    let domain = match spec.and_then(|s| s.subdomain.as_deref()).filter(|s| !s.is_empty()) {
        Some(subdomain) => format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace_str()),
        None => String::new(),
    };
    (name, domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodDNSConfig, PodDNSConfigOption, PodSpec};

    fn node() -> NodeDns {
        NodeDns {
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            host: parse_resolv_conf("# x\nnameserver 1.1.1.1\nsearch a.b. c\noptions edns0 trust-ad\n"),
        }
    }

    fn pod(policy: &str, host_network: bool) -> Pod {
        Pod {
            spec: Some(PodSpec {
                dns_policy: Some(policy.into()),
                host_network: Some(host_network),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn policies() {
        let check = |policy: &str, host: bool, servers: &[&str], searches: usize, options: &[&str]| {
            let config = pod_dns(&pod(policy, host), &node());
            assert_eq!(config.servers, servers, "{policy}");
            assert_eq!(config.searches.len(), searches, "{policy}");
            assert_eq!(config.options, options, "{policy}");
        };
        check("ClusterFirst", false, &["10.96.0.10"], 5, &["ndots:5"]);
        check("ClusterFirst", true, &["1.1.1.1"], 2, &["edns0", "trust-ad"]);
        check("ClusterFirstWithHostNet", true, &["10.96.0.10"], 5, &["ndots:5"]);
        check("Default", false, &["1.1.1.1"], 2, &["edns0", "trust-ad"]);
        check("None", false, &[], 0, &[]);
    }

    #[test]
    fn own_configuration_is_merged() {
        let mut pod = pod("ClusterFirst", false);
        pod.spec.as_mut().unwrap().dns_config = Some(PodDNSConfig {
            nameservers: Some(vec!["9.9.9.9".into()]),
            options: Some(vec![PodDNSConfigOption { name: Some("ndots".into()), value: Some("2".into()) }]),
            searches: Some(vec!["x".into()]),
        });
        let config = pod_dns(&pod, &node());
        assert_eq!(config.servers, ["10.96.0.10", "9.9.9.9"]);
        assert_eq!(config.options, ["ndots:2"]);
        assert_eq!(config.searches.last().map(String::as_str), Some("x"));
    }
}
