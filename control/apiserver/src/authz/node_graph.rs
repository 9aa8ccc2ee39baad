//! Which objects the Pods of a node reach: kept up to date by differences, not by scans per request.
//!
//! ```text
//! Secret, ConfigMap, ServiceAccount, PVC, ResourceClaim ◄── Pod ──► Node
//! Secret ◄── PV ──► PVC ◄── Pod
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::admission::fields::{annotation, list_at, name, namespace, str_at};
use crate::admission::pod_refs;
use crate::reader::{Object, ObjectReader};

/// What a Pod may lead a node to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Secret,
    ConfigMap,
    ServiceAccount,
    Claim,
    ResourceClaim,
}

type Target = (Kind, String, String);

struct PodEntry {
    object: Object,
    node: String,
    targets: Vec<Target>,
}

struct VolumeEntry {
    object: Object,
    /// Secrets that the volume's driver needs on the node.
    secrets: Vec<(String, String)>,
    claim: (String, String),
}

#[derive(Default)]
struct State {
    pods_revision: Option<u64>,
    volumes_revision: Option<u64>,
    pods: HashMap<(String, String), PodEntry>,
    /// How many Pods of which node lead to a target.
    nodes_of: HashMap<Target, HashMap<String, usize>>,
    volumes: HashMap<String, VolumeEntry>,
    claims_of_secret: HashMap<(String, String), HashSet<(String, String)>>,
}

/// The graph.
pub(crate) struct NodeGraph {
    reader: Arc<dyn ObjectReader>,
    state: Mutex<State>,
}

impl NodeGraph {
    pub(crate) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader, state: Mutex::default() }
    }

    /// Whether a Pod bound to `node` leads to the object.
    pub(crate) fn reaches(&self, node: &str, kind: Kind, object_ns: &str, object: &str) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refresh_pods(self.reader.as_ref());
        if state.has(node, kind, object_ns, object) {
            return true;
        }
        if kind != Kind::Secret {
            return false;
        }
        state.refresh_volumes(self.reader.as_ref());
        let key = (object_ns.to_owned(), object.to_owned());
        state
            .claims_of_secret
            .get(&key)
            .is_some_and(|claims| claims.iter().any(|(ns, c)| state.has(node, Kind::Claim, ns, c)))
    }

    /// Whether the PersistentVolume is claimed by a Pod bound to `node`.
    pub(crate) fn reaches_volume(&self, node: &str, volume: &str) -> bool {
        let Some(pv) = self.reader.get("", "persistentvolumes", None, volume) else { return false };
        let (ns, claim) = (str_at(&pv, "/spec/claimRef/namespace"), str_at(&pv, "/spec/claimRef/name"));
        !claim.is_empty() && self.reaches(node, Kind::Claim, ns, claim)
    }
}

impl State {
    fn has(&self, node: &str, kind: Kind, object_ns: &str, object: &str) -> bool {
        let target = (kind, object_ns.to_owned(), object.to_owned());
        self.nodes_of.get(&target).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn refresh_pods(&mut self, reader: &dyn ObjectReader) {
        let revision = reader.revision("", "pods");
        if self.pods_revision == Some(revision) {
            return;
        }
        let live = reader.list("", "pods", None);
        let mut gone: HashSet<(String, String)> = self.pods.keys().cloned().collect();
        for pod in live {
            let key = (namespace(&pod).to_owned(), name(&pod).to_owned());
            gone.remove(&key);
            match self.pods.get_mut(&key) {
                Some(entry) if Arc::ptr_eq(&entry.object, &pod) => continue,
                // A Pod's references can't change once it is bound, save for those that status adds.
                Some(entry) if entry.node == str_at(&pod, "/spec/nodeName") && same_references(&entry.object, &pod) => {
                    entry.object = pod;
                    continue;
                }
                Some(_) => self.forget(&key),
                None => {}
            }
            self.learn(key, pod);
        }
        for key in gone {
            self.forget(&key);
        }
        self.pods_revision = Some(revision);
    }

    fn learn(&mut self, key: (String, String), pod: Object) {
        let node = str_at(&pod, "/spec/nodeName").to_owned();
        // A mirror Pod is written by the node itself: it must not open anything to it.
        let mirror = annotation(&pod, pod_refs::MIRROR_ANNOTATION).is_some();
        let targets = if node.is_empty() || mirror { Vec::new() } else { targets(&pod) };
        for target in &targets {
            *self.nodes_of.entry(target.clone()).or_default().entry(node.clone()).or_default() += 1;
        }
        self.pods.insert(key, PodEntry { object: pod, node, targets });
    }

    fn forget(&mut self, key: &(String, String)) {
        let Some(entry) = self.pods.remove(key) else { return };
        for target in entry.targets {
            let Some(nodes) = self.nodes_of.get_mut(&target) else { continue };
            if let Some(count) = nodes.get_mut(&entry.node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&entry.node);
                }
            }
            if nodes.is_empty() {
                self.nodes_of.remove(&target);
            }
        }
    }

    fn refresh_volumes(&mut self, reader: &dyn ObjectReader) {
        let revision = reader.revision("", "persistentvolumes");
        if self.volumes_revision == Some(revision) {
            return;
        }
        let mut changed = false;
        let live = reader.list("", "persistentvolumes", None);
        let names: HashSet<&str> = live.iter().map(|v| name(v)).collect();
        let before = self.volumes.len();
        self.volumes.retain(|volume, _| names.contains(volume.as_str()));
        changed |= before != self.volumes.len();
        for volume in &live {
            let known = self.volumes.get(name(volume)).is_some_and(|e| Arc::ptr_eq(&e.object, volume));
            if !known {
                changed = true;
                self.volumes.insert(name(volume).to_owned(), volume_entry(volume));
            }
        }
        if changed {
            self.claims_of_secret.clear();
            for entry in self.volumes.values() {
                for secret in &entry.secrets {
                    self.claims_of_secret.entry(secret.clone()).or_default().insert(entry.claim.clone());
                }
            }
        }
        self.volumes_revision = Some(revision);
    }
}

