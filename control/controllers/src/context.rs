//! What every controller gets: client, shared informers, event recorder, clock, and its workers.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::ControllersConfig;
use crate::error::{ControllerError, chain};
use crate::events::Recorders;
use crate::informer::Informer;
use crate::queue::Queue;

/// One informer per resource that a controller reads.
pub(crate) struct Informers {
    pub(crate) namespaces: Arc<Informer<Namespace>>,
    pub(crate) service_accounts: Arc<Informer<ServiceAccount>>,
    /// Only `kube-root-ca.crt`.
    pub(crate) root_cas: Arc<Informer<ConfigMap>>,
    pub(crate) deployments: Arc<Informer<Deployment>>,
    pub(crate) replica_sets: Arc<Informer<ReplicaSet>>,
    pub(crate) pods: Arc<Informer<Pod>>,
    pub(crate) services: Arc<Informer<Service>>,
    pub(crate) endpoint_slices: Arc<Informer<EndpointSlice>>,
    pub(crate) endpoints: Arc<Informer<Endpoints>>,
    pub(crate) nodes: Arc<Informer<Node>>,
    /// Only those of nodes.
    pub(crate) node_leases: Arc<Informer<Lease>>,
}

impl Informers {
    pub(crate) fn new() -> Self {
        Self {
            namespaces: Informer::new(),
            service_accounts: Informer::new(),
            root_cas: Informer::new(),
            deployments: Informer::new(),
            replica_sets: Informer::new(),
            pods: Informer::new(),
            services: Informer::new(),
            endpoint_slices: Informer::new(),
            endpoints: Informer::new(),
            nodes: Informer::new(),
            node_leases: Informer::new(),
        }
    }

    /// Starts the watches; handlers must be registered by now.
    pub(crate) fn start(&self, client: &Client, tasks: &TaskTracker, shutdown: &CancellationToken) {
        macro_rules! follow {
            ($field:ident, $api:expr, $config:expr) => {
                tasks.spawn(Arc::clone(&self.$field).run($api, $config, shutdown.clone()))
            };
            ($field:ident) => {
                follow!($field, Api::all(client.clone()), watcher::Config::default())
            };
        }
        follow!(namespaces);
        follow!(service_accounts);
        let root_ca = format!("metadata.name={}", crate::root_ca::NAME);
        follow!(root_cas, Api::all(client.clone()), watcher::Config::default().fields(&root_ca));
        follow!(deployments);
        follow!(replica_sets);
        follow!(pods);
        follow!(services);
        follow!(endpoint_slices);
        follow!(endpoints);
        follow!(nodes);
        follow!(
            node_leases,
            Api::namespaced(client.clone(), crate::nodelifecycle::LEASE_NAMESPACE),
            watcher::Config::default()
        );
    }
}

/// Shared by all controllers.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) informers: Informers,
    pub(crate) recorders: Recorders,
    pub(crate) config: ControllersConfig,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

/// When to look at a key again though nothing changed.
pub(crate) type Requeue = Option<Duration>;

impl Context {
    pub(crate) fn now(&self) -> Timestamp {
        (self.config.clock)()
    }

    /// Runs `workers` tasks that reconcile the queue's keys, once `ready` is done.
    pub(crate) fn spawn_workers<K, R, F>(
        &self,
        controller: &'static str,
        workers: usize,
        queue: &Arc<Queue<K>>,
        ready: impl Future<Output = ()> + Send + 'static,
        reconcile: R,
    ) where
        K: Clone + Eq + Hash + Send + Sync + std::fmt::Display + 'static,
        R: Fn(K) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Requeue, ControllerError>> + Send + 'static,
    {
        let (queue, shutdown, tasks) = (Arc::clone(queue), self.shutdown.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = ready => {}
                () = shutdown.cancelled() => return,
            }
            for _ in 0..workers {
                tasks.spawn(work(controller, Arc::clone(&queue), reconcile.clone(), shutdown.clone()));
            }
        });
    }
}

async fn work<K, R, F>(controller: &'static str, queue: Arc<Queue<K>>, reconcile: R, shutdown: CancellationToken)
where
    K: Clone + Eq + Hash + Send + Sync + std::fmt::Display + 'static,
    R: Fn(K) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Requeue, ControllerError>> + Send + 'static,
{
    loop {
        let key = tokio::select! {
            key = queue.next() => key,
            () = shutdown.cancelled() => return,
        };
        let result = tokio::select! {
            result = reconcile(key.clone()) => result,
            () = shutdown.cancelled() => return,
        };
        match result {
            Ok(requeue) => {
                queue.forget(&key);
                if let Some(after) = requeue {
                    queue.add_after(key.clone(), after);
                }
            }
            Err(error) => {
                log_failure(controller, &key, &error);
                queue.retry(key.clone());
            }
        }
        queue.done(&key);
    }
}

fn log_failure(controller: &str, key: &impl std::fmt::Display, error: &ControllerError) {
    let expected = match error {
        ControllerError::Behind | ControllerError::ContentRemains { .. } => true,
        ControllerError::Api { source, .. } => {
            crate::error::is_conflict(source) || crate::error::is_already_exists(source)
        }
        ControllerError::Selector { .. } | ControllerError::Object { .. } => false,
    };
    if expected {
        debug!(controller, %key, error = chain(error), "tried again");
    } else {
        warn!(controller, %key, error = chain(error), "reconcile failed; tried again");
    }
}
