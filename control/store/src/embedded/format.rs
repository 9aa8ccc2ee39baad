//! The file's layout: its tables, the bytes of their rows, and the header that says which version wrote it.
//!
//! ```text
//! header       name          -> i64                       format, revision, compaction, counters
//! keys         key           -> KeyRow (fixed size)       where the newest record of a key is
//! log          (rev, sub)    -> LogRecord (key and value) every change, in order; the only copy of a value
//! leases       id            -> ttl in seconds
//! lease_keys   (id, key)     -> ()
//! ```
//! Each record points to the record of the same key before it, so a read at an older revision
//! walks back from `keys`. A deleted key keeps its row in `keys` until its deletion is compacted.

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition};

use crate::{KeyValue, StoreError};

/// Version of this layout. A file with a higher one is left alone.
pub(super) const FORMAT: i64 = 1;

pub(super) const HEADER: TableDefinition<'static, &str, i64> = TableDefinition::new("header");
pub(super) const KEYS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("keys");
pub(super) const LOG: TableDefinition<'static, (i64, u32), &[u8]> = TableDefinition::new("log");
pub(super) const LEASES: TableDefinition<'static, i64, i64> = TableDefinition::new("leases");
pub(super) const LEASE_KEYS: TableDefinition<'static, (i64, &[u8]), ()> = TableDefinition::new("lease_keys");

pub(super) const H_FORMAT: &str = "format";
const H_REVISION: &str = "revision";
const H_COMPACT: &str = "compact_revision";
const H_COMPACT_DONE: &str = "compact_done";
const H_NEXT_LEASE: &str = "next_lease";
const H_KEYS: &str = "keys";

/// The counters of the store; one copy in the header table, one with the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) revision: i64,
    /// History below this revision may not be read.
    pub(super) compact_revision: i64,
    /// History up to this revision was taken out of the file (the rest follows in steps).
    pub(super) compact_done: i64,
    pub(super) next_lease: i64,
    /// Living keys.
    pub(super) keys: i64,
}

impl State {
    /// etcd's empty store is at revision 1 as well.
    pub(super) const EMPTY: State = State { revision: 1, compact_revision: 0, compact_done: 0, next_lease: 1, keys: 0 };

    pub(super) fn load(header: &impl ReadableTable<&'static str, i64>) -> Result<State, redb::Error> {
        let get = |name| -> Result<i64, redb::Error> {
            header.get(name)?.map(|v| v.value()).ok_or_else(|| redb::Error::Corrupted(format!("header has no {name}")))
        };
        Ok(State {
            revision: get(H_REVISION)?,
            compact_revision: get(H_COMPACT)?,
            compact_done: get(H_COMPACT_DONE)?,
            next_lease: get(H_NEXT_LEASE)?,
            keys: get(H_KEYS)?,
        })
    }

    pub(super) fn save(&self, header: &mut redb::Table<'_, &'static str, i64>) -> Result<(), redb::Error> {
        header.insert(H_REVISION, self.revision)?;
        header.insert(H_COMPACT, self.compact_revision)?;
        header.insert(H_COMPACT_DONE, self.compact_done)?;
        header.insert(H_NEXT_LEASE, self.next_lease)?;
        header.insert(H_KEYS, self.keys)?;
        Ok(())
    }

    /// Whether `revision` (0: the newest) can be read.
    pub(super) fn check_readable(&self, revision: i64) -> Result<(), StoreError> {
        if revision > self.revision {
            return Err(StoreError::FutureRevision { revision, current: self.revision });
        }
        if revision > 0 && revision < self.compact_revision {
            return Err(StoreError::Compacted { revision, compact_revision: self.compact_revision });
        }
        Ok(())
    }
}

/// Where a record stands in the log; `rev` 0 is nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) rev: i64,
    /// Which change of that revision.
    pub(super) sub: u32,
}

impl Position {
    pub(super) const NONE: Position = Position { rev: 0, sub: 0 };
}

/// The newest known of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyRow {
    pub(super) alive: bool,
    pub(super) at: Position,
    pub(super) create_revision: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
}

/// Reads fixed-width little-endian fields off the front of a row.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], redb::Error> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(short_row)?;
        self.0 = rest;
        Ok(*head)
    }

    fn i64(&mut self) -> Result<i64, redb::Error> {
        self.take().map(i64::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, redb::Error> {
        self.take().map(u32::from_le_bytes)
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], redb::Error> {
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(short_row)?;
        self.0 = rest;
        Ok(head)
    }
}

fn short_row() -> redb::Error {
    redb::Error::Corrupted("a row is shorter than its fields".to_owned())
}

impl KeyRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(37);
        row.push(u8::from(self.alive));
        row.extend_from_slice(&self.at.rev.to_le_bytes());
        row.extend_from_slice(&self.at.sub.to_le_bytes());
        row.extend_from_slice(&self.create_revision.to_le_bytes());
        row.extend_from_slice(&self.version.to_le_bytes());
        row.extend_from_slice(&self.lease.to_le_bytes());
        row
    }

    pub(super) fn decode(row: &[u8]) -> Result<KeyRow, redb::Error> {
        let mut fields = Fields(row);
        let [alive] = fields.take()?;
        Ok(KeyRow {
            alive: alive != 0,
            at: Position { rev: fields.i64()?, sub: fields.u32()? },
            create_revision: fields.i64()?,
            version: fields.i64()?,
            lease: fields.i64()?,
        })
    }

    pub(super) fn key_value(&self, key: &[u8], value: Bytes) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key),
            value,
            create_revision: self.create_revision,
            mod_revision: self.at.rev,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// One change of one key, borrowed from its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogRecord<'a> {
    pub(super) delete: bool,
    /// The record of the same key before this one.
    pub(super) prev: Position,
    pub(super) create_revision: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl<'a> LogRecord<'a> {
    pub(super) fn encode(&self) -> Result<Vec<u8>, redb::Error> {
        let key_len = u32::try_from(self.key.len()).map_err(|_| redb::Error::ValueTooLarge(self.key.len()))?;
        let mut row = Vec::with_capacity(41 + self.key.len() + self.value.len());
        row.push(u8::from(self.delete));
        row.extend_from_slice(&self.prev.rev.to_le_bytes());
        row.extend_from_slice(&self.prev.sub.to_le_bytes());
        row.extend_from_slice(&self.create_revision.to_le_bytes());
        row.extend_from_slice(&self.version.to_le_bytes());
        row.extend_from_slice(&self.lease.to_le_bytes());
        row.extend_from_slice(&key_len.to_le_bytes());
        row.extend_from_slice(self.key);
        row.extend_from_slice(self.value);
        Ok(row)
    }

    pub(super) fn decode(row: &'a [u8]) -> Result<LogRecord<'a>, redb::Error> {
        let mut fields = Fields(row);
        let [delete] = fields.take()?;
        let prev = Position { rev: fields.i64()?, sub: fields.u32()? };
        let create_revision = fields.i64()?;
        let version = fields.i64()?;
        let lease = fields.i64()?;
        let key_len = usize::try_from(fields.u32()?).map_err(|_| short_row())?;
        Ok(LogRecord {
            delete: delete != 0,
            prev,
            create_revision,
            version,
            lease,
            key: fields.bytes(key_len)?,
            value: fields.0,
        })
    }

    pub(super) fn key_value(&self, mod_revision: i64) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(self.key),
            value: Bytes::copy_from_slice(self.value),
            create_revision: self.create_revision,
            mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}
