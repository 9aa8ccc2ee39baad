//! Amounts of resources as the scheduler counts them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use orlop_api::quantity::Quantity;
use orlop_api::resources::ResourceList;

/// CPU in thousandths, the rest in whole units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Most Pods; only in what a node has.
    pub pods: i64,
    /// Huge pages and extended resources.
    pub scalar: BTreeMap<String, i64>,
}

impl Resource {
    #[must_use]
    pub fn from_list(list: &ResourceList) -> Self {
        let mut out = Self::default();
        for (name, quantity) in list {
            out.set(name, *quantity);
        }
        out
    }

    /// What a node offers; entries that don't parse count as nothing.
    #[must_use]
    pub fn from_api(list: Option<&BTreeMap<String, ApiQuantity>>) -> Self {
        let mut out = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            if let Ok(quantity) = quantity.0.parse() {
                out.set(name, quantity);
            }
        }
        out
    }

    fn set(&mut self, name: &str, quantity: Quantity) {
        match name {
            "cpu" => self.milli_cpu = quantity.milli_value(),
            "memory" => self.memory = quantity.value(),
            "ephemeral-storage" => self.ephemeral_storage = quantity.value(),
            "pods" => self.pods = quantity.value(),
            _ => {
                self.scalar.insert(name.to_owned(), quantity.value());
            }
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.saturating_add(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let entry = self.scalar.entry(name.clone()).or_default();
            *entry = entry.saturating_add(*amount);
        }
    }

    pub fn subtract(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_sub(other.milli_cpu);
        self.memory = self.memory.saturating_sub(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.saturating_sub(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            if let Some(entry) = self.scalar.get_mut(name) {
                *entry = entry.saturating_sub(*amount);
            }
        }
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral_storage == 0
            && self.scalar.values().all(|amount| *amount == 0)
    }
}
