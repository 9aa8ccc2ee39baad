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

#[test]
fn a_problem_is_remembered_until_it_is_solved() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("a.yaml"), GOOD.replace("NAME", "a")).unwrap();
    std::fs::write(path("b.yaml"), GOOD.replace("NAME", "a")).unwrap();
    std::fs::write(path("c.yaml"), "kind: [").unwrap();
    std::fs::write(path("d.yaml"), [0xff, 0xfe, 0, 7]).unwrap();
    std::os::unix::fs::symlink("/not/there", path("e.yaml")).unwrap();
    std::fs::create_dir(path("sub")).unwrap();
    let check = |known: &BTreeMap<PathBuf, Known>, name: &str, part: Option<&str>| {
        let problem = known[&path(name)].problem.as_deref();
        assert!(
            match part {
                Some(part) => problem.is_some_and(|text| text.contains(part)),
                None => problem.is_none(),
            },
            "{name}: {problem:?}"
        );
    };
    let mut known = BTreeMap::new();
    for _ in 0..2 {
        let (pods, now) = look(dir.path(), "n", known);
        assert_eq!(pods.unwrap().len(), 1);
        for (name, part) in [
            ("a.yaml", None),
            ("b.yaml", Some("already defined")),
            ("c.yaml", Some("neither YAML nor JSON")),
            ("d.yaml", Some("not UTF-8")),
            ("e.yaml", Some("link to a file that is not there")),
            ("sub", None),
        ] {
            check(&now, name, part);
        }
        known = now;
    }
    std::fs::write(path("c.yaml"), GOOD.replace("NAME", "c")).unwrap();
    std::fs::remove_file(path("a.yaml")).unwrap();
    let (pods, now) = look(dir.path(), "n", known);
    assert_eq!(pods.unwrap().len(), 2);
    check(&now, "b.yaml", None);
    check(&now, "c.yaml", None);
}
