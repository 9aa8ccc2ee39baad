//! One transaction on the open tables of a redb write transaction.
//!
//! Everything that can refuse a request is checked before its first write, because several requests
//! share one redb transaction and a refused one must leave nothing behind.

use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};

use super::format::{HEADER, KEYS, KeyRow, LEASE_KEYS, LEASES, LOG, LogRecord, Position, State};
use super::read;
use crate::{Compare, KeyRange, KeyValue, Op, OpResponse, StoreError, TxnRequest, TxnResponse, WatchEvent};

/// Why a request did not happen.
pub(super) enum Refusal {
    /// This request alone is at fault.
    Rejected(StoreError),
    /// The file failed; the whole group fails.
    Fatal(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Refusal::Fatal(error.into())
    }
}

/// The tables of one write transaction, and the counters as it will leave them.
pub(super) struct Tables<'t> {
    header: Table<'t, &'static str, i64>,
    pub(super) keys: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) log: Table<'t, (i64, u32), &'static [u8]>,
    leases: Table<'t, i64, i64>,
    lease_keys: Table<'t, (i64, &'static [u8]), ()>,
    pub(super) state: State,
}

/// The changes of one revision, collected while it is written.
struct Revision {
    number: i64,
    events: Vec<WatchEvent>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(txn: &'t WriteTransaction, state: State) -> Result<Self, redb::Error> {
        Ok(Self {
            header: txn.open_table(HEADER)?,
            keys: txn.open_table(KEYS)?,
            log: txn.open_table(LOG)?,
            leases: txn.open_table(LEASES)?,
            lease_keys: txn.open_table(LEASE_KEYS)?,
            state,
        })
    }

    pub(super) fn save_state(&mut self) -> Result<(), redb::Error> {
        self.state.save(&mut self.header)
    }

