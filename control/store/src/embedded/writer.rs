//! The one thread that writes: takes what is queued, writes it as one redb commit, publishes, answers.
//!
//! ```text
//! queue ─► group ─► apply each at its own revision ─► commit (fsync) ─► hub.publish ─► answers
//!                      └ refused: answered alone        └ failed: the whole group is refused
//! ```
//! While a commit waits for the disk the queue fills, so groups grow with the load by themselves.

use std::sync::Arc;

use redb::Database;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::apply::{Refusal, Tables};
use super::compact;
use super::database::{Failure, Handle};
use super::format::State;
use super::hub::{Hub, Revision};
use super::lease::Leases;
use crate::{StoreError, TxnRequest, TxnResponse, WatchEvent};

/// Requests in one commit.
const GROUP: usize = 512;
/// Bytes of values in one commit.
const GROUP_BYTES: usize = 8 << 20;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked for.
pub(super) enum Command {
    Txn { request: TxnRequest, bytes: usize, reply: Reply<TxnResponse> },
    Compact { revision: i64, reply: Reply<()> },
    Grant { ttl_s: i64, reply: Reply<i64> },
    Revoke { lease: i64, reply: Reply<()> },
    Close { reply: oneshot::Sender<()> },
}

/// A command with its outcome, held back until the commit.
enum Done {
    Txn(Reply<TxnResponse>, Result<TxnResponse, StoreError>),
    Compact(Reply<()>, Result<(), StoreError>),
    Grant(Reply<i64>, Result<i64, StoreError>, i64),
    Revoke(Reply<()>, Result<(), StoreError>, i64),
}

pub(super) struct Writer {
    pub(super) handle: Arc<Handle>,
    pub(super) hub: Arc<Hub>,
    pub(super) leases: Arc<Leases>,
    pub(super) state: State,
    pub(super) queue: mpsc::Receiver<Command>,
    /// Set where the disk failed in a way that more room does not mend: reads go on, writes don't.
    pub(super) failed: Option<Failure>,
}

/// What one redb transaction made.
struct Written {
    state: State,
    done: Vec<Done>,
    revisions: Vec<Revision>,
}

impl Writer {
    pub(super) fn run(mut self) {
        let mut closers = Vec::new();
        while closers.is_empty() {
            let compacting = self.failed.is_none() && self.state.compact_done < self.state.compact_revision;
            let first = if compacting {
                match self.queue.try_recv() {
                    Ok(command) => Some(command),
                    Err(mpsc::error::TryRecvError::Empty) => None,
                    Err(mpsc::error::TryRecvError::Disconnected) => break,
                }
            } else {
                match self.queue.blocking_recv() {
                    Some(command) => Some(command),
                    None => break,
                }
            };
            let group = self.gather(first, &mut closers);
            if !group.is_empty() {
                self.write(group);
            }
            if compacting {
                self.compact_step();
            }
        }
        self.queue.close();
        // Whoever got in before the queue closed is still answered.
        let mut rest = Vec::new();
        while let Ok(command) = self.queue.try_recv() {
            match command {
                Command::Close { reply } => closers.push(reply),
                other => rest.push(other),
            }
        }
        if !rest.is_empty() {
            self.write(rest);
        }
        self.hub.close();
        self.handle.close();
        for reply in closers {
            let _ = reply.send(());
        }
    }

    fn gather(&mut self, first: Option<Command>, closers: &mut Vec<oneshot::Sender<()>>) -> Vec<Command> {
        let mut group = Vec::new();
        let mut total = 0;
        let mut next = first;
        while let Some(command) = next {
            match command {
                Command::Close { reply } => closers.push(reply),
                other => {
                    if let Command::Txn { bytes, .. } = &other {
                        total += bytes;
                    }
                    group.push(other);
                }
            }
            if group.len() >= GROUP || total >= GROUP_BYTES || !closers.is_empty() {
                break;
            }
            next = self.queue.try_recv().ok();
        }
        group
    }

    fn write(&mut self, group: Vec<Command>) {
        if let Some(failure) = self.failed.clone() {
            return self.refuse(group, &failure);
        }
        self.hub.begin_commit();
        let mut slot = Some(group);
        let before = self.state;
        let result = self.handle.write(|database| write_group(database, before, &mut slot));
        match result {
            Ok(written) => {
                self.state = written.state;
                self.hub.publish(written.revisions, written.state.compact_revision);
                self.answer(written.done);
            }
            Err(failure) => {
                self.hub.publish(Vec::new(), before.compact_revision);
                // `write_group` gives the group back before it touches the file's commit.
                let group = slot.take().unwrap_or_default();
                match failure {
                    Some(failure) => {
                        self.recover(&failure);
                        self.refuse(group, &failure);
                    }
                    None => drop(group),
                }
            }
        }
    }

    /// After a failed write: the file as its last commit left it.
    fn recover(&mut self, failure: &Failure) {
        let path = self.handle.shown_path();
        match failure {
            Failure::NoSpace => warn!(path, "no space left; the store is readable, writes are refused"),
            other => {
                error!(path, failure = ?other, "writing failed; the store refuses writes until restarted");
                self.failed = Some(other.clone());
            }
        }
        match self.handle.reopen() {
            Ok(state) => {
                self.state = state;
                self.hub.restart_at(state.revision, state.compact_revision);
            }
            Err(error) => {
                error!(path, %error, "the store could not be opened again");
                self.failed = Some(failure.clone());
            }
        }
    }

