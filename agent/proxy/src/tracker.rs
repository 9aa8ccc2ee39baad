//! Objects as they are now, and what they make of the state: only what changed is compiled again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::compile::{Limits, compile};
use crate::services::{ServiceName, ServiceSpec};
use crate::slices::SliceSpec;
use crate::state::{Frontend, FrontendKind, ProxyState, Rule};

/// Services and slices, with the state that follows from them.
pub struct Tracker {
    limits: Limits,
    services: HashMap<ServiceName, ServiceSpec>,
    /// By Service, then by the slice's name.
    slices: HashMap<ServiceName, BTreeMap<String, SliceSpec>>,
    /// The Service that a slice (namespace and name) belongs to, for when its label changes.
    slice_owner: HashMap<ServiceName, ServiceName>,
    /// Frontends that a Service made, won or not.
    claims: HashMap<ServiceName, Vec<Frontend>>,
    /// Rules of Services that lost a frontend to another.
    lost: HashMap<Frontend, BTreeMap<ServiceName, Rule>>,
    owners: HashMap<Frontend, ServiceName>,
    dirty: BTreeSet<ServiceName>,
    state: ProxyState,
}

/// Lower wins: an address that a Service merely asks for never takes one that another was given.
fn rank(kind: FrontendKind) -> u8 {
    match kind {
        FrontendKind::ClusterIp => 0,
        FrontendKind::NodePort => 1,
        FrontendKind::LoadBalancer => 2,
        FrontendKind::ExternalIp => 3,
        FrontendKind::Unknown => 4,
    }
}

