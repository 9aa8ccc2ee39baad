//! Who owns whom, of all objects of the cluster. Pure: events in, work out.
//!
//! An owner that some object names but that was never seen stands in the graph as *virtual*: the
//! server is asked for it, and if it does not exist its dependents are looked at.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// Where an object is, for asking the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) group: String,
    pub(super) kind: String,
    /// Of an owner that was only named: the namespace of who named it.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) identity: Identity,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) dependents: HashSet<String>,
    /// Only named by others so far.
    pub(super) is_virtual: bool,
    pub(super) deleting: bool,
    /// Deleted in the foreground: it waits for its dependents.
    pub(super) deleting_dependents: bool,
    orphaning: bool,
}

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Work {
    /// Whether the object must go, or its foreground deletion can end.
    Delete(String),
    /// The object's dependents must be let go.
    Orphan(String),
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Work::Delete(uid) => write!(f, "delete {uid}"),
            Work::Orphan(uid) => write!(f, "orphan {uid}"),
        }
    }
}

#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
}

fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == finalizer)
}

pub(super) fn is_deleting_dependents(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && has_finalizer(meta, FOREGROUND)
}

pub(super) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The object exists like this.
    pub(super) fn upsert(&mut self, identity: Identity, meta: &ObjectMeta) -> Vec<Work> {
        let uid = identity.uid.clone();
        let mut work = Vec::new();
        let owners = meta.owner_references.clone().unwrap_or_default();
        let deleting_dependents = is_deleting_dependents(meta);
        let orphaning = meta.deletion_timestamp.is_some() && has_finalizer(meta, ORPHAN);
        let namespace = identity.namespace.clone();

        let node = self.nodes.entry(uid.clone()).or_insert_with(|| Node {
            identity: identity.clone(),
            owners: Vec::new(),
            dependents: HashSet::new(),
            is_virtual: true,
            deleting: false,
            deleting_dependents: false,
            orphaning: false,
        });
        let before = std::mem::replace(&mut node.owners, owners.clone());
        let began_foreground = deleting_dependents && !node.deleting_dependents;
        let began_orphaning = orphaning && !node.orphaning;
        node.identity = identity;
        node.is_virtual = false;
        node.deleting = meta.deletion_timestamp.is_some();
        node.deleting_dependents = deleting_dependents;
        node.orphaning = orphaning;
        if began_foreground {
            work.push(Work::Delete(uid.clone()));
            work.extend(node.dependents.iter().cloned().map(Work::Delete));
        }
        if began_orphaning {
            work.push(Work::Orphan(uid.clone()));
        }
        if before != owners {
            self.move_owners(&uid, &namespace, &before, &owners, &mut work);
        }
        work
    }

    fn move_owners(
        &mut self,
        uid: &str,
        namespace: &str,
        before: &[OwnerReference],
        after: &[OwnerReference],
        work: &mut Vec<Work>,
    ) {
        for owner in before {
            let kept = after.iter().find(|other| other.uid == owner.uid);
            let Some(node) = self.nodes.get_mut(&owner.uid) else { continue };
            if kept.is_none() {
                node.dependents.remove(uid);
            }
            let unblocked =
                owner.block_owner_deletion == Some(true) && kept.is_none_or(|k| k.block_owner_deletion != Some(true));
            if unblocked && node.deleting_dependents {
                work.push(Work::Delete(owner.uid.clone()));
            }
            if kept.is_none() && node.is_virtual && node.dependents.is_empty() {
                self.nodes.remove(&owner.uid);
            }
        }
        for owner in after {
            let known = self.nodes.contains_key(&owner.uid);
            let node = self.nodes.entry(owner.uid.clone()).or_insert_with(|| Node {
                identity: Identity {
                    group: group_of(&owner.api_version).to_owned(),
                    kind: owner.kind.clone(),
                    namespace: namespace.to_owned(),
                    name: owner.name.clone(),
                    uid: owner.uid.clone(),
                },
                owners: Vec::new(),
                dependents: HashSet::new(),
                is_virtual: true,
                deleting: false,
                deleting_dependents: false,
                orphaning: false,
            });
            let added = node.dependents.insert(uid.to_owned());
            if !known {
                work.push(Work::Delete(owner.uid.clone()));
            }
            // A late dependent of an owner that waits for its dependents, or from another namespace.
            let foreign =
                !node.is_virtual && !node.identity.namespace.is_empty() && node.identity.namespace != namespace;
            if added && (node.deleting_dependents || foreign) {
                work.push(Work::Delete(uid.to_owned()));
            }
        }
    }

    /// The object does not exist (any more).
    pub(super) fn gone(&mut self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut work: Vec<Work> = node.dependents.iter().cloned().map(Work::Delete).collect();
        for owner in &node.owners {
            let Some(parent) = self.nodes.get_mut(&owner.uid) else { continue };
            parent.dependents.remove(uid);
            if parent.deleting_dependents {
                work.push(Work::Delete(owner.uid.clone()));
            } else if parent.is_virtual && parent.dependents.is_empty() {
                self.nodes.remove(&owner.uid);
            }
        }
        work
    }

    /// Dependents that hold up the foreground deletion of `uid`.
    pub(super) fn blockers(&self, uid: &str) -> Vec<&Node> {
        let Some(node) = self.nodes.get(uid) else { return Vec::new() };
        let blocks =
            |dependent: &&Node| dependent.owners.iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true));
        node.dependents.iter().filter_map(|d| self.nodes.get(d)).filter(blocks).collect()
    }
}

/// How an owner stands, seen from one of its dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Solid,
    /// Deleted in the foreground.
    Waiting,
    Absent,
}

/// What becomes of an object, by its owners.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Keep,
    /// Some owners are gone, others hold it: these references go.
    Unlink(Vec<String>),
    /// No owner holds it. `foreground`: an owner waits for it and it has dependents of its own.
    Delete {
        foreground: bool,
    },
}

pub(super) fn verdict(owners: &[(String, Owner)], has_dependents: bool) -> Verdict {
    if owners.is_empty() {
        return Verdict::Keep;
    }
    let of = |wanted: Owner| owners.iter().filter(move |(_, state)| *state == wanted);
    if of(Owner::Solid).next().is_some() {
        let loose: Vec<String> = of(Owner::Absent).chain(of(Owner::Waiting)).map(|(uid, _)| uid.clone()).collect();
        return if loose.is_empty() { Verdict::Keep } else { Verdict::Unlink(loose) };
    }
    Verdict::Delete { foreground: has_dependents && of(Owner::Waiting).next().is_some() }
}