    fn refuse(&self, group: Vec<Command>, failure: &Failure) {
        let error = || failure.to_error(self.handle.shown_path());
        for command in group {
            // A requester that went away needs no answer.
            match command {
                Command::Txn { reply, .. } => drop(reply.send(Err(error()))),
                Command::Compact { reply, .. } | Command::Revoke { reply, .. } => {
                    drop(reply.send(Err(error())));
                }
                Command::Grant { reply, .. } => drop(reply.send(Err(error()))),
                Command::Close { reply } => drop(reply.send(())),
            }
        }
    }

    fn answer(&self, done: Vec<Done>) {
        for outcome in done {
            match outcome {
                Done::Txn(reply, result) => drop(reply.send(result)),
                Done::Compact(reply, result) => drop(reply.send(result)),
                Done::Grant(reply, result, ttl_s) => {
                    if let Ok(lease) = &result {
                        self.leases.add(*lease, ttl_s);
                    }
                    drop(reply.send(result));
                }
                Done::Revoke(reply, result, lease) => {
                    if !matches!(result, Err(StoreError::NoSpace { .. })) {
                        self.leases.remove(lease);
                    }
                    drop(reply.send(result));
                }
            }
        }
    }

    fn compact_step(&mut self) {
        let before = self.state;
        let result = self.handle.write(|database| {
            let txn = database.begin_write()?;
            let mut tables = Tables::open(&txn, before)?;
            compact::step(&mut tables)?;
            tables.save_state()?;
            let state = tables.state;
            drop(tables);
            txn.commit()?;
            Ok(state)
        });
        match result {
            Ok(state) => {
                self.state = state;
                if state.compact_done >= state.compact_revision {
                    info!(revision = state.compact_revision, "compacted");
                }
            }
            Err(Some(failure)) => {
                self.recover(&failure);
                // Not again at once on a full disk: the next compaction takes it up.
                self.state.compact_done = self.state.compact_revision;
            }
            Err(None) => self.state.compact_done = self.state.compact_revision,
        }
    }
}

/// Applies and commits a group. Until success the commands stay in (or go back to) `slot`.
fn write_group(database: &Database, before: State, slot: &mut Option<Vec<Command>>) -> Result<Written, redb::Error> {
    let txn = database.begin_write()?;
    let mut tables = Tables::open(&txn, before)?;
    let mut outcomes = Vec::new();
    let mut revisions = Vec::new();
    for command in slot.iter().flatten() {
        outcomes.push(apply_one(&mut tables, command, &mut revisions)?);
    }
    let state = tables.state;
    let changed = state != before;
    if changed {
        tables.save_state()?;
    }
    drop(tables);
    if changed {
        txn.commit()?;
    } else {
        txn.abort()?;
    }
    let done = slot.take().into_iter().flatten().zip(outcomes).filter_map(pair).collect();
    Ok(Written { state, done, revisions })
}

/// What came of one command, before it is joined with whoever waits for it.
enum Outcome {
    Txn(TxnResponse),
    Granted(i64),
    Done,
    Refused(StoreError),
}

fn apply_one(
    tables: &mut Tables<'_>,
    command: &Command,
    revisions: &mut Vec<Revision>,
) -> Result<Outcome, redb::Error> {
    let mut publish = |number, events: Vec<WatchEvent>| {
        if !events.is_empty() {
            revisions.push(Revision { number, events });
        }
    };
    let result = match command {
        Command::Txn { request, .. } => tables.txn(request).map(|(response, events)| {
            publish(response.revision, events);
            Outcome::Txn(response)
        }),
        Command::Compact { revision, .. } => tables.compact(*revision).map(|()| Outcome::Done),
        Command::Grant { ttl_s, .. } => tables.grant(*ttl_s).map(Outcome::Granted),
        Command::Revoke { lease, .. } => tables.revoke(*lease).map(|events| {
            publish(tables.state.revision, events);
            Outcome::Done
        }),
        Command::Close { .. } => Ok(Outcome::Done),
    };
    match result {
        Ok(outcome) => Ok(outcome),
        Err(Refusal::Rejected(error)) => Ok(Outcome::Refused(error)),
        Err(Refusal::Fatal(error)) => Err(error),
    }
}

fn pair((command, outcome): (Command, Outcome)) -> Option<Done> {
    Some(match (command, outcome) {
        (Command::Txn { reply, .. }, Outcome::Txn(response)) => Done::Txn(reply, Ok(response)),
        (Command::Txn { reply, .. }, Outcome::Refused(error)) => Done::Txn(reply, Err(error)),
        (Command::Compact { reply, .. }, Outcome::Done) => Done::Compact(reply, Ok(())),
        (Command::Compact { reply, .. }, Outcome::Refused(error)) => Done::Compact(reply, Err(error)),
        (Command::Grant { reply, ttl_s }, Outcome::Granted(lease)) => Done::Grant(reply, Ok(lease), ttl_s),
        (Command::Grant { reply, ttl_s }, Outcome::Refused(error)) => Done::Grant(reply, Err(error), ttl_s),
        (Command::Revoke { reply, lease }, Outcome::Done) => Done::Revoke(reply, Ok(()), lease),
        (Command::Revoke { reply, lease }, Outcome::Refused(error)) => Done::Revoke(reply, Err(error), lease),
        // `apply_one` answers each command in its own kind.
        _ => return None,
    })
}
