//! The checks of both levels, in upstream's order and words (version 1.35 and newer).

use std::collections::BTreeSet;

use serde_json::Value;

use super::Level;
use crate::admission::fields::{bool_at, list_at, str_at};
use crate::admission::pod_refs::containers;

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// `REASON (DETAIL)`.
type Finding = Option<String>;

fn finding(reason: &str, detail: &str) -> Finding {
    Some(format!("{reason} ({detail})"))
}

/// What is against `level`; `pod` has `metadata` and `spec`.
pub(super) fn evaluate(level: Level, pod: &Value) -> Vec<String> {
    let restricted = match level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => false,
        Level::Restricted => true,
    };
    let baseline: [fn(&Value) -> Finding; 8] =
        [app_armor, host_namespaces, host_ports, probe_hosts, privileged, se_linux, sysctls, windows_host_process];
    let mut out: Vec<String> = Vec::new();
    // Where both levels have a check, the restricted one stands in its own place.
    for (at, check) in baseline.iter().enumerate() {
        if !restricted {
            match at {
                1 => out.extend(capabilities_baseline(pod)),
                2 => out.extend(host_path_volumes(pod)),
                5 => out.extend(proc_mount(pod, user_namespace(pod))),
                6 => out.extend(seccomp(pod, false)),
                _ => {}
            }
        }
        out.extend(check(pod));
    }
    if restricted {
        let windows = str_at(pod, "/spec/os/name") == "windows";
        if !windows {
            out.extend(privilege_escalation(pod));
            out.extend(capabilities_restricted(pod));
        }
        out.extend(proc_mount(pod, false));
        out.extend(restricted_volumes(pod));
        if !user_namespace(pod) {
            out.extend(run_as_non_root(pod));
            out.extend(run_as_user(pod));
        }
        out.extend(if windows { None } else { seccomp(pod, true) });
    }
    out
}

/// User namespaces make root harmless: some checks are relaxed for such Pods (KEP-127).
fn user_namespace(pod: &Value) -> bool {
    pod.pointer("/spec/hostUsers") == Some(&Value::Bool(false))
}

fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    items.into_iter().map(|i| format!("\"{}\"", i.as_ref())).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

fn of_containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// Names of the containers for which `bad` holds.
fn bad_containers(pod: &Value, mut bad: impl FnMut(&Value) -> bool) -> Vec<&str> {
    containers(pod).filter(|c| bad(c)).map(|c| str_at(c, "/name")).collect()
}

/// `pod and containers "a", "b"`: whoever set something.
fn setters(pod_too: bool, names: &[&str]) -> Option<String> {
    let mut out = Vec::new();
    if pod_too {
        out.push("pod".to_owned());
    }
    if !names.is_empty() {
        out.push(of_containers(names));
    }
    (!out.is_empty()).then(|| out.join(" and "))
}

fn strings<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    list_at(value, pointer).iter().filter_map(Value::as_str)
}

fn app_armor(pod: &Value) -> Finding {
    let pointer = "/securityContext/appArmorProfile";
    let bad_type = |v: Option<&Value>| {
        let kind = v.filter(|p| !p.is_null()).map(|p| str_at(p, "/type").to_owned());
        kind.filter(|k| k != "RuntimeDefault" && k != "Localhost")
    };
    let mut values: BTreeSet<String> = BTreeSet::new();
    let of_pod = bad_type(pod.pointer(&format!("/spec{pointer}")));
    values.extend(of_pod.clone());
    let names = bad_containers(pod, |c| {
        let bad = bad_type(c.pointer(pointer));
        values.extend(bad.clone());
        bad.is_some()
    });
    let annotations: BTreeSet<String> = pod
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(k, _)| k.starts_with(APPARMOR_ANNOTATION))
        .map(|(k, v)| (k, v.as_str().unwrap_or_default()))
        .filter(|(_, v)| !v.is_empty() && *v != "runtime/default" && !v.starts_with("localhost/"))
        .map(|(k, v)| format!("{k}={v:?}"))
        .collect();
    let mut who: Vec<String> = setters(of_pod.is_some(), &names).into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let all: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", all.len());
    finding(reason, &format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&all)))
}

fn added_capabilities(pod: &Value, allowed: &[&str]) -> Option<(String, String)> {
    let mut bad: BTreeSet<String> = BTreeSet::new();
    let names = bad_containers(pod, |c| {
        let before: Vec<&str> =
            strings(c, "/securityContext/capabilities/add").filter(|x| !allowed.contains(x)).collect();
        bad.extend(before.iter().map(|b| (*b).to_owned()));
        !before.is_empty()
    });
    (!names.is_empty()).then(|| (of_containers(&names), quoted(&bad)))
}

