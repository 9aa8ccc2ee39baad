//! The kinds of documents, and which of upstream's fields exist at all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Result, bail};
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;
use serde_json::Value;

/// What only Orlop has: the defaults of `up` and `server`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct OrlopConfiguration {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub(crate) root_dir: Option<PathBuf>,
    #[serde(rename = "nodeIP")]
    pub(crate) node_ip: Vec<IpAddr>,
    pub(crate) hostname_override: Option<String>,
    pub(crate) node_labels: BTreeMap<String, String>,
    #[serde(rename = "serviceClusterIPRange")]
    pub(crate) service_cluster_ip_range: Vec<IpNetwork>,
    #[serde(rename = "clusterCIDR")]
    pub(crate) cluster_cidr: Vec<IpNetwork>,
    pub(crate) secure_port: Option<u16>,
    pub(crate) bind_address: Option<IpAddr>,
    pub(crate) advertise_address: Option<IpAddr>,
    #[serde(rename = "tlsSANs")]
    pub(crate) tls_sans: Vec<String>,
}

/// The part of KubeletConfiguration (kubelet.config.k8s.io/v1beta1) that has an effect.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KubeletConfiguration {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub(crate) static_pod_path: Option<PathBuf>,
    pub(crate) pod_logs_dir: Option<PathBuf>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: Option<u16>,
    pub(crate) cluster_domain: Option<String>,
    #[serde(rename = "clusterDNS")]
    pub(crate) cluster_dns: Vec<IpAddr>,
    pub(crate) cgroup_root: Option<String>,
    pub(crate) cgroup_driver: Option<String>,
    pub(crate) max_pods: Option<i64>,
    #[serde(rename = "podCIDR")]
    pub(crate) pod_cidr: Option<IpNetwork>,
    pub(crate) resolv_conf: Option<PathBuf>,
    pub(crate) container_runtime_endpoint: Option<String>,
    pub(crate) register_with_taints: Vec<Taint>,
    pub(crate) tls_cert_file: Option<PathBuf>,
    pub(crate) tls_private_key_file: Option<PathBuf>,
    pub(crate) authentication: Option<KubeletAuthentication>,
    #[serde(flatten)]
    pub(super) rest: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KubeletAuthentication {
    pub(crate) x509: KubeletX509,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KubeletX509 {
    #[serde(rename = "clientCAFile")]
    pub(crate) client_ca_file: Option<PathBuf>,
}

/// The part of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) that has an effect.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KubeProxyConfiguration {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub(crate) mode: Option<String>,
    pub(crate) healthz_bind_address: Option<String>,
    pub(crate) metrics_bind_address: Option<String>,
    pub(crate) node_port_addresses: Vec<IpNetwork>,
    pub(crate) hostname_override: Option<String>,
    #[serde(rename = "clusterCIDR")]
    pub(crate) cluster_cidr: Option<String>,
    pub(crate) client_connection: Option<ClientConnection>,
    #[serde(flatten)]
    pub(super) rest: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClientConnection {
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// Upstream 1.36's further fields of KubeletConfiguration.
const KUBELET_FIELDS: &str = "allowedUnsafeSysctls authorization cgroupsPerQOS configMapAndSecretChangeDetectionStrategy \
    containerLogMaxFiles containerLogMaxSize containerLogMaxWorkers containerLogMonitorInterval contentType cpuCFSQuota \
    cpuCFSQuotaPeriod cpuManagerPolicy cpuManagerPolicyOptions cpuManagerReconcilePeriod crashLoopBackOff \
    enableContentionProfiling enableControllerAttachDetach enableDebugFlagsHandler enableDebuggingHandlers \
    enableProfilingHandler enableServer enableSystemLogHandler enableSystemLogQuery enforceNodeAllocatable eventBurst \
    eventRecordQPS evictionHard evictionMaxPodGracePeriod evictionMinimumReclaim evictionPressureTransitionPeriod \
    evictionSoft evictionSoftGracePeriod failCgroupV1 failSwapOn featureGates fileCheckFrequency hairpinMode \
    healthzBindAddress healthzPort httpCheckFrequency imageGCHighThresholdPercent imageGCLowThresholdPercent \
    imageMaximumGCAge imageMinimumGCAge imagePullCredentialsVerificationPolicy imageServiceEndpoint iptablesDropBit \
    iptablesMasqueradeBit kernelMemcgNotification kubeAPIBurst kubeAPIQPS kubeReserved kubeReservedCgroup kubeletCgroups \
    localStorageCapacityIsolation logging makeIPTablesUtilChains maxOpenFiles maxParallelImagePulls memoryManagerPolicy \
    memoryReservationPolicy memorySwap memoryThrottlingFactor mergeDefaultEvictionSettings nodeLeaseDurationSeconds \
    nodeStatusMaxImages nodeStatusReportFrequency nodeStatusUpdateFrequency oomScoreAdj podPidsLimit podsPerCore \
    preloadedImagesVerificationAllowlist protectKernelDefaults providerID qosReserved readOnlyPort registerNode \
    registryBurst registryPullQPS reservedMemory reservedSystemCPUs rotateCertificates runOnce runtimeRequestTimeout \
    seccompDefault serializeImagePulls serverTLSBootstrap showHiddenMetricsForVersion shutdownGracePeriod \
    shutdownGracePeriodByPodPriority shutdownGracePeriodCriticalPods singleProcessOOMKill staticPodURL staticPodURLHeader \
    streamingConnectionIdleTimeout syncFrequency systemCgroups systemReserved systemReservedCgroup tlsCipherSuites \
    tlsCurvePreferences tlsMinVersion topologyManagerPolicy topologyManagerPolicyOptions topologyManagerScope tracing \
    userNamespaces volumePluginDir volumeStatsAggPeriod";

/// Upstream 1.36's further fields of KubeProxyConfiguration.
const PROXY_FIELDS: &str = "bindAddress bindAddressHardFail configSyncPeriod conntrack detectLocal detectLocalMode \
    enableProfiling featureGates iptables ipvs logging nftables oomScoreAdj portRange showHiddenMetricsForVersion \
    windowsRunAsService winkernel";

/// Names what has no effect; refuses what upstream doesn't have either.
pub(super) fn check_kubelet(rest: &BTreeMap<String, Value>) -> Result<Vec<String>> {
    check("KubeletConfiguration", KUBELET_FIELDS, rest)
}

pub(super) fn check_proxy(rest: &BTreeMap<String, Value>) -> Result<Vec<String>> {
    check("KubeProxyConfiguration", PROXY_FIELDS, rest)
}

fn check(kind: &str, known: &str, rest: &BTreeMap<String, Value>) -> Result<Vec<String>> {
    for field in rest.keys() {
        if !known.split_whitespace().any(|k| k == field) {
            bail!("{kind}: unknown field {field:?}");
        }
    }
    Ok(rest.keys().cloned().collect())
}
