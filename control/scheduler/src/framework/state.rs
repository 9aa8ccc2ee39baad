//! What plugins keep between the extension points of one scheduling cycle.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};

/// One value per type, and the plugins to leave out.
#[derive(Default)]
pub struct CycleState {
    values: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    pub(crate) skip_filter: BTreeSet<&'static str>,
    pub(crate) skip_score: BTreeSet<&'static str>,
}

impl CycleState {
    /// Keeps a value for the later extension points; the type is the key.
    pub fn write<T: Any + Send + Sync>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Box::new(value));
    }

    /// What was kept.
    #[must_use]
    pub fn read<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.values.get(&TypeId::of::<T>()).and_then(|v| v.downcast_ref())
    }
}