    /// Runs `request`; the events are empty where nothing was written.
    pub(super) fn txn(&mut self, request: &TxnRequest) -> Result<(TxnResponse, Vec<WatchEvent>), Refusal> {
        let mut succeeded = true;
        for compare in &request.compare {
            succeeded &= self.holds(compare)?;
        }
        let ops = if succeeded { &request.success } else { &request.failure };
        self.check(ops)?;

        let mut revision = Revision { number: self.state.revision + 1, events: Vec::new() };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                Op::Put { key, value, lease } => OpResponse::Put { prev: self.put(&mut revision, key, value, *lease)? },
                Op::Delete { range } => OpResponse::Delete { deleted: self.delete_range(&mut revision, range)? },
                Op::Range(request) => {
                    let current = self.seen_revision(&revision);
                    OpResponse::Range(read::range(&self.keys, &self.log, request, current)?)
                }
            });
        }
        self.state.revision = self.seen_revision(&revision);
        let answer = TxnResponse { revision: self.state.revision, succeeded, responses };
        Ok((answer, revision.events))
    }

    fn seen_revision(&self, revision: &Revision) -> i64 {
        if revision.events.is_empty() { self.state.revision } else { revision.number }
    }

    fn holds(&self, compare: &Compare) -> Result<bool, redb::Error> {
        let row = |key: &Bytes| self.living(key);
        Ok(match compare {
            Compare::ModRevision(key, want) => row(key)?.map_or(0, |r| r.at.rev) == *want,
            Compare::CreateRevision(key, want) => row(key)?.map_or(0, |r| r.create_revision) == *want,
            Compare::Version(key, want) => row(key)?.map_or(0, |r| r.version) == *want,
            Compare::Value(key, want) => match row(key)? {
                Some(r) => read::value_at(&self.log, r.at)? == *want,
                None => false,
            },
        })
    }

    fn check(&self, ops: &[Op]) -> Result<(), Refusal> {
        let mut puts = Vec::new();
        for op in ops {
            match op {
                Op::Put { key, lease, .. } => {
                    if key.is_empty() {
                        return Err(Refusal::Rejected(StoreError::Invalid { detail: "empty key" }));
                    }
                    if *lease != 0 && self.leases.get(lease)?.is_none() {
                        return Err(Refusal::Rejected(StoreError::LeaseNotFound(*lease)));
                    }
                    puts.push(key);
                }
                Op::Range(request) => {
                    self.state.check_readable(request.revision).map_err(Refusal::Rejected)?;
                }
                Op::Delete { .. } => {}
            }
        }
        puts.sort_unstable();
        let put_twice = puts.windows(2).any(|pair| pair[0] == pair[1]);
        let put_and_deleted = ops.iter().any(|op| match op {
            Op::Delete { range } => puts.iter().any(|key| range.contains(key)),
            Op::Put { .. } | Op::Range(_) => false,
        });
        if put_twice || put_and_deleted {
            return Err(Refusal::Rejected(StoreError::Invalid { detail: "a key is written twice in one transaction" }));
        }
        Ok(())
    }

    fn row(&self, key: &[u8]) -> Result<Option<KeyRow>, redb::Error> {
        self.keys.get(key)?.map(|row| KeyRow::decode(row.value())).transpose()
    }

    fn living(&self, key: &[u8]) -> Result<Option<KeyRow>, redb::Error> {
        Ok(self.row(key)?.filter(|row| row.alive))
    }

    fn put(
        &mut self,
        revision: &mut Revision,
        key: &Bytes,
        value: &Bytes,
        lease: i64,
    ) -> Result<Option<KeyValue>, redb::Error> {
        let before = self.row(key)?;
        let living = before.filter(|row| row.alive);
        let prev = match living {
            Some(row) => Some(row.key_value(key, read::value_at(&self.log, row.at)?)),
            None => None,
        };
        let row = KeyRow {
            alive: true,
            at: revision.position(),
            create_revision: living.map_or(revision.number, |row| row.create_revision),
            version: living.map_or(0, |row| row.version) + 1,
            lease,
        };
        let record = LogRecord {
            delete: false,
            prev: before.map_or(Position::NONE, |row| row.at),
            create_revision: row.create_revision,
            version: row.version,
            lease,
            key,
            value,
        };
        self.log.insert((row.at.rev, row.at.sub), record.encode()?.as_slice())?;
        self.keys.insert(key.as_ref(), row.encode().as_slice())?;
        self.move_lease(key, living.map_or(0, |row| row.lease), lease)?;
        self.state.keys += i64::from(living.is_none());
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: row.create_revision,
            mod_revision: row.at.rev,
            version: row.version,
            lease,
        };
        revision.events.push(WatchEvent::Put { kv, prev: prev.clone() });
        Ok(prev)
    }

    fn move_lease(&mut self, key: &[u8], from: i64, to: i64) -> Result<(), redb::Error> {
        if from == to {
            return Ok(());
        }
        if from != 0 {
            self.lease_keys.remove((from, key))?;
        }
        if to != 0 {
            self.lease_keys.insert((to, key), ())?;
        }
        Ok(())
    }

    fn delete_range(&mut self, revision: &mut Revision, range: &KeyRange) -> Result<Vec<KeyValue>, redb::Error> {
        let Some(bounds) = read::bounds(range) else {
            return Ok(Vec::new());
        };
        let mut doomed = Vec::new();
        for entry in self.keys.range::<&[u8]>(bounds)? {
            let (key, row) = entry?;
            let row = KeyRow::decode(row.value())?;
            if row.alive {
                doomed.push((Bytes::copy_from_slice(key.value()), row));
            }
        }
        let mut deleted = Vec::with_capacity(doomed.len());
        for (key, row) in doomed {
            deleted.push(self.delete(revision, &key, row)?);
        }
        Ok(deleted)
    }

    fn delete(&mut self, revision: &mut Revision, key: &Bytes, row: KeyRow) -> Result<KeyValue, redb::Error> {
        let prev = row.key_value(key, read::value_at(&self.log, row.at)?);
        let at = revision.position();
        let record =
            LogRecord { delete: true, prev: row.at, create_revision: 0, version: 0, lease: 0, key, value: &[] };
        self.log.insert((at.rev, at.sub), record.encode()?.as_slice())?;
        let tombstone = KeyRow { alive: false, at, create_revision: 0, version: 0, lease: 0 };
        self.keys.insert(key.as_ref(), tombstone.encode().as_slice())?;
        self.move_lease(key, row.lease, 0)?;
        self.state.keys -= 1;
        let kv = record.key_value(at.rev);
        revision.events.push(WatchEvent::Delete { kv, prev: Some(prev.clone()) });
        Ok(prev)
    }

    pub(super) fn grant(&mut self, ttl_s: i64) -> Result<i64, Refusal> {
        let lease = self.state.next_lease;
        self.state.next_lease += 1;
        self.leases.insert(lease, ttl_s)?;
        Ok(lease)
    }

    /// Ends a lease: its keys go in one revision.
    pub(super) fn revoke(&mut self, lease: i64) -> Result<Vec<WatchEvent>, Refusal> {
        if self.leases.remove(lease)?.is_none() {
            return Err(Refusal::Rejected(StoreError::LeaseNotFound(lease)));
        }
        let mut keys = Vec::new();
        for entry in self.lease_keys.range((lease, &[][..])..(lease + 1, &[][..]))? {
            keys.push(Bytes::copy_from_slice(entry?.0.value().1));
        }
        let mut revision = Revision { number: self.state.revision + 1, events: Vec::new() };
        for key in keys {
            if let Some(row) = self.living(&key)? {
                self.delete(&mut revision, &key, row)?;
            }
        }
        self.state.revision = self.seen_revision(&revision);
        Ok(revision.events)
    }

    /// Marks history below `revision` as gone; [`super::compact`] takes it out of the file.
    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        if revision <= self.state.compact_revision {
            return Err(Refusal::Rejected(StoreError::Compacted {
                revision,
                compact_revision: self.state.compact_revision,
            }));
        }
        if revision > self.state.revision {
            return Err(Refusal::Rejected(StoreError::FutureRevision { revision, current: self.state.revision }));
        }
        self.state.compact_revision = revision;
        Ok(())
    }
}

impl Revision {
    fn position(&self) -> Position {
        // A transaction is bounded to far fewer changes than u32 holds.
        Position { rev: self.number, sub: u32::try_from(self.events.len()).unwrap_or(u32::MAX) }
    }
}
