//! Numbers of service ports, which affinity and counters in the kernel know them by.

use std::collections::HashMap;
use std::sync::Arc;

use orlop_proxy::state::ServicePortName;

/// Stable numbers of service ports.
#[derive(Default)]
pub(crate) struct Ids {
    last: u32,
    by_name: HashMap<Arc<ServicePortName>, u32>,
    /// Frontends per number, with the name where it is known.
    uses: HashMap<u32, (u32, Option<Arc<ServicePortName>>)>,
}

impl Ids {
    /// The number of a service; `found` is the one that its frontend has in the kernel.
    pub(crate) fn number(&mut self, name: &Arc<ServicePortName>, found: Option<u32>) -> u32 {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        // After a restart names are unknown: the number in the kernel is this service's, unless a named one has it.
        let adopted = found.filter(|id| self.uses.get(id).is_some_and(|(_, owner)| owner.is_none()));
        let id = adopted.unwrap_or_else(|| {
            loop {
                self.last = self.last.wrapping_add(1);
                if self.last != 0 && !self.uses.contains_key(&self.last) {
                    break self.last;
                }
            }
        });
        self.by_name.insert(name.clone(), id);
        self.uses.entry(id).or_default().1 = Some(name.clone());
        id
    }

    pub(crate) fn take(&mut self, id: u32) {
        self.last = self.last.max(id);
        self.uses.entry(id).or_default().0 += 1;
    }

    pub(crate) fn give_back(&mut self, id: u32) {
        if let Some((uses, _)) = self.uses.get_mut(&id) {
            *uses = uses.saturating_sub(1);
            if *uses == 0
                && let Some((_, Some(name))) = self.uses.remove(&id)
            {
                self.by_name.remove(&name);
            }
        }
    }

    /// The names, with nothing else: for counting uses anew.
    pub(crate) fn into_names(self) -> HashMap<Arc<ServicePortName>, u32> {
        self.by_name
    }

    /// Gives numbers that are in use their names again.
    pub(crate) fn rename(&mut self, names: HashMap<Arc<ServicePortName>, u32>) {
        for (name, id) in names {
            if let Some((_, owner)) = self.uses.get_mut(&id) {
                *owner = Some(name.clone());
                self.by_name.insert(name, id);
            }
        }
    }
}
