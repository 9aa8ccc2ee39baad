//! The directory as a source: files come, change, break and go.

use super::*;

const GOOD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec:\n  containers:\n  - {name: a, image: busybox}\n";

async fn until(state: &mut watch::Receiver<SourceState>, what: &str, wanted: &[&str]) {
    let names = |state: &SourceState| state.pods.iter().map(|p| p.name_str().to_owned()).collect::<Vec<_>>();
    let wait = state.wait_for(|state| state.synced && names(state) == wanted);
    if tokio::time::timeout(Duration::from_secs(10), wait).await.is_err() {
        panic!("{what}: wanted {wanted:?}, last seen {:?}", names(&state.borrow()));
    }
}

#[tokio::test]
async fn follows_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(".hidden.yaml", &GOOD.replace("NAME", "hidden"));
    write("bad.yaml", "apiVersion: v1\nkind: [");
    write("a.yaml", &GOOD.replace("NAME", "a"));
    let (sender, mut state) = watch::channel(SourceState::default());
    let shutdown = CancellationToken::new();
    let task =
        tokio::spawn(run(dir.path().to_owned(), "n".into(), Duration::from_secs(3600), sender, shutdown.clone()));
    until(&mut state, "start", &["a-n"]).await;
    write(
        "b.json",
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b"},"spec":{"containers":[{"name":"x","image":"y"}]}}"#,
    );
    until(&mut state, "added", &["a-n", "b-n"]).await;
    write("c.yaml", &GOOD.replace("NAME", "a"));
    write("d.yaml", &GOOD.replace("NAME", "d"));
    until(&mut state, "a duplicate is left out", &["a-n", "b-n", "d-n"]).await;
    std::fs::remove_file(dir.path().join("b.json")).unwrap();
    until(&mut state, "removed", &["a-n", "d-n"]).await;
    write("a.yaml", "broken: [");
    until(&mut state, "broken: the other file of that name takes over", &["a-n", "d-n"]).await;
    shutdown.cancel();
    task.await.unwrap();
}
