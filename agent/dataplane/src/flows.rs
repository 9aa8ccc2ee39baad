//! UDP flows to endpoints that are gone: UDP has no end, so they are forgotten with their endpoint
//! (upstream's conntrack clean-up). TCP connections to an endpoint that leaves go on until they end.

use std::collections::HashSet;
use std::sync::Arc;

use orlop_abi::maps::{FLOW_DNAT, FLOW_REPLY, FLOW_SNAT, FLOW_SNAT_REPLY, FlowKey, FlowValue};
use orlop_abi::packet::UDP;
use orlop_proxy::backend::SyncError;
use orlop_proxy::state::Endpoint;

use crate::convert;
use crate::tables::Table;

/// Endpoints that services lost, by service number.
#[derive(Default)]
pub(crate) struct Removed {
    gone: HashSet<(u32, orlop_abi::addr::Addr, u16)>,
}

impl Removed {
    /// Notes what `old` has and `new` lacks.
    pub(crate) fn note(&mut self, service: u32, old: Option<&Arc<[Endpoint]>>, new: &[Endpoint]) {
        for endpoint in old.into_iter().flat_map(|old| old.iter()) {
            if !new.contains(endpoint) {
                let raw = convert::raw_endpoint(endpoint);
                self.gone.insert((service, raw.addr, raw.port_be));
            }
        }
    }
}

/// Forgets all steps of UDP flows to those endpoints.
pub(crate) fn forget(flows: &mut Table<FlowKey, FlowValue>, removed: &Removed) -> Result<(), SyncError> {
    if removed.gone.is_empty() {
        return Ok(());
    }
    for (key, value) in flows.entries()? {
        let endpoint = match key.step {
            FLOW_DNAT => (value.addr, value.port_be),
            FLOW_REPLY | FLOW_SNAT_REPLY => (key.src, key.sport_be),
            FLOW_SNAT => (key.dst, key.dport_be),
            _ => continue,
        };
        if key.proto == UDP && removed.gone.contains(&(value.service, endpoint.0, endpoint.1)) {
            flows.remove(key)?;
        }
    }
    Ok(())
}
