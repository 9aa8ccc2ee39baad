//! A full disk: writes are refused by name, reads go on, and writes go on once there is room.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use orlop_store::{Embedded, Options, Store, StoreError};

use crate::support::{list, prefix, put, put_op, write};

/// Mounts a file system of 3 MiB that only this thread (and those it starts) can see.
fn mount_tiny(at: &Path) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("size=3m"))
}

#[test]
#[allow(clippy::print_stderr, reason = "the reason of a skip is for whoever reads the test's output")]
fn a_full_disk_is_survived() {
    let worker = std::thread::spawn(|| {
        let dir = tempfile::tempdir().unwrap();
        if let Err(error) = mount_tiny(dir.path()) {
            assert!(std::env::var_os("CI").is_none(), "no private mount: {error}");
            eprintln!("SKIP a private tmpfs can't be mounted: {error}");
            return;
        }
        // Its threads are started from here, so they see the mount.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(fill_and_free(dir.path()));
        drop(runtime);
        nix::mount::umount(dir.path()).unwrap();
    });
    worker.join().unwrap();
}

async fn fill_and_free(dir: &Path) {
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let path = dir.join("store.redb");
    let store = Embedded::open(&path, Options::default()).unwrap();
    let value = "v".repeat(50_000);
    let mut written = 0;
    let mut newest = 0;
    let error = loop {
        match write(&store, vec![put_op(&format!("k{written:03}"), &value, 0)]).await {
            Ok(answer) => {
                written += 1;
                newest = answer.revision;
            }
            Err(error) => break error,
        }
        assert!(written < 100, "3 MiB took {written} values");
    };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert!(error.to_string().contains("store.redb"), "{error}");
    for _ in 0..3 {
        let again = write(&store, vec![put_op("again", &value, 0)]).await.unwrap_err();
        assert!(matches!(again, StoreError::NoSpace { .. }), "{again:?}");
        assert_eq!(list(&store, prefix("k"), 0).await.len(), written, "readable while full");
    }
    assert_eq!(store.status().await.unwrap().revision, newest);

    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(put(&store, "after", "room again").await, newest + 1);
    store.close().await;
    let store = Embedded::open(&path, Options::default()).unwrap();
    assert_eq!(list(&store, prefix("k"), 0).await.len(), written);
    assert_eq!(list(&store, prefix("after"), 0).await, ["after=room again"]);
    store.close().await;

    // No room to make a file at all: nothing half-made stays.
    std::fs::write(&ballast, vec![1; 4 << 20]).unwrap_err();
    let other = dir.join("other.redb");
    let Err(error) = Embedded::open(&other, Options::default()) else { panic!("opened on a full disk") };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 2, "the store and the ballast");
}
