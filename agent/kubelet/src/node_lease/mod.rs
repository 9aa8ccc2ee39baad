//! The node's heartbeat: a Lease in `kube-node-lease`.
//!
//! The node lifecycle controller takes a node whose lease is not renewed for lost. Renewing is cheap, so it goes on
//! whatever else the kubelet is busy with.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

const NAMESPACE: &str = "kube-node-lease";
const MAX_BACKOFF: Duration = Duration::from_secs(7);

/// What the heartbeat needs.
#[derive(Clone)]
pub struct NodeLeaseConfig {
    pub client: kube::Client,
    pub node_name: String,
    /// `nodeLeaseDurationSeconds`, 40 by default; renewed every quarter of it.
    pub lease_duration_s: i32,
}

/// Creates the lease and renews it until `shutdown`.
pub async fn run(config: NodeLeaseConfig, shutdown: CancellationToken) {
    let heartbeat = Heartbeat {
        leases: Api::namespaced(config.client.clone(), NAMESPACE),
        nodes: Api::all(config.client.clone()),
        config,
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = heartbeat.run() => {}
    }
}

struct Heartbeat {
    leases: Api<Lease>,
    nodes: Api<Node>,
    config: NodeLeaseConfig,
}

impl Heartbeat {
    async fn run(&self) {
        let every = Duration::from_secs(u64::try_from(self.config.lease_duration_s).unwrap_or(40)) / 4;
        let mut current: Option<Lease> = None;
        let mut backoff = Duration::from_millis(100);
        loop {
            match self.beat(current.as_ref()).await {
                Ok(lease) => {
                    current = Some(lease);
                    backoff = Duration::from_millis(100);
                    tokio::time::sleep(every).await;
                }
                Err(error) => {
                    if current.take().is_some() {
                        // Somebody else changed or deleted it: read it anew at once.
                        debug!(%error, "the node's lease has to be read again");
                        continue;
                    }
                    warn!(%error, "could not renew the node's lease");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
            }
        }
    }

    async fn beat(&self, current: Option<&Lease>) -> Result<Lease, kube::Error> {
        let name = &self.config.node_name;
        let existing = match current {
            Some(lease) => Some(lease.clone()),
            None => self.leases.get_opt(name).await?,
        };
        match existing {
            Some(mut lease) => {
                self.renew(&mut lease).await?;
                self.leases.replace(name, &PostParams::default(), &lease).await
            }
            None => {
                let mut lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        namespace: Some(NAMESPACE.to_owned()),
                        ..ObjectMeta::default()
                    },
                    spec: None,
                };
                self.renew(&mut lease).await?;
                self.leases.create(&PostParams::default(), &lease).await
            }
        }
    }

    async fn renew(&self, lease: &mut Lease) -> Result<(), kube::Error> {
        let name = &self.config.node_name;
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        spec.holder_identity = Some(name.clone());
        spec.lease_duration_seconds = Some(self.config.lease_duration_s);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        // The lease goes with the node; it may be younger than the first beat.
        if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
            && let Some(node) = self.nodes.get_opt(name).await?
        {
            lease.metadata.owner_references = Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.clone(),
                uid: node.metadata.uid.unwrap_or_default(),
                ..OwnerReference::default()
            }]);
        }
        Ok(())
    }
}
