//! The command line: `orlop <command>`. Flags carry upstream's names where upstream has one.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnetwork::IpNetwork;

/// A Kubernetes node in one program: kubelet, service proxy and, if you like, the control plane.
#[derive(Parser, Debug)]
#[command(
    name = "orlop",
    version = crate::version::TEXT,
    about,
    disable_help_subcommand = true,
    after_help = "A whole cluster on this machine:   orlop up\n\
                  A node of an existing cluster:    orlop agent --kubeconfig FILE\n\
                  Static Pods, no API server:       orlop agent\n\n\
                  Called by the name kubelet or kube-proxy it takes upstream's flags."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make this machine a cluster: control plane, kubelet and service proxy in one process
    #[cfg(feature = "control-plane")]
    Up(UpArgs),
    /// Run the control plane only
    #[cfg(feature = "control-plane")]
    Server(ServerArgs),
    /// Run kubelet and service proxy: of the cluster that --kubeconfig names, or standalone
    Agent(AgentArgs),
    /// Run the kubelet only
    Kubelet(AgentArgs),
    /// Run the service proxy only
    Proxy(ProxyArgs),
    /// Stop what `up` or `agent` left running under a data directory
    Down(DownArgs),
    /// Say why a Pod or Service is where it is
    Explain(LaterArgs),
    /// Say step by step what happens to a packet for a Service
    Trace(LaterArgs),
    /// Compare the dataplane with the kernel
    Verify(LaterArgs),
    /// Print the version
    Version {
        #[arg(long, short, value_enum, default_value_t = VersionOutput::Text)]
        output: VersionOutput,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum VersionOutput {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CgroupDriverArg {
    /// systemd where systemd runs on cgroup v2, else cgroupfs
    Auto,
    Cgroupfs,
    Systemd,
}

/// Where things are kept, and how much is said.
#[derive(Args, Clone, Debug)]
pub(crate) struct CommonArgs {
    /// Directory of this instance: certificates, store, containerd, images
    #[arg(long, value_name = "DIR", default_value = "/var/lib/orlop")]
    pub(crate) data_dir: PathBuf,
    /// Configuration file: one or several YAML documents (KubeletConfiguration,
    /// KubeProxyConfiguration, OrlopConfiguration); flags win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Log level: a number as upstream's (0 to 10), or error, warn, info, debug, trace
    #[arg(long, short = 'v', value_name = "LEVEL")]
    pub(crate) v: Option<String>,
    /// Log format: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) logging_format: String,
}

/// What concerns the node.
#[derive(Args, Clone, Debug)]
pub(crate) struct NodeArgs {
    /// Directory for Pods' volumes and the kubelet's state [default: /var/lib/kubelet, or
    /// `<data-dir>/kubelet` where --data-dir is not the default]
    #[arg(long, value_name = "DIR")]
    pub(crate) root_dir: Option<PathBuf>,
    /// Address of this node; two, comma-separated, for dual stack [default: that of the default route]
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub(crate) node_ip: Vec<IpAddr>,
    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname_override: Option<String>,
    /// Directory of static Pod manifests [default: /etc/kubernetes/manifests]
    #[arg(long, value_name = "DIR")]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// Directory for container logs [default: /var/log/pods, or `<data-dir>/log/pods`]
    #[arg(long, value_name = "DIR")]
    pub(crate) pod_logs_dir: Option<PathBuf>,
    /// CRI socket of a running container runtime; without it Orlop runs a containerd of its own
    #[arg(long, value_name = "SOCKET")]
    pub(crate) container_runtime_endpoint: Option<String>,
    /// Which program manages control groups [default: auto]
    #[arg(long, value_enum)]
    pub(crate) cgroup_driver: Option<CgroupDriverArg>,
    /// Control group below which all Pods run, and below which services are answered [default: the root]
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_root: Option<String>,
    /// Labels to register the node with
    #[arg(long, value_name = "K=V", value_delimiter = ',')]
    pub(crate) node_labels: Vec<String>,
    /// Taints to register the node with
    #[arg(long, value_name = "K=V:EFFECT", value_delimiter = ',')]
    pub(crate) register_with_taints: Vec<String>,
    /// Most Pods on this node
    #[arg(long, value_name = "N")]
    pub(crate) max_pods: Option<i64>,
    /// Address that the kubelet's server listens on
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<IpAddr>,
    /// Port of the kubelet's server
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Cluster DNS server's addresses for Pods
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub(crate) cluster_dns: Vec<IpAddr>,
    /// DNS domain of the cluster
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) cluster_domain: Option<String>,
}

/// The service proxy's own flags.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProxyFlags {
    /// Which dataplane answers Services: auto or ebpf [default: auto]
    #[arg(long, value_name = "MODE")]
    pub(crate) proxy_mode: Option<String>,
    /// Address of the proxy's health check; "" switches it off [default: 0.0.0.0:10256]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) healthz_bind_address: Option<String>,
    /// Address of the proxy's metrics; "" switches them off [default: 127.0.0.1:10249]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics_bind_address: Option<String>,
    /// Networks whose addresses answer NodePorts [default: the node's addresses]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) nodeport_addresses: Vec<IpNetwork>,
}

