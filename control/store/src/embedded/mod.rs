//! The embedded store: one redb file, one writer, snapshots for readers, a hub for watchers.

mod apply;
mod compact;
mod database;
mod format;
mod hub;
mod lease;
mod read;
mod watch;
mod writer;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use redb::{ReadOnlyTable, ReadableDatabase, ReadableTableMetadata};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    Op, RangeRequest, RangeResponse, Store, StoreError, StoreStatus, TxnRequest, TxnResponse, Watch, WatchRequest,
};
use database::Handle;
use format::{HEADER, KEYS, LEASE_KEYS, LEASES, LOG, State};
use hub::Hub;
use lease::Leases;
use writer::{Command, Writer};

/// Sizes of the embedded store.
#[derive(Clone, Debug)]
pub struct Options {
    /// redb's page cache; the kernel's page cache stands behind it.
    pub cache_bytes: usize,
    /// Recent events kept in memory for watches that start in the past.
    pub ring_bytes: usize,
    /// Messages that a watcher may be behind before it is cut.
    pub watch_queue: usize,
    /// Writes that may wait for the writer; more wait outside.
    pub write_queue: usize,
    /// Largest request (keys and values), as etcd's `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// Changes in one transaction, as etcd's `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// Range reads that may block on the disk at a time.
    pub readers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            ring_bytes: 4 << 20,
            watch_queue: 1024,
            write_queue: 1024,
            max_request_bytes: 3 << 19,
            max_txn_ops: 128,
            readers: 16,
        }
    }
}

/// A [`Store`] in one file (or in memory), for one process.
pub struct Embedded {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    options: Options,
    handle: Arc<Handle>,
    hub: Arc<Hub>,
    leases: Arc<Leases>,
    next_watch: AtomicU64,
    readers: Semaphore,
    closed: CancellationToken,
}

impl Embedded {
    /// Opens the file at `path`, or makes it. Blocks on the disk; must be called inside a tokio
    /// runtime, in which leases expire.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let (handle, state) = Handle::open(path.as_ref(), options.cache_bytes)?;
        Self::start(handle, state, options)
    }

    /// The same store on memory; nothing of it outlives the process.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::in_memory_with(Options::default())
    }

    /// [`Embedded::in_memory`] with sizes.
    pub fn in_memory_with(options: Options) -> Result<Self, StoreError> {
        let (handle, state) = Handle::in_memory(options.cache_bytes)?;
        Self::start(handle, state, options)
    }

    fn start(handle: Handle, state: State, options: Options) -> Result<Self, StoreError> {
        let handle = Arc::new(handle);
        let hub = Arc::new(Hub::new(state.revision, state.compact_revision, options.ring_bytes));
        let leases = Arc::new(Leases::default());
        let known = handle.read(|txn, _| {
            let mut known = Vec::new();
            for entry in txn.open_table(LEASES)?.range::<i64>(..)? {
                let (id, ttl_s) = entry?;
                known.push((id.value(), ttl_s.value()));
            }
            Ok(Ok(known))
        })?;
        for (id, ttl_s) in known {
            leases.add(id, ttl_s);
        }
        let (commands, queue) = mpsc::channel(options.write_queue.max(1));
        let writer = Writer {
            handle: Arc::clone(&handle),
            hub: Arc::clone(&hub),
            leases: Arc::clone(&leases),
            state,
            queue,
            failed: None,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| StoreError::Io { path: handle.shown_path().to_owned(), source })?;
        let closed = CancellationToken::new();
        tokio::spawn(expire_leases(Arc::clone(&leases), commands.downgrade(), closed.clone()));
        let shared = Shared {
            readers: Semaphore::new(options.readers.max(1)),
            options,
            handle,
            hub,
            leases,
            next_watch: AtomicU64::new(1),
            closed,
        };
        Ok(Self { shared: Arc::new(shared), commands, writer: Mutex::new(Some(thread)) })
    }

    /// Finishes what was accepted, ends all watches and closes the file. Later calls answer `Closed`.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Close { reply }).await.is_ok() {
            // An error means that the writer ended by itself, which is as good.
            let _ = done.await;
        }
        self.shared.closed.cancel();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has answered already and only returns.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `work` off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // The semaphore is never closed; a bounded number of threads wait for the disk.
        let _permit = self.shared.readers.acquire().await.map_err(|_| StoreError::Closed)?;
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || work(&shared)).await.map_err(|_| StoreError::Closed)?
    }

    fn request_bytes(&self, request: &TxnRequest) -> Result<usize, StoreError> {
        let mut bytes = 0;
        for ops in [&request.success, &request.failure] {
            if ops.len() > self.shared.options.max_txn_ops {
                return Err(StoreError::Invalid { detail: "too many operations in one transaction" });
            }
            for op in ops {
                if let Op::Put { key, value, .. } = op {
                    bytes += key.len() + value.len();
                }
            }
        }
        let limit = self.shared.options.max_request_bytes;
        if bytes > limit {
            return Err(StoreError::TooLarge { size: bytes, limit });
        }
        Ok(bytes)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // The writer ends by itself once the last sender of its queue is gone.
        self.shared.closed.cancel();
    }
}

