//! ClusterIPs and NodePorts of Services: never the same one twice.

use std::sync::Arc;

use ipnetwork::IpNetwork;
use orlop_api::status::Status;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::reader::ObjectReader;

#[derive(Clone, Debug)]
pub struct AllocatorConfig {
    /// `--service-cluster-ip-range`: one, or one of each family; the first is the primary.
    pub service_cidrs: Vec<IpNetwork>,
    /// `--service-node-port-range`, inclusive; 30000-32767.
    pub node_ports: (u16, u16),
}

/// Hands out ClusterIPs and NodePorts.
pub struct ServiceAllocator {
    reader: Arc<dyn ObjectReader>,
    config: AllocatorConfig,
}

/// What one create or update took. [`Allocation::commit`] once the Service is stored,
/// [`Allocation::rollback`] when it was not (or on a dry run).
#[must_use = "an allocation that is neither committed nor rolled back leaks addresses until the next repair"]
pub struct Allocation {}

impl Allocation {
    /// The Service is stored: gives back what the old version had and the new one no longer has.
    pub async fn commit(self) {}

    /// The Service was not stored: gives back what was newly taken.
    pub async fn rollback(self) {}
}

impl ServiceAllocator {
    #[must_use]
    pub fn new(reader: Arc<dyn ObjectReader>, config: AllocatorConfig) -> Self {
        Self { reader, config }
    }

    /// Fills `spec.clusterIP(s)`, `ipFamilies`, `ipFamilyPolicy`, `ports[].nodePort` and
    /// `healthCheckNodePort` of a defaulted Service about to be stored, or refuses it with 422.
    /// `old` is the stored version for an update. Call after defaulting, before validation.
    pub async fn allocate(
        self: &Arc<Self>,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Allocation, Status> {
        let _ = (&self.reader, &self.config, service, old, dry_run);
        Ok(Allocation {})
    }

    /// The Service is gone from the store.
    pub async fn release(&self, service: &Value) {
        let _ = service;
    }

    /// Takes what stored Services hold, drops what nobody holds. Call once before serving.
    pub async fn repair(&self) -> Result<(), Status> {
        Ok(())
    }

    /// Repairs at intervals until shut down.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        shutdown.cancelled().await;
    }
}
