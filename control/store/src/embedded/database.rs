//! The redb file behind the store: created whole, opened with clear refusals, reopened after a full disk.
//!
//! redb refuses all work after a failed write. A full disk is no reason to stay down: the file still
//! holds the last commit, so [`Handle::reopen`] closes it and opens it anew, between two readers.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::backends::InMemoryBackend;
use redb::{Database, ReadTransaction, ReadableDatabase, StorageError};

use super::format::{FORMAT, H_FORMAT, HEADER, KEYS, LEASE_KEYS, LEASES, LOG, State};
use crate::StoreError;

/// Why the file failed, in a form that every waiting request can be told.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    NoSpace,
    Corrupt(String),
    Io(io::ErrorKind, String),
}

impl Failure {
    pub(super) fn to_error(&self, path: &str) -> StoreError {
        let path = path.to_owned();
        match self {
            Failure::NoSpace => StoreError::NoSpace { path },
            Failure::Corrupt(detail) => StoreError::Corrupt { path, detail: detail.clone() },
            Failure::Io(kind, text) => StoreError::Io { path, source: io::Error::new(*kind, text.clone()) },
        }
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::NoSpace,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Failure::Corrupt(error.to_string()),
            kind => Failure::Io(kind, error.to_string()),
        }
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Failure::from(&error),
            redb::Error::PreviousIo => Failure::Io(io::ErrorKind::Other, "an earlier read or write failed".to_owned()),
            redb::Error::Corrupted(detail) => Failure::Corrupt(detail),
            other => Failure::Corrupt(other.to_string()),
        }
    }
}

/// The open database. Readers share it; reopening waits for them.
pub(super) struct Handle {
    path: Option<PathBuf>,
    shown_path: String,
    cache_bytes: usize,
    database: RwLock<Option<Database>>,
}

impl Handle {
    pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<(Self, State), StoreError> {
        let shown_path = path.display().to_string();
        let exists = std::fs::metadata(path).is_ok_and(|m| m.len() > 0);
        if !exists {
            create(path, cache_bytes).map_err(|failure| failure.to_error(&shown_path))?;
        }
        let (database, state) = open_file(path, &shown_path, cache_bytes)?;
        let handle =
            Self { path: Some(path.to_owned()), shown_path, cache_bytes, database: RwLock::new(Some(database)) };
        Ok((handle, state))
    }

    pub(super) fn in_memory(cache_bytes: usize) -> Result<(Self, State), StoreError> {
        let shown_path = "(memory)".to_owned();
        let database = guarded(|| {
            let database =
                Database::builder().set_cache_size(cache_bytes).create_with_backend(InMemoryBackend::new())?;
            initialize(&database)?;
            Ok(database)
        })
        .map_err(|failure| failure.to_error(&shown_path))?;
        let handle = Self { path: None, shown_path, cache_bytes, database: RwLock::new(Some(database)) };
        Ok((handle, State::EMPTY))
    }

    pub(super) fn shown_path(&self) -> &str {
        &self.shown_path
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Runs `work` on the database. Blocks on the disk.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(StoreError::Closed)?;
        guarded(|| work(database)).map_err(|failure| failure.to_error(&self.shown_path))
    }

    /// Runs `work` on a snapshot that holds only durable data. Blocks on the disk.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction, State) -> Result<Result<T, StoreError>, redb::Error>,
    ) -> Result<T, StoreError> {
        self.with(|database| {
            let txn = database.begin_read()?;
            let state = State::load(&txn.open_table(HEADER)?)?;
            work(&txn, state)
        })?
    }

    /// The writer's way in: failures stay in the form that a whole group can be told.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, Option<Failure>> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(None)?;
        guarded(|| work(database)).map_err(Some)
    }

    /// Closes the file and opens it as its last commit left it.
    pub(super) fn reopen(&self) -> Result<State, StoreError> {
        let Some(path) = &self.path else {
            return Err(StoreError::Closed);
        };
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The lock on the file must be free before it can be taken again.
        drop(database.take());
        let (fresh, state) = open_file(path, &self.shown_path, self.cache_bytes)?;
        *database = Some(fresh);
        Ok(state)
    }

    pub(super) fn close(&self) {
        drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// redb asserts on rows that a damaged file may hold; a panic of its is a damaged file to us.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(Failure::from),
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            Err(Failure::Corrupt(text))
        }
    }
}

/// Makes the file under another name first, so that a crash half-way leaves no file that is none.
fn create(path: &Path, cache_bytes: usize) -> Result<(), Failure> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let made = create_at(&temporary, cache_bytes).and_then(|()| {
        std::fs::rename(&temporary, path).map_err(|e| Failure::from(&e))?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all()).map_err(|e| Failure::from(&e))
    });
    if made.is_err() {
        // The first error is the one to tell; a file that was never made is no second one.
        let _ = std::fs::remove_file(&temporary);
    }
    made
}

fn create_at(path: &Path, cache_bytes: usize) -> Result<(), Failure> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| Failure::from(&e))?;
    guarded(|| {
        let database = Database::builder().set_cache_size(cache_bytes).create_file(file)?;
        initialize(&database)
    })
}

fn initialize(database: &Database) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    {
        let mut header = txn.open_table(HEADER)?;
        header.insert(H_FORMAT, FORMAT)?;
        State::EMPTY.save(&mut header)?;
        txn.open_table(KEYS)?;
        txn.open_table(LOG)?;
        txn.open_table(LEASES)?;
        txn.open_table(LEASE_KEYS)?;
    }
    txn.commit()?;
    Ok(())
}

fn open_file(path: &Path, shown: &str, cache_bytes: usize) -> Result<(Database, State), StoreError> {
    let io_error = |source| StoreError::Io { path: shown.to_owned(), source };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_error)?;
    let mode = file.metadata().map_err(io_error)?.permissions().mode();
    if mode & 0o077 != 0 {
        // The store holds every Secret of the cluster.
        file.set_permissions(Permissions::from_mode(0o600)).map_err(io_error)?;
    }
    let opened = catch_unwind(AssertUnwindSafe(|| Database::builder().set_cache_size(cache_bytes).create_file(file)));
    let database = match opened {
        Ok(Ok(database)) => database,
        Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => {
            return Err(StoreError::Locked { path: shown.to_owned() });
        }
        Ok(Err(redb::DatabaseError::Storage(StorageError::Io(error)))) => {
            return Err(Failure::from(&error).to_error(shown));
        }
        Ok(Err(other)) => {
            return Err(StoreError::Corrupt { path: shown.to_owned(), detail: other.to_string() });
        }
        Err(_) => {
            return Err(StoreError::Corrupt { path: shown.to_owned(), detail: "its pages make no sense".to_owned() });
        }
    };
    let state = guarded(|| {
        let txn = database.begin_read()?;
        let header = txn.open_table(HEADER)?;
        let format = header.get(H_FORMAT)?.map(|v| v.value());
        let format = format.ok_or_else(|| redb::Error::Corrupted("header has no format".to_owned()))?;
        if format > FORMAT {
            return Ok(Err(format));
        }
        State::load(&header).map(Ok)
    })
    .map_err(|failure| failure.to_error(shown))?;
    match state {
        Ok(state) => Ok((database, state)),
        Err(found) => Err(StoreError::NewerFormat {
            path: shown.to_owned(),
            found: u32::try_from(found).unwrap_or(u32::MAX),
            supported: u32::try_from(FORMAT).unwrap_or(u32::MAX),
        }),
    }
}
