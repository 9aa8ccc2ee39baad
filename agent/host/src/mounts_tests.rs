use super::*;

#[test]
fn mountinfo_is_parsed_with_its_escapes() {
    let text = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
        37 35 0:40 / /plain ro - tmpfs tmpfs rw\nnonsense\n";
    let mounts = parse(text);
    assert_eq!(mounts.len(), 2);
    assert_eq!(mounts[0].mount_point, Path::new("/mnt 2"));
    assert_eq!(mounts[0].propagation, "master:1 shared:2");
    assert_eq!((mounts[0].fs_type.as_str(), mounts[0].source.as_str()), ("ext3", "/dev/root"));
    assert_eq!(mounts[1].propagation, "");
    assert_eq!(mounts[1].super_options, "rw");
}

#[test]
fn a_tree_of_mounts_is_made_and_taken_down() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    in_private_namespace_or_skip("mounts", || {
        let (a, b) = (root.join("a"), root.join("b"));
        std::fs::create_dir_all(&a).unwrap();
        std::fs::create_dir_all(&b).unwrap();
        tmpfs(&a, Some(1 << 20), 0o777, true).unwrap();
        std::fs::create_dir(a.join("inner")).unwrap();
        tmpfs(&a.join("inner"), None, 0o755, false).unwrap();
        bind(&a, &b, BindOptions { recursive: true, read_only: true }).unwrap();
        assert!(is_mount_point(&b).unwrap());
        let denied = std::fs::write(b.join("x"), b"x").unwrap_err();
        assert_eq!(denied.raw_os_error(), Some(libc::EROFS));
        std::fs::write(a.join("x"), b"x").unwrap();
        assert_eq!(unmount_below(&root).unwrap(), 4);
        assert!(!is_mount_point(&a).unwrap());
        assert!(!a.join("x").exists());
        unmount(&a).unwrap();
    });
}