impl Tracker {
    /// Nothing is known yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            services: HashMap::new(),
            slices: HashMap::new(),
            slice_owner: HashMap::new(),
            claims: HashMap::new(),
            lost: HashMap::new(),
            owners: HashMap::new(),
            dirty: BTreeSet::new(),
            state: ProxyState::default(),
        }
    }

    /// What follows from the objects, as of the last [`Tracker::refresh`].
    pub fn state(&self) -> &ProxyState {
        &self.state
    }

    /// For NodePort addresses, which don't come from objects.
    pub fn state_mut(&mut self) -> &mut ProxyState {
        &mut self.state
    }

    /// Services that wait for [`Tracker::refresh`].
    pub fn pending(&self) -> usize {
        self.dirty.len()
    }

    /// Known Services.
    pub fn service(&self, name: &ServiceName) -> Option<&ServiceSpec> {
        self.services.get(name)
    }

    /// Slices of a Service.
    pub fn slices_of(&self, name: &ServiceName) -> impl Iterator<Item = &SliceSpec> + Clone {
        self.slices.get(name).into_iter().flat_map(BTreeMap::values)
    }

    /// Frontends that a Service asked for, its own or not.
    pub fn claims_of(&self, name: &ServiceName) -> &[Frontend] {
        self.claims.get(name).map_or(&[], Vec::as_slice)
    }

    /// Who holds a frontend.
    pub fn owner(&self, frontend: &Frontend) -> Option<&ServiceName> {
        self.owners.get(frontend)
    }

    /// A Service is there, or is not to be proxied (any more). Whether that changed anything.
    pub fn set_service(&mut self, name: ServiceName, spec: Option<ServiceSpec>) -> bool {
        let changed = match spec {
            Some(spec) => {
                let changed = self.services.get(&name) != Some(&spec);
                if changed {
                    self.services.insert(name.clone(), spec);
                }
                changed
            }
            None => self.services.remove(&name).is_some(),
        };
        if changed {
            self.dirty.insert(name);
        }
        changed
    }

    /// A slice is there, or gone. Whether that changed anything.
    pub fn set_slice(&mut self, slice: ServiceName, spec: Option<SliceSpec>) -> bool {
        let owner = spec.as_ref().map(|spec| spec.service.clone());
        let former = match &owner {
            Some(owner) => self.slice_owner.insert(slice.clone(), owner.clone()),
            None => self.slice_owner.remove(&slice),
        };
        let mut changed = false;
        if let Some(former) = former.filter(|former| Some(former) != owner.as_ref())
            && let Some(slices) = self.slices.get_mut(&former)
        {
            changed |= slices.remove(&slice.name).is_some();
            if slices.is_empty() {
                self.slices.remove(&former);
            }
            self.dirty.insert(former);
        }
        if let Some(spec) = spec {
            let service = spec.service.clone();
            let slices = self.slices.entry(service.clone()).or_default();
            if slices.get(&slice.name) != Some(&spec) {
                slices.insert(slice.name, spec);
                self.dirty.insert(service);
                changed = true;
            }
        }
        changed
    }

    /// A list is complete: Services that it didn't name are gone.
    pub fn retain_services(&mut self, seen: &HashSet<ServiceName>) {
        let gone: Vec<_> = self.services.keys().filter(|name| !seen.contains(name)).cloned().collect();
        for name in gone {
            self.set_service(name, None);
        }
    }

    /// A list is complete: slices that it didn't name are gone.
    pub fn retain_slices(&mut self, seen: &HashSet<ServiceName>) {
        let gone: Vec<_> = self.slice_owner.keys().filter(|name| !seen.contains(name)).cloned().collect();
        for name in gone {
            self.set_slice(name, None);
        }
    }

    /// Compiles what changed. The frontends that may be different now, and what Services don't get.
    pub fn refresh(&mut self) -> (BTreeSet<Frontend>, Vec<(ServiceName, String)>) {
        let mut touched = BTreeSet::new();
        let mut refused = Vec::new();
        for name in std::mem::take(&mut self.dirty) {
            for frontend in self.claims.remove(&name).unwrap_or_default() {
                self.withdraw(&name, &frontend);
                touched.insert(frontend);
            }
            let Some(spec) = self.services.get(&name) else { continue };
            let slices = self.slices.get(&name).into_iter().flat_map(BTreeMap::values);
            let compiled = compile(&name, spec, &slices, self.limits);
            refused.extend(compiled.refused.into_iter().map(|why| (name.clone(), why)));
            let mut claims = Vec::with_capacity(compiled.rules.len());
            for (frontend, rule) in compiled.rules {
                if claims.contains(&frontend) {
                    continue;
                }
                if let Some(holder) = self.claim(&name, frontend, rule) {
                    refused.push((name.clone(), format!("{frontend} belongs to {holder}")));
                }
                claims.push(frontend);
                touched.insert(frontend);
            }
            self.claims.insert(name, claims);
        }
        (touched, refused)
    }

    /// Gives a frontend to a Service; the one that keeps it, if that is another.
    fn claim(&mut self, name: &ServiceName, frontend: Frontend, rule: Rule) -> Option<ServiceName> {
        let holder = self.owners.get(&frontend).cloned();
        if let Some(holder) = holder
            && let Some(held) = self.state.frontends.get(&frontend)
        {
            if (rank(held.kind), &holder) < (rank(rule.kind), name) {
                self.lost.entry(frontend).or_default().insert(name.clone(), rule);
                return Some(holder);
            }
            let held = held.clone();
            self.lost.entry(frontend).or_default().insert(holder, held);
        }
        self.owners.insert(frontend, name.clone());
        self.state.frontends.insert(frontend, rule);
        None
    }

    /// Takes a frontend from a Service; the best of those who wanted it too gets it.
    fn withdraw(&mut self, name: &ServiceName, frontend: &Frontend) {
        let losers = self.lost.get_mut(frontend);
        if self.owners.get(frontend) != Some(name) {
            if let Some(losers) = losers {
                losers.remove(name);
                if losers.is_empty() {
                    self.lost.remove(frontend);
                }
            }
            return;
        }
        let heir = losers.and_then(|losers| {
            let best = losers.iter().min_by_key(|(loser, rule)| (rank(rule.kind), *loser))?.0.clone();
            losers.remove_entry(&best)
        });
        if self.lost.get(frontend).is_some_and(BTreeMap::is_empty) {
            self.lost.remove(frontend);
        }
        match heir {
            Some((heir, rule)) => {
                self.owners.insert(*frontend, heir);
                self.state.frontends.insert(*frontend, rule);
            }
            None => {
                self.owners.remove(frontend);
                self.state.frontends.remove(frontend);
            }
        }
    }
}
