//! Results of probes by container: what the worker acts on, and what is kept over a restart of the agent.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    /// The word that events use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// Outcome of a probe, after thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeResult {
    Success,
    Failure,
    Unknown,
}

/// The results of all probes on the node.
#[derive(Debug, Default)]
pub struct ProbeResults {
    results: Mutex<HashMap<(ProbeKind, String), ProbeResult>>,
}

impl ProbeResults {
    fn lock(&self) -> MutexGuard<'_, HashMap<(ProbeKind, String), ProbeResult>> {
        self.results.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sets a result; true if it changed.
    pub fn set(&self, kind: ProbeKind, container_id: &str, result: ProbeResult) -> bool {
        self.lock().insert((kind, container_id.to_owned()), result) != Some(result)
    }

    /// Sets a result where there is none yet: the state a probe starts from.
    pub fn seed(&self, kind: ProbeKind, container_id: &str, result: ProbeResult) {
        self.lock().entry((kind, container_id.to_owned())).or_insert(result);
    }

    #[must_use]
    pub fn get(&self, kind: ProbeKind, container_id: &str) -> Option<ProbeResult> {
        self.lock().get(&(kind, container_id.to_owned())).copied()
    }

    /// Forgets a container.
    pub fn remove(&self, kind: ProbeKind, container_id: &str) {
        self.lock().remove(&(kind, container_id.to_owned()));
    }

    /// All results of these containers, for the record on disk.
    #[must_use]
    pub fn of(&self, container_ids: &[String]) -> Vec<(ProbeKind, String, ProbeResult)> {
        let results = self.lock();
        let mut found = Vec::new();
        for id in container_ids {
            for kind in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness] {
                if let Some(result) = results.get(&(kind, id.clone())) {
                    found.push((kind, id.clone(), *result));
                }
            }
        }
        found
    }
}

impl crate::kuberuntime::actions::ProbeLookup for ProbeResults {
    fn result(&self, kind: ProbeKind, container_id: &str) -> Option<ProbeResult> {
        self.get(kind, container_id)
    }
}
