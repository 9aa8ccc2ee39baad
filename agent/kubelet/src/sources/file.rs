//! The manifests directory (or one file) as a source: inotify tells when to look, a rescan audits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::SourceState;
use super::manifest;
use crate::pod::PodExt;

/// A burst of changes is read once.
const SETTLE: Duration = Duration::from_millis(50);
/// Files read of one directory.
const MAX_FILES: usize = 10_000;

#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
    #[error("is larger than {} bytes", manifest::MAX_BYTES)]
    TooLarge,
    #[error("is not a regular file")]
    NotAFile,
    #[error("is not UTF-8 text")]
    NotText,
    #[error("is a link to a file that is not there")]
    Dangling,
    #[error("pod {0} is already defined by another manifest")]
    Duplicate(String),
}

/// What is remembered of a file between looks.
#[derive(Clone, Debug, Default)]
struct Known {
    content: Arc<str>,
    /// `None`: the content is not a pod.
    pod: Option<Arc<Pod>>,
    /// What was said about it last: each problem is told once, not at every look.
    problem: Option<String>,
}

/// Publishes the pods of `path`, until `shutdown`.
pub async fn run(
    path: PathBuf,
    node_name: String,
    rescan: Duration,
    state: watch::Sender<SourceState>,
    shutdown: CancellationToken,
) {
    let mut known: BTreeMap<PathBuf, Known> = BTreeMap::new();
    let mut events = subscribe(&path);
    loop {
        let (look_at, node) = (path.clone(), node_name.clone());
        let before = known.clone();
        // Reading files blocks.
        if let Ok((pods, now)) = tokio::task::spawn_blocking(move || look(&look_at, &node, before)).await {
            known = now;
            if let Some(pods) = pods {
                state.send_replace(SourceState { synced: true, pods });
            }
        }
        if events.is_none() {
            events = subscribe(&path);
        }
        let event = async {
            match events.as_mut() {
                Some(stream) => stream.next().await.is_some_and(|event| event.is_ok()),
                None => std::future::pending().await,
            }
        };
        let flows = tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(rescan) => true,
            flows = event => {
                tokio::time::sleep(SETTLE).await;
                flows
            }
        };
        if !flows || !path.exists() {
            events = None;
        }
    }
}

type Events = std::pin::Pin<Box<dyn futures::Stream<Item = std::io::Result<inotify::EventOwned>> + Send>>;

fn subscribe(path: &Path) -> Option<Events> {
    // A single file is watched by its directory: editors replace files.
    let dir = if path.is_dir() { path } else { path.parent()? };
    let inotify = Inotify::init().ok()?;
    let mask = WatchMask::CREATE
        | WatchMask::CLOSE_WRITE
        | WatchMask::DELETE
        | WatchMask::MOVED_FROM
        | WatchMask::MOVED_TO
        | WatchMask::DELETE_SELF
        | WatchMask::ATTRIB;
    if let Err(error) = inotify.watches().add(dir, mask) {
        tracing::debug!(dir = %dir.display(), %error, "cannot watch the manifests; rescanning only");
        return None;
    }
    Some(Box::pin(inotify.into_event_stream(vec![0; 4096]).ok()?))
}

/// All pods, and what to remember. `None`: the directory can't be read now, the last set stays.
fn look(
    path: &Path,
    node_name: &str,
    mut before: BTreeMap<PathBuf, Known>,
) -> (Option<Vec<Arc<Pod>>>, BTreeMap<PathBuf, Known>) {
    let files = match list(path) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), "static pod path does not exist, ignoring");
            Vec::new()
        }
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "cannot read the static pod path; static pods stay as they are");
            return (None, before);
        }
    };
    let mut now = BTreeMap::new();
    let mut pods: Vec<Arc<Pod>> = Vec::new();
    for file in files {
        let last = before.remove(&file);
        let (mut known, error) = match read(&file, node_name, last.as_ref()) {
            Ok(known) => (known, None),
            Err(FileError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                if std::fs::symlink_metadata(&file).is_err() {
                    // Gone between the listing and the look.
                    continue;
                }
                (Known::default(), Some(FileError::Dangling))
            }
            Err(error) => (Known::default(), Some(error)),
        };
        let problem = match (error, &known.pod) {
            (Some(error), _) => Some(error.to_string()),
            (None, Some(pod)) if pods.iter().any(|have| have.key() == pod.key()) => {
                Some(FileError::Duplicate(pod.key()).to_string())
            }
            (None, Some(pod)) => {
                pods.push(Arc::clone(pod));
                None
            }
            (None, None) => known.problem.take(),
        };
        if let Some(text) = &problem
            && last.and_then(|last| last.problem).as_ref() != Some(text)
        {
            tracing::error!("static pod manifest {}: {text}", file.display());
        }
        known.problem = problem;
        now.insert(file, known);
    }
    (Some(pods), now)
}

fn list(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)?.take(MAX_FILES) {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path, node_name: &str, last: Option<&Known>) -> Result<Known, FileError> {
    use std::io::Read as _;
    let metadata = std::fs::metadata(file)?;
    if !metadata.is_file() {
        if metadata.is_dir() {
            // Directories are passed over in silence, as upstream does.
            return Ok(Known::default());
        }
        return Err(FileError::NotAFile);
    }
    let limit = u64::try_from(manifest::MAX_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() > manifest::MAX_BYTES {
        return Err(FileError::TooLarge);
    }
    let content = String::from_utf8(bytes).map_err(|_| FileError::NotText)?;
    if let Some(last) = last
        && *last.content == content
    {
        return Ok(last.clone());
    }
    let mut warnings = Vec::new();
    let result = manifest::parse(&content, "file", &file.to_string_lossy(), node_name, &mut warnings);
    for warning in warnings {
        tracing::warn!("static pod manifest {}: {warning}", file.display());
    }
    let content = content.into();
    Ok(match result {
        Ok(pod) => {
            tracing::info!(file = %file.display(), pod = pod.format(), "static pod manifest read");
            Known { content, pod: Some(Arc::new(pod)), problem: None }
        }
        Err(error) => Known { content, pod: None, problem: Some(error.to_string()) },
    })
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
