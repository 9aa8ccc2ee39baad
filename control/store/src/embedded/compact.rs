//! Takes compacted history out of the file in bounded steps, so that no write waits long behind it.
//!
//! A record goes when a later record of the same key, not newer than the compaction, points back to
//! it; a deletion goes once it lies below the compaction. So one pass over the records since the
//! last compaction is enough, and doing a part of it twice does no harm.

use bytes::Bytes;
use redb::ReadableTable;

use super::apply::Tables;
use super::format::{KeyRow, LogRecord, Position};

/// Records looked at per step.
const STEP: usize = 2000;

/// One step; the tables' state says how far it came.
pub(super) fn step(tables: &mut Tables<'_>) -> Result<(), redb::Error> {
    let target = tables.state.compact_revision;
    let mut superseded = Vec::new();
    let mut deletions: Vec<(Position, Bytes)> = Vec::new();
    let mut done = target;
    let mut last_rev = 0;
    let records = tables.log.range((tables.state.compact_done, 0)..(target + 1, 0))?;
    for (seen, entry) in records.enumerate() {
        let (at, row) = entry?;
        let (rev, sub) = at.value();
        if seen >= STEP && rev != last_rev {
            // This revision was not looked at; the next step begins with it.
            done = rev;
            break;
        }
        last_rev = rev;
        let record = LogRecord::decode(row.value())?;
        if record.prev != Position::NONE {
            superseded.push(record.prev);
        }
        // A deletion at the compacted revision itself still is what a watch from there must see.
        if record.delete && rev < target {
            deletions.push((Position { rev, sub }, Bytes::copy_from_slice(record.key)));
        }
    }
    for at in superseded {
        tables.log.remove((at.rev, at.sub))?;
    }
    for (at, key) in deletions {
        tables.log.remove((at.rev, at.sub))?;
        let newest = match tables.keys.get(key.as_ref())? {
            Some(row) => KeyRow::decode(row.value())?.at,
            None => continue,
        };
        if newest == at {
            tables.keys.remove(key.as_ref())?;
        }
    }
    tables.state.compact_done = done;
    Ok(())
}