fn capabilities_baseline(pod: &Value) -> Finding {
    let (names, bad) = added_capabilities(pod, &CAPABILITIES)?;
    finding("non-default capabilities", &format!("{names} must not include {bad} in securityContext.capabilities.add"))
}

fn capabilities_restricted(pod: &Value) -> Finding {
    let mut details = Vec::new();
    let keeping = bad_containers(pod, |c| !strings(c, "/securityContext/capabilities/drop").any(|x| x == "ALL"));
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", of_containers(&keeping)));
    }
    if let Some((names, bad)) = added_capabilities(pod, &["NET_BIND_SERVICE"]) {
        details.push(format!("{names} must not include {bad} in securityContext.capabilities.add"));
    }
    if details.is_empty() { None } else { finding("unrestricted capabilities", &details.join("; ")) }
}

fn host_namespaces(pod: &Value) -> Finding {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|k| bool_at(pod, &format!("/spec/{k}")))
        .map(|k| format!("{k}=true"))
        .collect();
    if set.is_empty() { None } else { finding("host namespaces", &set.join(", ")) }
}

fn host_path_volumes(pod: &Value) -> Finding {
    let volumes = list_at(pod, "/spec/volumes").iter().filter(|v| v.get("hostPath").is_some_and(|h| !h.is_null()));
    let names: Vec<&str> = volumes.map(|v| str_at(v, "/name")).collect();
    if names.is_empty() {
        return None;
    }
    finding("hostPath volumes", &format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names)))
}

fn host_ports(pod: &Value) -> Finding {
    let mut ports: BTreeSet<String> = BTreeSet::new();
    let names = bad_containers(pod, |c| {
        let used: Vec<u64> =
            list_at(c, "/ports").iter().filter_map(|p| p.get("hostPort")?.as_u64()).filter(|p| *p != 0).collect();
        ports.extend(used.iter().map(ToString::to_string));
        !used.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let list: Vec<String> = ports.into_iter().collect();
    let (uses, word) = (plural("uses", "use", names.len()), plural("hostPort", "hostPorts", list.len()));
    finding("hostPort", &format!("{} {uses} {word} {}", of_containers(&names), list.join(", ")))
}

fn probe_hosts(pod: &Value) -> Finding {
    let mut hosts: BTreeSet<String> = BTreeSet::new();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for container in containers(pod) {
        for handler in
            ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"]
        {
            for action in ["httpGet", "tcpSocket"] {
                let host = str_at(container, &format!("{handler}/{action}/host"));
                if !host.is_empty() {
                    hosts.insert(host.to_owned());
                    names.insert(str_at(container, "/name"));
                }
            }
        }
    }
    if names.is_empty() {
        return None;
    }
    let names: Vec<&str> = names.into_iter().collect();
    let word = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    let uses = plural("uses", "use", names.len());
    finding("probe or lifecycle host", &format!("{} {uses} {word} {}", of_containers(&names), quoted(&hosts)))
}

fn privileged(pod: &Value) -> Finding {
    let names = bad_containers(pod, |c| bool_at(c, "/securityContext/privileged"));
    if names.is_empty() {
        return None;
    }
    finding("privileged", &format!("{} must not set securityContext.privileged=true", of_containers(&names)))
}

fn proc_mount(pod: &Value, relaxed: bool) -> Finding {
    let mut kinds: BTreeSet<String> = BTreeSet::new();
    let names = bad_containers(pod, |c| {
        let kind = str_at(c, "/securityContext/procMount");
        let bad = !kind.is_empty() && kind != "Default";
        if bad {
            kinds.insert(kind.to_owned());
        }
        bad
    });
    if names.is_empty() || relaxed {
        return None;
    }
    let detail = format!("{} must not set securityContext.procMount to {}", of_containers(&names), quoted(&kinds));
    finding("procMount", &detail)
}

fn se_linux(pod: &Value) -> Finding {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut bad = |options: Option<&Value>| {
        let Some(options) = options.filter(|o| !o.is_null()) else { return false };
        let kind = str_at(options, "/type");
        let bad_type = !SELINUX_TYPES.contains(&kind);
        if bad_type {
            types.insert(kind.to_owned());
        }
        let (set_user, set_role) = (!str_at(options, "/user").is_empty(), !str_at(options, "/role").is_empty());
        user |= set_user;
        role |= set_role;
        bad_type || set_user || set_role
    };
    let pod_too = bad(pod.pointer("/spec/securityContext/seLinuxOptions"));
    let names = bad_containers(pod, |c| bad(c.pointer("/securityContext/seLinuxOptions")));
    let who = setters(pod_too, &names)?;
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    if user {
        data.push("user may not be set".to_owned());
    }
    if role {
        data.push("role may not be set".to_owned());
    }
    finding("seLinuxOptions", &format!("{who} set forbidden securityContext.seLinuxOptions: {}", data.join("; ")))
}

fn seccomp(pod: &Value, must_be_set: bool) -> Finding {
    let kind_of = |v: Option<&Value>| v.filter(|p| !p.is_null()).map(|p| str_at(p, "/type").to_owned());
    let good = |kind: &str| kind == "RuntimeDefault" || kind == "Localhost";
    let mut values: BTreeSet<String> = BTreeSet::new();
    let of_pod = kind_of(pod.pointer("/spec/securityContext/seccompProfile"));
    let bad_pod = of_pod.as_deref().is_some_and(|k| !good(k));
    if bad_pod {
        values.extend(of_pod.clone());
    }
    let names = bad_containers(pod, |c| {
        let bad = kind_of(c.pointer("/securityContext/seccompProfile")).filter(|k| !good(k));
        values.extend(bad.clone());
        bad.is_some()
    });
    if let Some(who) = setters(bad_pod, &names) {
        let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&values));
        return finding("seccompProfile", &detail);
    }
    if !must_be_set || of_pod.is_some() {
        return None;
    }
    let unset = bad_containers(pod, |c| kind_of(c.pointer("/securityContext/seccompProfile")).is_none());
    if unset.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        of_containers(&unset)
    );
    finding("seccompProfile", &detail)
}

