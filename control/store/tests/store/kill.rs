//! kill -9 under write load, 200 times: no acknowledged write is lost and no revision goes back.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use orlop_store::{Embedded, Options, Store, WatchEvent, WatchMessage};

use crate::support::{list, next, prefix, put, watch};

const KILLS: u64 = 200;
const WRITERS: usize = 24;
/// Tells a process of this test binary that it is the load.
const PATH_VARIABLE: &str = "ORLOP_STORE_TEST_LOAD";

/// An acknowledged write: its revision, and what was written.
type Acknowledged = BTreeMap<i64, (String, String)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut newest = 0;
    let mut total = 0;
    for round in 0..KILLS {
        // 10 to 89 ms: from before the file is open to well into the load.
        let acknowledged = run_and_kill(&path, 10 + (round * 37) % 80);
        total += acknowledged.len();
        let store = Embedded::open(&path, Options::default()).unwrap();
        let status = store.status().await.unwrap();
        assert!(status.revision >= newest, "round {round}: from {newest} back to {}", status.revision);
        if let Some((last, _)) = acknowledged.last_key_value() {
            assert!(status.revision >= *last, "round {round}: {last} was acknowledged, {status:?}");
        }
        let from = (newest + 1).max(status.compact_revision + 1);
        let found = history(&store, from, status.revision).await;
        for (revision, write) in acknowledged.range(from..) {
            assert_eq!(found.get(revision), Some(write), "round {round}: revision {revision}");
        }
        let missing = (from.max(2)..=status.revision).find(|r| !found.contains_key(r));
        assert_eq!(missing, None, "round {round}: a hole in the history");
        check_newest(&store, &found).await;
        newest = status.revision;
        store.close().await;
    }
    assert!(total > 2000, "only {total} writes were acknowledged; the test proved little");
}

/// Starts the load in a process of its own, kills it, and returns what it had acknowledged.
fn run_and_kill(path: &Path, after_ms: u64) -> Acknowledged {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::load_until_killed", "--nocapture", "--test-threads=1"])
        .env(PATH_VARIABLE, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        BufReader::new(stdout).read_to_end(&mut all).unwrap();
        String::from_utf8(all).unwrap()
    });
    std::thread::sleep(Duration::from_millis(after_ms));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut acknowledged = Acknowledged::new();
    let output = reader.join().unwrap();
    // Each line is one write to the pipe; the last may be cut.
    let whole = output.rsplit_once('\n').map_or("", |(lines, _)| lines);
    for line in whole.lines() {
        let mut words = line.split(' ');
        if words.next() == Some("ack") {
            let revision = words.next().unwrap().parse().unwrap();
            let write = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            acknowledged.insert(revision, write);
        }
    }
    acknowledged
}

async fn history(store: &Embedded, from: i64, to: i64) -> Acknowledged {
    let mut found = Acknowledged::new();
    let mut all = watch(store, prefix(""), from.max(1)).await;
    (all.progress)();
    loop {
        match next(&mut all).await {
            Some(WatchMessage::Events { events, .. }) => {
                for event in events {
                    let WatchEvent::Put { kv, .. } = event else { panic!("{event:?}") };
                    let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
                    found.insert(kv.mod_revision, (text(&kv.key), text(&kv.value)));
                }
            }
            Some(WatchMessage::Progress { revision }) if revision >= to => return found,
            other => panic!("{other:?}"),
        }
    }
}

/// The newest value of every key is the last one of the history.
async fn check_newest(store: &Embedded, history: &Acknowledged) {
    let mut newest = BTreeMap::new();
    for (key, value) in history.values() {
        newest.insert(key.clone(), value.clone());
    }
    let now = list(store, prefix(""), 0).await;
    for (key, value) in newest {
        assert!(now.contains(&format!("{key}={value}")), "{key}={value} is not in {now:?}");
    }
}

/// The process that [`run_and_kill`] kills; with no path to work on it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_until_killed() {
    let Some(path) = std::env::var_os(PATH_VARIABLE) else { return };
    let store: Arc<dyn Store> = Arc::new(Embedded::open(path, Options::default()).unwrap());
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.push(tokio::spawn(async move {
            for n in 0_u64.. {
                let (key, value) = (format!("w{writer}"), format!("{n}-{}", "v".repeat(writer * 40)));
                let revision = put(&*store, &key, &value).await;
                let line = format!("ack {revision} {key} {value}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                if revision % 400 == 0 {
                    // Compactions are killed half-way, too. Another writer's may be ahead.
                    let _ = store.compact(revision - 100).await;
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
}