/// Networks of the cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterArgs {
    /// Addresses of Services; two, comma-separated, for dual stack [default: 10.96.0.0/16]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) service_cluster_ip_range: Vec<IpNetwork>,
    /// Addresses of Pods; each node gets a part [default: 10.244.0.0/16]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) cluster_cidr: Vec<IpNetwork>,
}

/// The API server's own flags.
#[derive(Args, Clone, Debug)]
pub(crate) struct ApiServerFlags {
    /// Port of the API server [default: 6443]
    #[arg(long, value_name = "PORT")]
    pub(crate) secure_port: Option<u16>,
    /// Address that the API server listens on [default: 0.0.0.0]
    #[arg(long, value_name = "IP")]
    pub(crate) bind_address: Option<IpAddr>,
    /// Address that clients and Pods reach the API server at [default: the node's]
    #[arg(long, value_name = "IP")]
    pub(crate) advertise_address: Option<IpAddr>,
    /// More names and addresses for the API server's certificate
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) tls_san: Vec<String>,
}

#[cfg(feature = "control-plane")]
#[derive(Args, Clone, Debug)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(flatten)]
    pub(crate) api: ApiServerFlags,
    #[command(flatten)]
    pub(crate) proxy: ProxyFlags,
}

#[cfg(feature = "control-plane")]
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(flatten)]
    pub(crate) api: ApiServerFlags,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) proxy: ProxyFlags,
    /// Credentials for the API server; without it only static Pods run
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Addresses of Services, guarded by an unreachable route
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) service_cluster_ip_range: Vec<IpNetwork>,
    /// Addresses of Pods (standalone: of this node's Pods)
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) pod_cidr: Vec<IpNetwork>,
    /// Serving certificate of the kubelet [default: self-signed, under the data directory]
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// CA of the clients that may ask the kubelet's server
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca_file: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) proxy: ProxyFlags,
    /// Credentials for the API server
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname_override: Option<String>,
    /// Addresses of this node [default: those of the Node object]
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub(crate) node_ip: Vec<IpAddr>,
    /// Addresses of Pods
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) cluster_cidr: Vec<IpNetwork>,
    /// Addresses of Services, guarded by an unreachable route
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) service_cluster_ip_range: Vec<IpNetwork>,
    /// Control group below which services are answered [default: the root]
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_root: Option<String>,
    /// Remove what the proxy left in the kernel, and exit
    #[arg(long)]
    pub(crate) cleanup: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DownArgs {
    /// Directory of the instance
    #[arg(long, value_name = "DIR", default_value = "/var/lib/orlop")]
    pub(crate) data_dir: PathBuf,
    /// Remove everything that the instance made, its data too, and check that nothing is left
    #[arg(long)]
    pub(crate) purge: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LaterArgs {
    /// What to look at
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) what: Vec<String>,
}
