//! Sets of endpoints in the kernel: who uses which, and which number is next.
//!
//! Frontends with the same endpoints share a set. A set is never changed: new endpoints are a new set, and
//! the old one goes when nobody uses it and no running program can still be reading it.

use std::collections::HashMap;
use std::sync::Arc;

use orlop_abi::maps::Group;
use orlop_proxy::state::Endpoint;

/// What makes two sets the same in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    pub(crate) endpoints: Arc<[Endpoint]>,
    /// Membership entries are there too, for session affinity.
    pub(crate) members: bool,
}

#[derive(Debug)]
struct Entry {
    content: Content,
    uses: u32,
}

/// The sets that this agent knows to be in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    last_id: u32,
    by_id: HashMap<u32, Entry>,
    by_content: HashMap<Content, u32>,
}

/// What [`Groups::acquire`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// It is in the kernel.
    Shared(Group),
    /// It has to be written before anything leads to it.
    New(Group),
}

impl Groups {
    /// A set with this content, one use more.
    pub(crate) fn acquire(&mut self, content: Content) -> Acquired {
        let count = u32::try_from(content.endpoints.len()).unwrap_or(u32::MAX);
        if count == 0 {
            // No set is needed to say "nothing"; 0 is never a set's number.
            return Acquired::Shared(Group { id: 0, count: 0 });
        }
        if let Some(&id) = self.by_content.get(&content)
            && let Some(entry) = self.by_id.get_mut(&id)
        {
            entry.uses += 1;
            return Acquired::Shared(Group { id, count });
        }
        let id = self.next_id();
        self.by_content.insert(content.clone(), id);
        self.by_id.insert(id, Entry { content, uses: 1 });
        Acquired::New(Group { id, count })
    }

    /// Notes a use of a set that was found in the kernel.
    pub(crate) fn adopt(&mut self, id: u32, content: &Content) {
        if id == 0 {
            return;
        }
        self.last_id = self.last_id.max(id);
        let entry = self.by_id.entry(id).or_insert_with(|| Entry { content: content.clone(), uses: 0 });
        entry.uses += 1;
        self.by_content.entry(content.clone()).or_insert(id);
    }

    /// Keeps a number from being given out while entries of it may still be in the kernel.
    pub(crate) fn reserve(&mut self, id: u32) {
        self.last_id = self.last_id.max(id);
    }

    /// One use less; the content when that was the last.
    pub(crate) fn release(&mut self, id: u32) -> Option<Content> {
        let entry = self.by_id.get_mut(&id)?;
        entry.uses -= 1;
        if entry.uses > 0 {
            return None;
        }
        let entry = self.by_id.remove(&id)?;
        if self.by_content.get(&entry.content) == Some(&id) {
            self.by_content.remove(&entry.content);
        }
        Some(entry.content)
    }

    /// The endpoints of a set.
    pub(crate) fn endpoints(&self, id: u32) -> Option<&Arc<[Endpoint]>> {
        self.by_id.get(&id).map(|entry| &entry.content.endpoints)
    }

    fn next_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if self.last_id != 0 && !self.by_id.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(ports: &[u16]) -> Content {
        let endpoint = |&port| Endpoint { ip: "10.0.0.1".parse().unwrap(), port, local: true };
        Content { endpoints: ports.iter().map(endpoint).collect(), members: false }
    }

    #[test]
    fn equal_content_is_shared_until_its_last_use() {
        let mut groups = Groups::default();
        let Acquired::New(first) = groups.acquire(content(&[1, 2])) else { panic!("must be new") };
        assert_eq!(groups.acquire(content(&[1, 2])), Acquired::Shared(first));
        assert_eq!(groups.release(first.id), None);
        assert_eq!(groups.release(first.id), Some(content(&[1, 2])));
        // Its number is not reused while a program may still hold the old one.
        let Acquired::New(second) = groups.acquire(content(&[1, 2])) else { panic!("must be new") };
        assert_ne!(second.id, first.id);
    }

    #[test]
    fn no_endpoints_need_no_set() {
        let mut groups = Groups::default();
        assert_eq!(groups.acquire(content(&[])), Acquired::Shared(Group { id: 0, count: 0 }));
        assert_eq!(groups.release(0), None);
    }

    #[test]
    fn adopted_numbers_are_not_given_out() {
        let mut groups = Groups::default();
        groups.adopt(7, &content(&[1]));
        assert_eq!(groups.acquire(content(&[1])), Acquired::Shared(Group { id: 7, count: 1 }));
        assert_eq!(groups.acquire(content(&[2])), Acquired::New(Group { id: 8, count: 1 }));
    }
}