async fn expire_leases(leases: Arc<Leases>, commands: mpsc::WeakSender<Command>, closed: CancellationToken) {
    loop {
        let lease = tokio::select! {
            lease = leases.expired() => lease,
            () = closed.cancelled() => return,
        };
        let (reply, answer) = oneshot::channel();
        let Some(commands) = commands.upgrade() else { return };
        if commands.send(Command::Revoke { lease, reply }).await.is_err() {
            return;
        }
        drop(commands);
        match answer.await {
            Ok(Ok(()) | Err(StoreError::LeaseNotFound(_))) => {}
            Ok(Err(error)) => warn!(lease, %error, "an expired lease could not be ended yet"),
            Err(_) => return,
        }
    }
}

fn read_range(shared: &Shared, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
    shared.handle.read(|txn, state| {
        if let Err(error) = state.check_readable(request.revision) {
            return Ok(Err(error));
        }
        let (keys, log) = (txn.open_table(KEYS)?, txn.open_table(LOG)?);
        read::range(&keys, &log, request, state.revision).map(Ok)
    })
}

#[async_trait]
impl Store for Embedded {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        if request.range.end.is_none() {
            // A few page look-ups, nearly always in a cache: cheaper than a change of threads.
            return read_range(&self.shared, &request);
        }
        self.blocking(move |shared| read_range(shared, &request)).await
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError> {
        let bytes = self.request_bytes(&request)?;
        self.ask(|reply| Command::Txn { request, bytes, reply }).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<Watch, StoreError> {
        if self.shared.closed.is_cancelled() {
            return Err(StoreError::Closed);
        }
        Ok(watch::start(&self.shared, request))
    }

    async fn compact(&self, revision: i64) -> Result<(), StoreError> {
        self.ask(|reply| Command::Compact { revision, reply }).await
    }

    async fn lease_grant(&self, ttl_s: i64) -> Result<i64, StoreError> {
        if ttl_s <= 0 {
            return Err(StoreError::Invalid { detail: "a lease's time to live must be positive" });
        }
        self.ask(|reply| Command::Grant { ttl_s, reply }).await
    }

    async fn lease_keep_alive(&self, lease: i64) -> Result<i64, StoreError> {
        self.shared.leases.keep_alive(lease)
    }

    async fn lease_revoke(&self, lease: i64) -> Result<(), StoreError> {
        self.ask(|reply| Command::Revoke { lease, reply }).await
    }

    async fn status(&self) -> Result<StoreStatus, StoreError> {
        self.blocking(read_status).await
    }
}

fn read_status(shared: &Shared) -> Result<StoreStatus, StoreError> {
    let (state, in_use) = shared.handle.with(|database| {
        let txn = database.begin_read()?;
        let header = txn.open_table(HEADER)?;
        let state = State::load(&header)?;
        let in_use = in_use(&header)?
            + in_use(&txn.open_table(KEYS)?)?
            + in_use(&txn.open_table(LOG)?)?
            + in_use(&txn.open_table(LEASES)?)?
            + in_use(&txn.open_table(LEASE_KEYS)?)?;
        Ok((state, in_use))
    })?;
    let size_bytes = match shared.handle.path() {
        Some(path) => {
            let file = std::fs::metadata(path)
                .map_err(|source| StoreError::Io { path: shared.handle.shown_path().to_owned(), source })?;
            file.len()
        }
        None => in_use,
    };
    Ok(StoreStatus {
        revision: state.revision,
        compact_revision: state.compact_revision,
        keys: u64::try_from(state.keys).unwrap_or(0),
        size_bytes,
        size_in_use_bytes: in_use,
    })
}

fn in_use<K: redb::Key + 'static, V: redb::Value + 'static>(table: &ReadOnlyTable<K, V>) -> Result<u64, redb::Error> {
    let stats = table.stats()?;
    Ok(stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes())
}
