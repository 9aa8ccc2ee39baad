//! A bounded memory for what is dear to compute and cheap to look up (signature checks).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

type Generation<V> = HashMap<[u8; 32], V>;

/// Two generations: when the young one is full it becomes the old one, and the old one is forgotten.
/// Keys are SHA-256 digests, so that no credential stays in memory here.
pub(crate) struct Memo<V> {
    capacity: usize,
    generations: Mutex<(Generation<V>, Generation<V>)>,
}

impl<V: Clone> Memo<V> {
    /// At most twice `capacity` entries are kept.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, generations: Mutex::default() }
    }

    pub(crate) fn key(parts: &[&[u8]]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    pub(crate) fn get(&self, key: &[u8; 32]) -> Option<V> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = generations.0.get(key) {
            return Some(found.clone());
        }
        let found = generations.1.remove(key)?;
        generations.0.insert(*key, found.clone());
        Some(found)
    }

    pub(crate) fn put(&self, key: [u8; 32], value: V) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.0.len() >= self.capacity {
            generations.1 = std::mem::take(&mut generations.0);
        }
        generations.0.insert(key, value);
    }
}
