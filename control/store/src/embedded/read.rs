//! Reads on one redb snapshot: ranges at any kept revision, and the replay of the log for watches.
//! Generic over the table type, so that a transaction reads its own uncommitted rows with the same code.

use std::ops::Bound;

use bytes::Bytes;
use redb::ReadableTable;

use super::format::{KeyRow, LogRecord, Position};
use crate::{KeyRange, KeyValue, RangeRequest, RangeResponse, WatchEvent};

pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The range as bounds of the `keys` table; `None` where it can hold no key.
pub(super) fn bounds(range: &KeyRange) -> Option<Bounds<'_>> {
    let start = range.key.as_ref();
    match &range.end {
        None => Some((Bound::Included(start), Bound::Included(start))),
        Some(end) if end.is_empty() => Some((Bound::Included(start), Bound::Unbounded)),
        Some(end) if end.as_ref() <= start => None,
        Some(end) => Some((Bound::Included(start), Bound::Excluded(end.as_ref()))),
    }
}

/// `request` at its revision, which the caller has checked; `current` is the newest one.
pub(super) fn range(
    keys: &impl ReadableTable<&'static [u8], &'static [u8]>,
    log: &impl ReadableTable<(i64, u32), &'static [u8]>,
    request: &RangeRequest,
    current: i64,
) -> Result<RangeResponse, redb::Error> {
    let mut answer = RangeResponse { revision: current, ..RangeResponse::default() };
    let Some(bounds) = bounds(&request.range) else {
        return Ok(answer);
    };
    let at = if request.revision <= 0 { current } else { request.revision };
    for entry in keys.range::<&[u8]>(bounds)? {
        let (key, row) = entry?;
        let row = KeyRow::decode(row.value())?;
        let want_more = !request.count_only && (request.limit == 0 || answer.kvs.len() < request.limit);
        if row.at.rev <= at {
            if !row.alive {
                continue;
            }
            answer.count += 1;
            if want_more {
                let value = if request.keys_only { Bytes::new() } else { value_at(log, row.at)? };
                answer.kvs.push(row.key_value(key.value(), value));
            }
        } else if let Some(mut kv) = as_of(log, row.at, at)? {
            answer.count += 1;
            if want_more {
                if request.keys_only {
                    kv.value = Bytes::new();
                }
                answer.kvs.push(kv);
            }
        }
    }
    answer.more = !request.count_only && answer.count > answer.kvs.len();
    Ok(answer)
}

/// The value of a living key's newest record, which must exist.
pub(super) fn value_at(
    log: &impl ReadableTable<(i64, u32), &'static [u8]>,
    at: Position,
) -> Result<Bytes, redb::Error> {
    let row = log
        .get((at.rev, at.sub))?
        .ok_or_else(|| redb::Error::Corrupted(format!("the record of revision {} is missing", at.rev)))?;
    Ok(Bytes::copy_from_slice(LogRecord::decode(row.value())?.value))
}

/// Walks a key's records back from `newest` to the one that held at revision `at`.
fn as_of(
    log: &impl ReadableTable<(i64, u32), &'static [u8]>,
    newest: Position,
    at: i64,
) -> Result<Option<KeyValue>, redb::Error> {
    let mut position = newest;
    // Revisions fall strictly along the chain, so this ends.
    while position.rev > 0 {
        let Some(row) = log.get((position.rev, position.sub))? else {
            return Ok(None);
        };
        let record = LogRecord::decode(row.value())?;
        if position.rev <= at {
            return Ok((!record.delete).then(|| record.key_value(position.rev)));
        }
        if record.prev.rev >= position.rev {
            return Err(redb::Error::Corrupted("a record points forward".to_owned()));
        }
        position = record.prev;
    }
    Ok(None)
}

/// Part of the log, ready to be sent to one watcher.
pub(super) struct Replay {
    pub(super) events: Vec<WatchEvent>,
    /// Last revision of `events`.
    pub(super) revision: i64,
    /// Where the next part begins.
    pub(super) next: i64,
    /// Nothing was left in this snapshot.
    pub(super) end: bool,
}

/// Whole revisions from `from` on, until about `max_bytes` of events or `max_records` rows were read.
pub(super) fn replay(
    log: &impl ReadableTable<(i64, u32), &'static [u8]>,
    range: &KeyRange,
    prev_kv: bool,
    from: i64,
    current: i64,
    (max_records, max_bytes): (usize, usize),
) -> Result<Replay, redb::Error> {
    let mut part = Replay { events: Vec::new(), revision: 0, next: current + 1, end: true };
    let (mut records, mut bytes) = (0_usize, 0_usize);
    let mut last_rev = 0;
    for entry in log.range((from, 0)..)? {
        let (at, row) = entry?;
        let (rev, _) = at.value();
        if rev != last_rev && (records >= max_records || bytes >= max_bytes) {
            part.next = rev;
            part.end = false;
            break;
        }
        last_rev = rev;
        records += 1;
        let record = LogRecord::decode(row.value())?;
        if !range.contains(record.key) {
            continue;
        }
        bytes += record.key.len() + record.value.len();
        let kv = record.key_value(rev);
        let prev = if prev_kv { as_of(log, record.prev, rev)? } else { None };
        part.revision = rev;
        part.events.push(if record.delete { WatchEvent::Delete { kv, prev } } else { WatchEvent::Put { kv, prev } });
    }
    part.next = part.next.max(from);
    Ok(part)
}
