//! The drop-in faces: started as `kubelet` or `kube-proxy` (a symlink), upstream's command line is
//! translated to ours. A flag that upstream has but that has no effect here yet is named in a
//! warning; one that upstream doesn't have either is an error, as it is there.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, bail};

/// Where upstream's kubelet looks for a runtime unless it is told.
const DEFAULT_RUNTIME: &str = "unix:///run/containerd/containerd.sock";

/// A command line in our words, and what was left out of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Translated {
    pub(crate) args: Vec<String>,
    pub(crate) without_effect: Vec<String>,
}

struct Face {
    command: &'static str,
    /// Flags that mean the same here.
    same: &'static str,
    /// Upstream's further flags that take a value.
    valued: &'static str,
    /// Upstream's further switches.
    switches: &'static str,
}

const KUBELET: Face = Face {
    command: "kubelet",
    same: "address cgroup-driver cgroup-root client-ca-file cluster-dns cluster-domain config container-runtime-endpoint \
           hostname-override kubeconfig max-pods node-ip node-labels pod-cidr pod-manifest-path port register-with-taints \
           root-dir tls-cert-file tls-private-key-file logging-format v",
    valued: "allowed-unsafe-sysctls authentication-token-webhook-cache-ttl authorization-mode \
             authorization-webhook-cache-authorized-ttl authorization-webhook-cache-unauthorized-ttl bootstrap-kubeconfig \
             cert-dir cloud-provider config-dir container-log-max-files container-log-max-size cpu-cfs-quota-period \
             cpu-manager-policy cpu-manager-policy-options cpu-manager-reconcile-period enforce-node-allocatable event-burst \
             event-qps eviction-hard eviction-max-pod-grace-period eviction-minimum-reclaim \
             eviction-pressure-transition-period eviction-soft eviction-soft-grace-period experimental-mounter-path \
             feature-gates file-check-frequency hairpin-mode healthz-bind-address healthz-port http-check-frequency \
             image-credential-provider-bin-dir image-credential-provider-config image-gc-high-threshold \
             image-gc-low-threshold image-service-endpoint kube-api-burst kube-api-content-type kube-api-qps kube-reserved \
             kube-reserved-cgroup kubelet-cgroups lock-file log-flush-frequency manifest-url manifest-url-header \
             max-open-files maximum-dead-containers maximum-dead-containers-per-container memory-manager-policy \
             minimum-container-ttl-duration minimum-image-ttl-duration node-status-max-images node-status-update-frequency \
             oom-score-adj pod-infra-container-image pod-max-pids pods-per-core provider-id qos-reserved read-only-port \
             registry-burst registry-qps reserved-cpus reserved-memory resolv-conf runtime-cgroups runtime-request-timeout \
             streaming-connection-idle-timeout sync-frequency system-cgroups system-reserved system-reserved-cgroup \
             tls-cipher-suites tls-curve-preferences tls-min-version topology-manager-policy \
             topology-manager-policy-options topology-manager-scope vmodule volume-plugin-dir volume-stats-agg-period",
    switches: "anonymous-auth authentication-token-webhook cgroups-per-qos contention-profiling cpu-cfs-quota \
               enable-controller-attach-detach enable-debugging-handlers enable-server exit-on-lock-contention \
               experimental-allocatable-ignore-eviction fail-cgroupv1 fail-swap-on kernel-memcg-notification \
               local-storage-capacity-isolation make-iptables-util-chains protect-kernel-defaults register-node \
               rotate-certificates rotate-server-certificates runonce seccomp-default serialize-image-pulls",
};

const KUBE_PROXY: Face = Face {
    command: "proxy",
    same: "cluster-cidr config healthz-bind-address hostname-override kubeconfig logging-format metrics-bind-address \
           nodeport-addresses proxy-mode v",
    valued: "bind-address config-sync-period conntrack-max-per-core conntrack-min conntrack-tcp-timeout-close-wait \
             conntrack-tcp-timeout-established conntrack-udp-timeout conntrack-udp-timeout-stream detect-local-mode \
             feature-gates healthz-port iptables-masquerade-bit iptables-min-sync-period iptables-sync-period \
             ipvs-exclude-cidrs ipvs-min-sync-period ipvs-scheduler ipvs-sync-period ipvs-tcp-timeout ipvs-tcpfin-timeout \
             ipvs-udp-timeout kube-api-burst kube-api-content-type kube-api-qps log-flush-frequency master metrics-port \
             oom-score-adj pod-bridge-interface pod-interface-name-prefix proxy-port-range show-hidden-metrics-for-version \
             vmodule write-config-to",
    switches: "bind-address-hard-fail conntrack-tcp-be-liberal init-only iptables-localhost-nodeports ipvs-strict-arp \
               masquerade-all profiling",
};