fn sysctls(pod: &Value) -> Finding {
    let names = list_at(pod, "/spec/securityContext/sysctls").iter().map(|s| str_at(s, "/name"));
    let bad: Vec<&str> = names.filter(|n| !SYSCTLS.contains(n)).collect();
    if bad.is_empty() { None } else { finding("forbidden sysctls", &bad.join(", ")) }
}

fn windows_host_process(pod: &Value) -> Finding {
    let pointer = "/securityContext/windowsOptions/hostProcess";
    let names = bad_containers(pod, |c| bool_at(c, pointer));
    let who = setters(bool_at(pod, &format!("/spec{pointer}")), &names)?;
    finding("hostProcess", &format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn privilege_escalation(pod: &Value) -> Finding {
    let pointer = "/securityContext/allowPrivilegeEscalation";
    let names = bad_containers(pod, |c| c.pointer(pointer) != Some(&Value::Bool(false)));
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", of_containers(&names));
    finding("allowPrivilegeEscalation != false", &detail)
}

fn restricted_volumes(pod: &Value) -> Finding {
    let mut names = Vec::new();
    let mut kinds: BTreeSet<&str> = BTreeSet::new();
    for volume in list_at(pod, "/spec/volumes") {
        let source = volume.as_object().into_iter().flatten().find(|(k, v)| *k != "name" && !v.is_null());
        let kind = source.map_or("unknown", |(k, _)| k.as_str());
        if !VOLUMES.contains(&kind) {
            names.push(str_at(volume, "/name"));
            kinds.insert(kind);
        }
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(&kinds)
    );
    finding("restricted volume types", &detail)
}

fn run_as_non_root(pod: &Value) -> Finding {
    let said = |v: &Value, pointer: &str| v.pointer(pointer).and_then(Value::as_bool);
    let of_pod = said(pod, "/spec/securityContext/runAsNonRoot");
    let of = |c: &Value| said(c, "/securityContext/runAsNonRoot");
    let refusing = bad_containers(pod, |c| of(c) == Some(false));
    if let Some(who) = setters(of_pod == Some(false), &refusing) {
        return finding("runAsNonRoot != true", &format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = bad_containers(pod, |c| of(c).is_none() && of_pod != Some(true));
    if silent.is_empty() {
        return None;
    }
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", of_containers(&silent));
    finding("runAsNonRoot != true", &detail)
}

fn run_as_user(pod: &Value) -> Finding {
    let root = |v: &Value, pointer: &str| v.pointer(pointer).and_then(Value::as_i64) == Some(0);
    let names = bad_containers(pod, |c| root(c, "/securityContext/runAsUser"));
    let who = setters(root(pod, "/spec/securityContext/runAsUser"), &names)?;
    finding("runAsUser=0", &format!("{who} must not set runAsUser=0"))
}
