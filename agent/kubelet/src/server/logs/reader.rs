//! Reads a container's log from the place that was asked for, and goes on with what is appended.
//!
//! ```text
//! open ─► (tail: seek back N lines) ─► read ─► end of file ─► follow? ─► wait (inotify) ─► read …
//!                                                  │                       └─ rotated: go on with the new file
//!                                                  └─ container over: read once more, then stop
//! ```

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio::sync::mpsc;

use super::format::{Stream, parse};
use crate::server::log_request::{LogOptions, Streams};

const BLOCK: usize = 32 * 1024;
/// A line without an end is taken as one when it grows past this: memory stays bounded whatever is in the file.
const MAX_LINE: usize = 256 * 1024;
/// How often the container is looked at while nothing is written.
const LIVENESS_POLL: Duration = Duration::from_secs(1);

/// Opens a log; it must be a regular file, not a symlink or a pipe that somebody put there.
pub(super) async fn open(path: &Path) -> io::Result<File> {
    let file =
        File::options().read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW).open(path).await?;
    if !file.metadata().await?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the log is not a regular file"));
    }
    Ok(file)
}

/// One reading of one container's log.
pub(super) struct LogReader {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) options: LogOptions,
    pub(super) out: mpsc::Sender<Result<Bytes, io::Error>>,
}

impl LogReader {
    /// Runs to the end of the log, the limit, or the client. `is_over` says whether the container has ended.
    pub(super) async fn run(mut self, is_over: impl Fn() -> bool) -> io::Result<()> {
        if let Some(lines) = self.options.tail_lines {
            let start = tail_start(&mut self.file, lines).await?;
            self.file.seek(SeekFrom::Start(start)).await?;
        }
        let mut writer = Writer { options: self.options.clone(), out: self.out.clone(), sent: 0, at_line_start: true };
        let mut pending = BytesMut::new();
        // Watching starts before the first end of file, so that nothing slips in between.
        let mut changes = if self.options.follow { Some(Changes::watch(&self.path)?) } else { None };
        let mut last_round = false;
        loop {
            if !read_to_end(&mut self.file, &mut pending, &mut writer).await? {
                return Ok(());
            }
            let Some(changes) = &mut changes else { break };
            if let Some(next) = rotated(&self.path, &self.file).await? {
                // What came between the last read and the rotation.
                if !read_to_end(&mut self.file, &mut pending, &mut writer).await? {
                    return Ok(());
                }
                self.file = next;
                continue;
            }
            if last_round {
                break;
            }
            tokio::select! {
                () = changes.next() => {}
                () = self.out.closed() => return Ok(()),
                () = tokio::time::sleep(LIVENESS_POLL) => last_round = is_over(),
            }
        }
        if !pending.is_empty() {
            writer.line(&pending).await?;
        }
        writer.flush().await?;
        Ok(())
    }
}

/// Sends all whole lines up to the end of the file; false when the client or the limit wants no more.
async fn read_to_end(file: &mut File, pending: &mut BytesMut, writer: &mut Writer) -> io::Result<bool> {
    let mut block = vec![0; BLOCK];
    loop {
        let n = file.read(&mut block).await?;
        if n == 0 {
            return writer.flush().await.map(|()| true);
        }
        pending.extend_from_slice(block.get(..n).unwrap_or_default());
        let mut batch = BytesMut::new();
        while let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let line = pending.split_to(end + 1);
            if !writer.render(&line, &mut batch) {
                writer.send(batch).await;
                return Ok(false);
            }
        }
        if pending.len() > MAX_LINE {
            let line = pending.split();
            if !writer.render(&line, &mut batch) {
                writer.send(batch).await;
                return Ok(false);
            }
        }
        if !writer.send(batch).await {
            return Ok(false);
        }
    }
}

/// Turns entries into what the client sees, up to `limitBytes`.
struct Writer {
    options: LogOptions,
    out: mpsc::Sender<Result<Bytes, io::Error>>,
    sent: u64,
    at_line_start: bool,
}

impl Writer {
    /// Appends one entry; false when the limit is reached.
    fn render(&mut self, line: &[u8], batch: &mut BytesMut) -> bool {
        let Some(entry) = parse(line) else {
            // Not the runtime's: upstream passes over what it can't parse.
            return true;
        };
        let wanted = match self.options.streams {
            Streams::All => true,
            Streams::Stdout => entry.stream == Stream::Stdout,
            Streams::Stderr => entry.stream == Stream::Stderr,
        };
        let early = self.options.since.is_some_and(|since| entry.time().is_some_and(|at| at < since));
        if !wanted || early {
            return true;
        }
        let start = batch.len();
        if self.options.timestamps && self.at_line_start {
            batch.extend_from_slice(entry.time_text);
            batch.extend_from_slice(b" ");
        }
        batch.extend_from_slice(entry.text);
        if !entry.partial {
            batch.extend_from_slice(b"\n");
        }
        self.at_line_start = !entry.partial;
        let added = u64::try_from(batch.len() - start).unwrap_or(u64::MAX);
        if let Some(limit) = self.options.limit_bytes {
            let left = limit.saturating_sub(self.sent);
            if added >= left {
                batch.truncate(start + usize::try_from(left).unwrap_or(usize::MAX).min(batch.len() - start));
                self.sent = limit;
                return false;
            }
        }
        self.sent = self.sent.saturating_add(added);
        true
    }

    async fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let mut batch = BytesMut::new();
        self.render(line, &mut batch);
        self.send(batch).await;
        Ok(())
    }

    /// False when the client is gone.
    async fn send(&mut self, batch: BytesMut) -> bool {
        batch.is_empty() || self.out.send(Ok(batch.freeze())).await.is_ok()
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_closed() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone"));
        }
        Ok(())
    }
}

/// Where the last `lines` lines begin: reads backwards, block by block.
async fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let size = file.metadata().await?.len();
    if lines == 0 {
        return Ok(size);
    }
    let block = u64::try_from(BLOCK).unwrap_or(u64::MAX);
    let mut end = size;
    let mut found = 0;
    let mut buffer = vec![0; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(block);
        let length = usize::try_from(end - start).unwrap_or(BLOCK);
        file.seek(SeekFrom::Start(start)).await?;
        let part = buffer.get_mut(..length).unwrap_or_default();
        file.read_exact(part).await?;
        for (i, _) in part.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let after = start + u64::try_from(i).unwrap_or(0) + 1;
            // The newline at the very end closes the last line; it does not begin one.
            if after < size {
                found += 1;
                if found == lines {
                    return Ok(after);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// The file that stands at the path now, if it is another one than the open one.
async fn rotated(path: &Path, open_file: &File) -> io::Result<Option<File>> {
    let current = open_file.metadata().await?;
    match open(path).await {
        Ok(file) => {
            let new = file.metadata().await?;
            Ok(((new.dev(), new.ino()) != (current.dev(), current.ino())).then_some(file))
        }
        // Between the rename and the new file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Wakes on changes in the directory of the log: appends, and the new file of a rotation.
struct Changes {
    events: inotify::EventStream<Vec<u8>>,
}

impl Changes {
    fn watch(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        inotify.watches().add(dir, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO)?;
        Ok(Self { events: inotify.into_event_stream(vec![0; 4096])? })
    }

    async fn next(&mut self) {
        // A full queue or an error is a reason to look as well; the poll beside it bounds the pace.
        if !matches!(self.events.next().await, Some(Ok(_))) {
            std::future::pending::<()>().await;
        }
    }
}
