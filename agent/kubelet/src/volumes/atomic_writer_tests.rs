use super::*;
use proptest::prelude::*;

fn payload(files: &[(&str, &str)]) -> Payload {
    files
        .iter()
        .map(|(path, data)| {
            ((*path).to_owned(), FileProjection { data: data.as_bytes().to_vec(), mode: 0o644, uid: None })
        })
        .collect()
}

/// What a container would read: every regular file below the top-level names.
fn visible(target: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut queue: Vec<PathBuf> = fs::read_dir(target)
        .unwrap()
        .map(|e| PathBuf::from(e.unwrap().file_name()))
        .filter(|name| !name.to_str().unwrap().starts_with(".."))
        .collect();
    while let Some(path) = queue.pop() {
        let full = target.join(&path);
        if full.is_dir() {
            queue.extend(fs::read_dir(&full).unwrap().map(|e| path.join(e.unwrap().file_name())));
        } else {
            seen.insert(path.to_str().unwrap().to_owned(), fs::read_to_string(full).unwrap());
        }
    }
    seen
}

fn check(target: &Path, want: &Payload) {
    let want: BTreeMap<_, _> =
        want.iter().map(|(p, f)| (p.clone(), String::from_utf8(f.data.clone()).unwrap())).collect();
    assert_eq!(visible(target), want);
    let versions = fs::read_dir(target).unwrap().filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir()).count();
    assert_eq!(versions, 1, "older versions are gone");
}

#[test]
fn a_volume_is_written_updated_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path();
    let first = payload(&[("a", "1"), ("sub/b", "2"), ("sub/deep/c", "3")]);
    assert!(write(target, &first, None, "t1").unwrap());
    check(target, &first);
    assert_eq!(fs::read_link(target.join("a")).unwrap(), Path::new("..data/a"));
    assert_eq!(fs::read_link(target.join("..data")).unwrap(), Path::new("..t1"));
    assert!(!write(target, &first, None, "t2").unwrap(), "nothing changed");
    let second = payload(&[("a", "changed"), ("new", "n")]);
    assert!(write(target, &second, None, "t3").unwrap());
    check(target, &second);
    assert!(write(target, &payload(&[]), None, "t4").unwrap());
    check(target, &payload(&[]));
}

#[test]
fn modes_are_kept_and_a_group_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = payload(&[("a", "1")]);
    files.get_mut("a").unwrap().mode = 0o400;
    write(dir.path(), &files, None, "t1").unwrap();
    let mode = |p: &str| fs::metadata(dir.path().join(p)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("a"), 0o400);
    if nix::unistd::geteuid().is_root() {
        let other = tempfile::tempdir().unwrap();
        write(other.path(), &files, Some(4242), "t1").unwrap();
        let meta = fs::metadata(other.path().join("a")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o440);
        assert_eq!(std::os::unix::fs::MetadataExt::gid(&meta), 4242);
    }
}

#[test]
fn what_a_crash_left_is_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path();
    let files = payload(&[("a", "1")]);
    write(target, &files, None, "t1").unwrap();
    fs::create_dir(target.join("..half")).unwrap();
    symlink("..half", target.join(NEW_DATA)).unwrap();
    fs::remove_file(target.join("a")).unwrap();
    assert!(write(target, &files, None, "t2").unwrap(), "a link was missing");
    check(target, &files);
    assert!(fs::symlink_metadata(target.join(NEW_DATA)).is_err());
}

#[test]
fn bad_paths_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for bad in ["../x", "/x", "a/../b", "..data", "..x/y", "", "a/", "a//../../b"] {
        let error = write(dir.path(), &payload(&[(bad, "1")]), None, "t1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_of_payloads_ends_as_the_last_one(
        sequence in prop::collection::vec(
            prop::collection::btree_map("[a-c](/[d-f])?", "[a-z]{0,4}", 0..5), 1..5)
    ) {
        let dir = tempfile::tempdir().unwrap();
        for (i, files) in sequence.iter().enumerate() {
            // A name can't be a file and a directory at once.
            let files: BTreeMap<_, _> = files
                .iter()
                .filter(|(path, _)| !files.keys().any(|other| other.starts_with(&format!("{path}/"))))
                .map(|(path, data)| (path.as_str(), data.as_str()))
                .collect();
            let want = payload(&files.into_iter().collect::<Vec<_>>());
            write(dir.path(), &want, None, &format!("t{i}")).unwrap();
            let seen = visible(dir.path());
            prop_assert_eq!(seen.len(), want.len());
            for (path, file) in &want {
                prop_assert_eq!(seen[path].as_bytes(), &file.data[..]);
            }
        }
    }
}