fn same_references(old: &Value, new: &Value) -> bool {
    let field = |v: &Value, pointer: &str| v.pointer(pointer).cloned();
    [
        "/metadata/uid",
        "/spec/ephemeralContainers",
        "/status/resourceClaimStatuses",
        "/status/extendedResourceClaimStatus",
    ]
    .iter()
    .all(|p| field(old, p) == field(new, p))
}

fn targets(pod: &Value) -> Vec<Target> {
    let ns = namespace(pod);
    let mut out: HashSet<Target> = HashSet::new();
    let mut add = |kind: Kind, object: &str| {
        if !object.is_empty() {
            out.insert((kind, ns.to_owned(), object.to_owned()));
        }
    };
    add(Kind::ServiceAccount, str_at(pod, "/spec/serviceAccountName"));
    pod_refs::secrets(pod).iter().for_each(|s| add(Kind::Secret, s));
    pod_refs::config_maps(pod).iter().for_each(|c| add(Kind::ConfigMap, c));
    pod_refs::claims(pod).iter().for_each(|c| add(Kind::Claim, c));
    for claim in list_at(pod, "/spec/resourceClaims") {
        add(Kind::ResourceClaim, str_at(claim, "/resourceClaimName"));
    }
    for status in list_at(pod, "/status/resourceClaimStatuses") {
        add(Kind::ResourceClaim, str_at(status, "/resourceClaimName"));
    }
    add(Kind::ResourceClaim, str_at(pod, "/status/extendedResourceClaimStatus/resourceClaimName"));
    out.into_iter().collect()
}

fn volume_entry(volume: &Object) -> VolumeEntry {
    let claim_ns = str_at(volume, "/spec/claimRef/namespace");
    let mut secrets = Vec::new();
    // Where a source names no namespace of its own, the claim's is meant.
    for (pointer, key) in [
        ("/spec/csi/nodePublishSecretRef", "name"),
        ("/spec/csi/nodeStageSecretRef", "name"),
        ("/spec/csi/nodeExpandSecretRef", "name"),
        ("/spec/flexVolume/secretRef", "name"),
        ("/spec/iscsi/secretRef", "name"),
        ("/spec/rbd/secretRef", "name"),
        ("/spec/cephfs/secretRef", "name"),
        ("/spec/scaleIO/secretRef", "name"),
        ("/spec/storageos/secretRef", "name"),
        ("/spec/cinder/secretRef", "name"),
    ] {
        let Some(reference) = volume.pointer(pointer) else { continue };
        let secret = str_at(reference, &format!("/{key}"));
        let own = str_at(reference, "/namespace");
        if !secret.is_empty() {
            secrets.push((if own.is_empty() { claim_ns } else { own }.to_owned(), secret.to_owned()));
        }
    }
    VolumeEntry {
        object: volume.clone(),
        secrets,
        claim: (claim_ns.to_owned(), str_at(volume, "/spec/claimRef/name").to_owned()),
    }
}
