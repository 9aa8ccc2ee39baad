//! What the agent knows of a pod and could not learn again from the runtime: its last status (start
//! and transition times), probe results, back-off. One file per pod under `<state-dir>/pods`,
//! written atomically by one writer, read once when the pod's worker starts.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::PodStatus;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::prober::results::{ProbeKind, ProbeResult};

/// Format of the files; others are passed over.
const VERSION: u32 = 1;
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// One pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub status: PodStatus,
    /// Probe, container id, result.
    #[serde(default)]
    pub probes: Vec<(ProbeKind, String, ProbeResult)>,
    /// Container, length of its back-off in seconds.
    #[serde(default)]
    pub back_off: Vec<(String, u64)>,
}

impl Record {
    #[must_use]
    pub fn new(uid: &str, namespace: &str, name: &str, status: PodStatus) -> Self {
        Self {
            version: VERSION,
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            status,
            probes: Vec::new(),
            back_off: Vec::new(),
        }
    }
}

/// The files.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    /// What is to be written (`Some`) or removed, by UID: the latest wins.
    pending: Mutex<HashMap<String, Option<Record>>>,
    wake: Notify,
}

impl Records {
    /// Records under `state_dir`.
    pub fn open(state_dir: &Path) -> std::io::Result<Self> {
        let dir = state_dir.join("pods");
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir, pending: Mutex::default(), wake: Notify::new() })
    }

    fn path(&self, uid: &str) -> Option<PathBuf> {
        // UIDs come from outside; only one that is a plain file name becomes a path.
        let plain = !uid.is_empty() && uid.len() <= 128 && uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        plain.then(|| self.dir.join(format!("{uid}.json")))
    }

    /// The pod's record, if there is a readable one.
    #[must_use]
    pub fn load(&self, uid: &str) -> Option<Record> {
        if let Some(pending) = self.lock().get(uid) {
            return pending.clone();
        }
        let path = self.path(uid)?;
        if std::fs::metadata(&path).ok()?.len() > MAX_BYTES {
            return None;
        }
        let record: Record = match serde_json::from_slice(&std::fs::read(&path).ok()?) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "record of a pod is not readable, going on without");
                return None;
            }
        };
        (record.version == VERSION && record.uid == uid).then_some(record)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<Record>>> {
        self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps a record; written soon.
    pub fn save(&self, record: Record) {
        self.lock().insert(record.uid.clone(), Some(record));
        self.wake.notify_one();
    }

    /// The pod is gone.
    pub fn remove(&self, uid: &str) {
        self.lock().insert(uid.to_owned(), None);
        self.wake.notify_one();
    }

    /// Writes what is pending, until `shutdown`, and then what is left.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let stop = tokio::select! {
                () = shutdown.cancelled() => true,
                () = self.wake.notified() => false,
            };
            let records = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || records.flush()).await {
                tracing::warn!(%error, "writing records failed");
            }
            if stop {
                return;
            }
        }
    }

    /// Writes everything that is pending.
    pub fn flush(&self) {
        let pending: Vec<(String, Option<Record>)> = self.lock().clone().into_iter().collect();
        for (uid, record) in pending {
            let Some(path) = self.path(&uid) else { continue };
            let result = match &record {
                Some(record) => write(&path, record),
                None => match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                },
            };
            if let Err(error) = result {
                // A full disk must not stop pods; the next change tries again.
                tracing::warn!(path = %path.display(), %error, "cannot write the record of a pod");
            }
            let mut pending = self.lock();
            if pending.get(&uid) == Some(&record) {
                pending.remove(&uid);
            }
        }
    }
}

fn write(path: &Path, record: &Record) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_data()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survive_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let status = PodStatus { phase: Some("Running".into()), ..Default::default() };
        let mut record = Record::new("u-1", "n", "p", status);
        record.probes.push((ProbeKind::Readiness, "c".into(), ProbeResult::Success));
        records.save(record.clone());
        records.flush();
        let again = Records::open(dir.path()).unwrap();
        assert_eq!(again.load("u-1"), Some(record));
        std::fs::write(dir.path().join("pods/u-2.json"), "{").unwrap();
        assert_eq!(again.load("u-2"), None);
        assert_eq!(again.load("../u-1"), None);
        again.remove("u-1");
        again.flush();
        assert_eq!(again.load("u-1"), None);
    }
}
