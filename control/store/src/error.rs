//! What can go wrong with a store, in words for the one who has to mend it.

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("required revision {revision} has been compacted (compacted up to {compact_revision})")]
    Compacted { revision: i64, compact_revision: i64 },
    #[error("required revision {revision} is a future revision (store is at {current})")]
    FutureRevision { revision: i64, current: i64 },
    #[error("lease {0} not found")]
    LeaseNotFound(i64),
    #[error("no space left on the device of {path}; free some, and writes go on by themselves")]
    NoSpace { path: String },
    #[error("{path} is damaged ({detail}); restore it from a backup, or move it away to start with an empty store")]
    Corrupt { path: String, detail: String },
    #[error(
        "{path} was written by a newer version (format {found}, this program reads up to {supported}); start the newer orlop, or use another --data-dir"
    )]
    NewerFormat { path: String, found: u32, supported: u32 },
    #[error("{path} is in use by another process; stop it first, or use another --data-dir")]
    Locked { path: String },
    #[error("store I/O on {path}")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("request of {size} bytes is larger than the store takes ({limit} bytes)")]
    TooLarge { size: usize, limit: usize },
    #[error("invalid request: {detail}")]
    Invalid { detail: &'static str },
    #[error("the store is closed")]
    Closed,
}