impl Face {
    fn of(program: &str) -> Option<&'static Self> {
        match Path::new(program).file_name()?.to_str()? {
            "kubelet" => Some(&KUBELET),
            "kube-proxy" => Some(&KUBE_PROXY),
            _ => None,
        }
    }

    fn translate(&self, args: &[String]) -> Result<Translated> {
        let has = |list: &str, name: &str| list.split_whitespace().any(|w| w == name);
        let mut out = Translated { args: vec!["orlop".into(), self.command.into()], without_effect: Vec::new() };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
                bail!("unknown command {arg:?}: {} takes flags only", self.command);
            };
            let (name, mut value) = match flag.split_once('=') {
                Some((name, value)) => (name.replace('_', "-"), Some(value.to_owned())),
                None => (flag.replace('_', "-"), None),
            };
            if matches!(name.as_str(), "help" | "h" | "version" | "cleanup") {
                if value.as_deref() != Some("false") {
                    out.args.push(if name == "h" { "--help".to_owned() } else { format!("--{name}") });
                }
                continue;
            }
            let switch = has(self.switches, &name);
            let same = has(self.same, &name);
            if !switch && !same && !has(self.valued, &name) {
                bail!("unknown flag: --{name}");
            }
            if !switch && value.is_none() {
                value = rest.next().cloned();
                if value.is_none() {
                    bail!("flag needs an argument: --{name}");
                }
            }
            if same {
                out.args.push(format!("--{name}={}", value.unwrap_or_default()));
            } else {
                out.without_effect.push(name);
            }
        }
        if self.command == KUBELET.command && !out.args.iter().any(|a| a.starts_with("--container-runtime-endpoint=")) {
            out.args.push(format!("--container-runtime-endpoint={DEFAULT_RUNTIME}"));
        }
        Ok(out)
    }
}

/// The command line to parse: translated where the program was called by an upstream name.
pub(crate) fn command_line(args: Vec<OsString>) -> Result<(Vec<OsString>, Vec<String>)> {
    let program = args.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(face) = Face::of(&program) else { return Ok((args, Vec::new())) };
    let texts: Vec<String> = args[1..].iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let translated = face.translate(&texts)?;
    Ok((translated.args.into_iter().map(OsString::from).collect(), translated.without_effect))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubelet(args: &[&str]) -> Result<Translated> {
        KUBELET.translate(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_kubeadm_writes_is_understood() {
        let out = kubelet(&[
            "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
            "--kubeconfig=/etc/kubernetes/kubelet.conf",
            "--config=/var/lib/kubelet/config.yaml",
            "--container-runtime-endpoint=unix:///run/crio/crio.sock",
            "--pod-infra-container-image=registry.example/pause:3.10",
            "--v",
            "4",
            "--fail-swap-on=false",
        ])
        .unwrap();
        assert_eq!(
            out.args[1..],
            [
                "kubelet",
                "--kubeconfig=/etc/kubernetes/kubelet.conf",
                "--config=/var/lib/kubelet/config.yaml",
                "--container-runtime-endpoint=unix:///run/crio/crio.sock",
                "--v=4"
            ]
        );
        assert_eq!(out.without_effect, ["bootstrap-kubeconfig", "pod-infra-container-image", "fail-swap-on"]);
    }

    #[test]
    fn the_default_runtime_is_upstreams() {
        assert!(kubelet(&[]).unwrap().args.contains(&format!("--container-runtime-endpoint={DEFAULT_RUNTIME}")));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(kubelet(&["--no-such-flag"]).unwrap_err().to_string().contains("--no-such-flag"));
        assert!(kubelet(&["--root-dir"]).unwrap_err().to_string().contains("--root-dir"));
        assert!(kubelet(&["run"]).unwrap_err().to_string().contains("run"));
    }

    #[test]
    fn only_upstreams_names_have_a_face() {
        assert!(Face::of("/usr/bin/kubelet").is_some());
        assert!(Face::of("kube-proxy").is_some());
        assert!(Face::of("/usr/bin/orlop").is_none());
        let (args, _) = command_line(vec!["kube-proxy".into(), "--cleanup".into()]).unwrap();
        assert_eq!(args, ["orlop", "proxy", "--cleanup"]);
    }
}
