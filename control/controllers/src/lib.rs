//! The controller manager: one module per upstream controller, under upstream's names.
//!
//! ```text
//! API server ─ one watch per resource ─► informer (shared cache) ─► handlers add keys to queues
//!                                                                     └► workers: reconcile(key)
//! ```
//! Every reconcile is level-triggered: it reads the caches, lets a pure function decide, and acts.

mod context;
mod deployment;
mod endpoints;
mod endpointslice;
mod error;
mod events;
mod expectations;
mod garbagecollector;
mod informer;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod ownership;
mod pod_control;
mod podgc;
mod pods;
mod queue;
mod replicaset;
mod resources;
mod root_ca;
mod serviceaccount;
mod tainteviction;

use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use jiff::Timestamp;
use kube::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use context::{Context, Informers};
use events::Recorders;

/// What the controllers are told; the defaults are upstream's.
#[derive(Clone)]
pub struct ControllersConfig {
    /// CA bundle that `kube-root-ca.crt` publishes, as PEM; empty: not published.
    pub root_ca_pem: String,
    /// Networks that nodes get their Pod networks from, at most one per family; empty: none are given.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// Prefix lengths of a node's Pod network.
    pub node_cidr_mask_v4: u8,
    pub node_cidr_mask_v6: u8,
    /// How long a node may be silent before it counts as lost.
    pub node_monitor_grace_period: Duration,
    /// The same for a node that never said anything.
    pub node_startup_grace_period: Duration,
    /// Finished Pods that are kept before the oldest are deleted; 0: all are kept.
    pub terminated_pod_gc_threshold: usize,
    /// Where the time comes from.
    pub clock: Clock,
}

/// Wall-clock time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

impl Default for ControllersConfig {
    fn default() -> Self {
        Self {
            root_ca_pem: String::new(),
            cluster_cidrs: Vec::new(),
            node_cidr_mask_v4: 24,
            node_cidr_mask_v6: 64,
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_secs(60),
            terminated_pod_gc_threshold: 12_500,
            clock: Arc::new(Timestamp::now),
        }
    }
}

/// Runs all controllers until `shutdown`; returns when everything has stopped.
pub async fn run(client: Client, config: ControllersConfig, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let (recorders, writer) = Recorders::new(client.clone(), Arc::clone(&config.clock), shutdown.clone());
    tasks.spawn(writer);
    let context = Arc::new(Context {
        client: client.clone(),
        informers: Informers::new(),
        recorders,
        config,
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
    });
    namespace::start(&context);
    serviceaccount::start(&context);
    root_ca::start(&context);
    deployment::start(&context);
    replicaset::start(&context);
    endpointslice::start(&context);
    endpoints::start(&context);
    nodeipam::start(&context);
    nodelifecycle::start(&context);
    tainteviction::start(&context);
    podgc::start(&context);
    garbagecollector::start(&context);
    // Handlers are in place; now objects may come.
    context.informers.start(&client, &tasks, &shutdown);
    info!("controllers started");
    shutdown.cancelled().await;
    tasks.close();
    tasks.wait().await;
}
