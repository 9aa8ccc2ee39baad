//! Reading real files, as a runtime writes and rotates them.

use super::*;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LOG: &str = "2024-01-01T00:00:01.000000001Z stdout F one\n\
    2024-01-01T00:00:02Z stderr F two\n\
    2024-01-01T00:00:03Z stdout P thr\n\
    2024-01-01T00:00:03Z stdout F ee\n\
    garbage\n\
    2024-01-01T00:00:04Z stdout F four\n";

async fn read(path: &Path, query: &str) -> String {
    let options = LogOptions::parse(query, Timestamp::from_second(0).unwrap()).unwrap();
    let (out, mut chunks) = mpsc::channel(8);
    let reader = reader::LogReader { path: path.to_owned(), file: reader::open(path).await.unwrap(), options, out };
    let reading = tokio::spawn(reader.run(|| true));
    let mut all = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    reading.await.unwrap().unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn options_select_what_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    std::fs::write(&path, LOG).unwrap();
    for (query, want) in [
        ("", "one\ntwo\nthree\nfour\n"),
        ("tailLines=1", "four\n"),
        ("tailLines=0", ""),
        ("tailLines=100", "one\ntwo\nthree\nfour\n"),
        ("stream=Stderr", "two\n"),
        ("limitBytes=6", "one\ntw"),
        ("limitBytes=4", "one\n"),
        ("sinceTime=2024-01-01T00:00:02Z", "two\nthree\nfour\n"),
        ("sinceTime=2030-01-01T00:00:00Z", ""),
        ("timestamps=true&tailLines=4", "2024-01-01T00:00:03Z three\n2024-01-01T00:00:04Z four\n"),
    ] {
        assert_eq!(read(&path, query).await, want, "{query}");
    }
}

#[tokio::test]
async fn a_tail_is_found_across_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut file = std::fs::File::create(&path).unwrap();
    for i in 0..5000 {
        writeln!(file, "2024-01-01T00:00:01Z stdout F line {i}").unwrap();
    }
    let tail = read(&path, "tailLines=3000").await;
    assert_eq!(tail.lines().count(), 3000);
    assert!(tail.starts_with("line 2000\n") && tail.ends_with("line 4999\n"));
}

#[tokio::test]
async fn following_survives_rotation_and_ends_with_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    std::fs::write(&path, "2024-01-01T00:00:01Z stdout F a\n").unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let options = LogOptions::parse("follow=true", Timestamp::now()).unwrap();
    let (out, mut chunks) = mpsc::channel(8);
    let reader = reader::LogReader { path: path.clone(), file: reader::open(&path).await.unwrap(), options, out };
    let ended = Arc::clone(&over);
    let reading = tokio::spawn(reader.run(move || ended.load(Ordering::Relaxed)));
    let mut seen = String::new();
    let mut until = async |want: &str| {
        while seen != want {
            let chunk = tokio::time::timeout(Duration::from_secs(20), chunks.recv()).await;
            match chunk {
                Ok(Some(chunk)) => seen.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap()),
                other => panic!("wanted {want:?}, have {seen:?}, then {other:?}"),
            }
        }
    };
    until("a\n").await;
    let append = |text: &str| {
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append("2024-01-01T00:00:02Z stdout F b\n2024-01-01T00:00:02Z std");
    until("a\nb\n").await;
    append("out F c\n");
    until("a\nb\nc\n").await;
    append("2024-01-01T00:00:02Z stdout F d\n");
    std::fs::rename(&path, dir.path().join("0.log.20240101-000000")).unwrap();
    std::fs::write(&path, "2024-01-01T00:00:03Z stdout F e\n").unwrap();
    until("a\nb\nc\nd\ne\n").await;
    append("2024-01-01T00:00:04Z stdout F last\n");
    over.store(true, Ordering::Relaxed);
    until("a\nb\nc\nd\ne\nlast\n").await;
    reading.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_symlink_in_place_of_a_log_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(reader::open(&path).await.is_err());
    assert!(reader::open(dir.path()).await.is_err());
}

#[test]
fn there_has_to_be_something_to_read() {
    let pod = |state: &str, last: &str| -> Pod {
        let state: serde_json::Value = serde_json::from_str(state).unwrap();
        let last: serde_json::Value = serde_json::from_str(last).unwrap();
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "p" },
            "spec": { "containers": [{ "name": "c" }] },
            "status": { "containerStatuses": [{ "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": state, "lastState": last }] },
        }))
        .unwrap()
    };
    let running = r#"{"running":{}}"#;
    let over = r#"{"terminated":{"exitCode":1}}"#;
    let creating = r#"{"waiting":{"reason":"ContainerCreating"}}"#;
    assert!(has_container(&pod(running, "{}"), "c") && !has_container(&pod(running, "{}"), "x"));
    assert_eq!(check_status(&pod(running, "{}"), "c", false), Ok(()));
    assert_eq!(check_status(&pod(over, "{}"), "c", false), Ok(()));
    assert_eq!(check_status(&pod(creating, over), "c", false), Ok(()));
    assert_eq!(
        check_status(&pod(creating, "{}"), "c", false).unwrap_err(),
        "container \"c\" in pod \"p\" is waiting to start: ContainerCreating"
    );
    assert_eq!(check_status(&pod(running, over), "c", true), Ok(()));
    assert_eq!(
        check_status(&pod(running, "{}"), "c", true).unwrap_err(),
        "previous terminated container \"c\" in pod \"p\" not found"
    );
}
