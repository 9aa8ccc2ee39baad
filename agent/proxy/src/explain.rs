//! Why a Service has the endpoints that it has, and whether the kernel agrees.

use std::fmt;
use std::net::IpAddr;

use crate::plan::Plan;
use crate::services::ServiceName;
use crate::state::{Frontend, Rule};
use crate::tracker::Tracker;

/// What `orlop explain service` prints.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The Service.
    pub service: ServiceName,
    /// It is known, and one that nodes proxy.
    pub proxied: bool,
    /// Its frontends with their rules; `Err` with the owner where another Service holds one.
    pub frontends: Vec<(Frontend, Result<Rule, ServiceName>)>,
    /// Every endpoint that its slices name, with what becomes of it.
    pub endpoints: Vec<(String, Verdict)>,
}

/// What becomes of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes traffic.
    Used,
    /// It serves while it terminates, and takes traffic because no ready one is left.
    UsedWhileTerminating,
    NotReady,
    Terminating,
    /// With the reason.
    Refused(&'static str),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used => f.write_str("used"),
            Self::UsedWhileTerminating => f.write_str("used: terminating, but no ready endpoint is left"),
            Self::NotReady => f.write_str("not used: not ready"),
            Self::Terminating => f.write_str("not used: terminating"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
        }
    }
}

/// What `orlop verify` prints: desired against kernel.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Frontends that should be there.
    pub desired: usize,
    /// Frontends that are.
    pub installed: usize,
    /// What would have to be done; empty when the kernel is as it should be.
    pub differences: Plan,
}

/// Explains a Service from what the tracker knows.
pub(crate) fn explain(tracker: &Tracker, service: ServiceName) -> Explanation {
    let state = tracker.state();
    let frontends = tracker
        .claims_of(&service)
        .iter()
        .filter_map(|frontend| match tracker.owner(frontend) {
            Some(owner) if *owner != service => Some((*frontend, Err(owner.clone()))),
            _ => Some((*frontend, Ok(state.frontends.get(frontend)?.clone()))),
        })
        .collect::<Vec<_>>();
    let used = |ip: IpAddr| {
        frontends.iter().filter_map(|(_, rule)| rule.as_ref().ok()).any(|rule| {
            let all = rule.internal.endpoints.iter().chain(rule.external.endpoints.iter());
            all.into_iter().any(|endpoint| endpoint.ip == ip)
        })
    };
    let mut endpoints = Vec::new();
    for slice in tracker.slices_of(&service) {
        for endpoint in &slice.endpoints {
            let verdict = match (used(endpoint.ip), endpoint.terminating) {
                (true, false) => Verdict::Used,
                (true, true) => Verdict::UsedWhileTerminating,
                (false, true) => Verdict::Terminating,
                (false, false) => Verdict::NotReady,
            };
            endpoints.push((endpoint.ip.to_string(), verdict));
        }
        endpoints.extend(slice.refused.iter().map(|(address, reason)| (address.clone(), Verdict::Refused(reason))));
    }
    Explanation { proxied: tracker.service(&service).is_some(), service, frontends, endpoints }
}
