//! From what is wanted and what is installed to what has to be done.

use std::net::IpAddr;

use crate::state::{Frontend, ProxyState};

/// The steps to the desired state. The rules themselves are looked up in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Frontends to write, new or changed.
    pub set: Vec<Frontend>,
    /// Frontends to take away.
    pub remove: Vec<Frontend>,
    /// NodePort addresses to write.
    pub set_addresses: Vec<IpAddr>,
    /// NodePort addresses to take away.
    pub remove_addresses: Vec<IpAddr>,
}

impl Plan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.set.len() + self.remove.len() + self.set_addresses.len() + self.remove_addresses.len()
    }
}

/// Compares everything: at start, after a failure, and in the audit.
pub fn plan(desired: &ProxyState, installed: &ProxyState) -> Plan {
    let touched =
        desired.frontends.keys().chain(installed.frontends.keys().filter(|f| !desired.frontends.contains_key(f)));
    plan_for(touched, desired, installed)
}

/// Compares the named frontends, and the NodePort addresses, which are few.
pub fn plan_for<'a>(
    touched: impl IntoIterator<Item = &'a Frontend>,
    desired: &ProxyState,
    installed: &ProxyState,
) -> Plan {
    let mut plan = Plan::default();
    for frontend in touched {
        match (desired.frontends.get(frontend), installed.frontends.get(frontend)) {
            (Some(want), Some(have)) if want.same_effect(have) => {}
            (Some(_), _) => plan.set.push(*frontend),
            (None, Some(_)) => plan.remove.push(*frontend),
            (None, None) => {}
        }
    }
    for (ip, scope) in &desired.node_addresses {
        if installed.node_addresses.get(ip) != Some(scope) {
            plan.set_addresses.push(*ip);
        }
    }
    plan.remove_addresses.extend(installed.node_addresses.keys().filter(|ip| !desired.node_addresses.contains_key(ip)));
    plan
}

/// Notes in `installed` that `plan` was carried out.
pub fn record(plan: &Plan, desired: &ProxyState, installed: &mut ProxyState) {
    for frontend in &plan.set {
        if let Some(rule) = desired.frontends.get(frontend) {
            installed.frontends.insert(*frontend, rule.clone());
        }
    }
    for frontend in &plan.remove {
        installed.frontends.remove(frontend);
    }
    for ip in &plan.set_addresses {
        if let Some(scope) = desired.node_addresses.get(ip) {
            installed.node_addresses.insert(*ip, *scope);
        }
    }
    for ip in &plan.remove_addresses {
        installed.node_addresses.remove(ip);
    }
}
